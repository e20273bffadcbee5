package patcher

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fleetmesh/internal/durable"
)

// stateFile keeps between runs, and over reboots, what runs have done.
const stateFile = "state.json"

// stateVersion is that of the file's format; it is never used for another one.
const stateVersion = 1

// runState is what the machine's earlier runs have done. It is written before a
// package is changed, so that what a run installed before it was killed is known.
type runState struct {
	Version int
	// BootID names the boot on which Installed were installed.
	BootID string
	// Installed are the titles of patches that were installed on that boot, and when.
	Installed map[string]time.Time `json:",omitempty"`
	// Open: an installation was begun on that boot and has not come to its end.
	Open bool `json:",omitempty"`
	// Unfinished are the titles of an installation that was open when the machine
	// went down. What a repair brings of them is installed on the boot of the repair.
	Unfinished []string `json:",omitempty"`
	// NoRebootInstallAt is when patches were last installed by NoReboot.
	NoRebootInstallAt time.Time `json:",omitzero"`
	// Resume is the order that a reboot interrupts.
	Resume *resumption `json:",omitempty"`
}

// resumption is what an order had done when it asked for a reboot.
type resumption struct {
	Order     string // orderKey
	BootID    string // before the reboot
	StartedAt time.Time
	Failed    map[string]string `json:",omitempty"` // reasons by title
	Repaired  []string          `json:",omitempty"`
	Notes     []string          `json:",omitempty"`
}

// orderKey tells one order from another.
func orderKey(o *Order) (string, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("write the order: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// loadState reads what earlier runs have left; nothing is no error.
func loadState(dir string) (*runState, error) {
	state := &runState{Version: stateVersion}
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of patch runs: %w", err)
	}
	if err := json.Unmarshal(text, state); err != nil {
		return nil, fmt.Errorf("read the state of patch runs %s: %w", filepath.Join(dir, stateFile), err)
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("the state of patch runs %s has the version %d, which a newer meshd wrote", filepath.Join(dir, stateFile), state.Version)
	}
	return state, nil
}

func (s *runState) save(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the state of patch runs: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, stateFile), append(text, '\n'))
}

// saveChanged writes it only where the file is another: a scan mostly changes nothing,
// and syncing the disk is a good part of its time. Before an installation save is right,
// whatever the file is: what an earlier run wrote may not have reached the disk.
func (s *runState) saveChanged(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the state of patch runs: %w", err)
	}
	if old, err := os.ReadFile(filepath.Join(dir, stateFile)); err == nil && string(old) == string(text)+"\n" {
		return nil
	}
	return s.save(dir)
}

// onBoot forgets what a reboot has put in force.
func (s *runState) onBoot(bootID string) {
	if s.BootID == bootID {
		return
	}
	if s.Open {
		s.Unfinished = sortedKeys(s.Installed)
	}
	s.BootID, s.Installed, s.Open = bootID, nil, false
}

// repaired notes that what was left unfinished has been repaired, if something was:
// it waits for a reboot as if it had been installed now.
func (s *runState) repaired(did bool, now time.Time) {
	if did && s.Installed == nil {
		s.Installed = map[string]time.Time{}
	}
	for _, title := range s.Unfinished {
		if _, known := s.Installed[title]; did && !known {
			s.Installed[title] = now
		}
	}
	s.Unfinished = nil
}

// intend notes packages that are about to be installed.
func (s *runState) intend(packages []Package, now time.Time) {
	s.Open = true
	if s.Installed == nil {
		s.Installed = map[string]time.Time{}
	}
	for _, p := range packages {
		if _, known := s.Installed[p.Title()]; !known {
			s.Installed[p.Title()] = now
		}
	}
}

// settle forgets what an installation that has ended did not bring.
func (s *runState) settle(packages []Package, inventory *Inventory) {
	there := s.pending(inventory)
	s.Open = false
	for _, p := range packages {
		if !there[p.Title()] {
			delete(s.Installed, p.Title())
		}
	}
}

// pending are the titles that wait for a reboot: of what was to be installed that
// which is. A scan must not forget the others: the transaction of a run that was
// killed may still go on.
func (s *runState) pending(inventory *Inventory) map[string]bool {
	titles := map[string]bool{}
	for _, i := range inventory.Installed {
		if _, ours := s.Installed[i.Title()]; ours && i.Broken == "" {
			titles[i.Title()] = true
		}
	}
	return titles
}

// bootID names the boot of the machine; file is "" for the kernel's own.
func bootID(root, file string) (string, error) {
	if file == "" {
		file = filepath.Join(root, "/proc/sys/kernel/random/boot_id")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("find the boot of the machine: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
