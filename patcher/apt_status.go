package patcher

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// dpkgState is the package database: packages by debKey.
type dpkgState struct {
	packages map[string]debStatus
	// journal says that dpkg was ended before it merged what it did into its status.
	journal bool
}

// journalFile is a part of dpkg's journal, /var/lib/dpkg/updates/0001.
var journalFile = regexp.MustCompile(`^[0-9]+$`)

// readDpkg reads the status and what an interrupted dpkg has left beside it.
func (a *Apt) readDpkg(native string) (*dpkgState, error) {
	state := &dpkgState{packages: map[string]debStatus{}}
	files := []string{a.path("/var/lib/dpkg/status")}
	updates := a.path("/var/lib/dpkg/updates")
	entries, err := os.ReadDir(updates)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read dpkg's journal: %w", err)
	}
	for _, entry := range entries { // in order of their names
		if journalFile.MatchString(entry.Name()) {
			state.journal = true
			files = append(files, filepath.Join(updates, entry.Name()))
		}
	}
	for i, name := range files {
		file, err := os.Open(name)
		if i > 0 && errors.Is(err, fs.ErrNotExist) {
			continue // dpkg is at work, and has merged it
		}
		if err != nil {
			return nil, fmt.Errorf("read dpkg's status: %w", err)
		}
		err = readStatus(file, func(d debStatus) {
			key := debKey(d.Name, d.Arch, native)
			if i > 0 {
				// The journal's entries lack what did not change.
				old := state.packages[key]
				if d.Section == "" {
					d.Section = old.Section
				}
				if d.Priority == "" {
					d.Priority = old.Priority
				}
			}
			state.packages[key] = d
		})
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("read dpkg's status %s: %w", name, err)
		}
	}
	return state, nil
}

// interruptions are the packages that are not wholly installed.
func (s *dpkgState) interruptions() []Interruption {
	var found []Interruption
	if s.journal {
		found = append(found, Interruption{What: "dpkg was ended in the middle of its work: its journal in /var/lib/dpkg/updates is not empty"})
	}
	for _, d := range s.packages {
		if d.present() && d.broken() != "" {
			found = append(found, Interruption{Package: d.ID(), What: fmt.Sprintf("%s %s is %s", d.ID(), d.Version, d.broken())})
		}
	}
	slices.SortFunc(found, func(x, y Interruption) int { return strings.Compare(x.Package, y.Package) })
	return found
}

// installedAt is when dpkg last unpacked a package: it writes the list of its files
// then.
func (a *Apt) installedAt(p Package) time.Time {
	for _, name := range []string{p.Name + ".list", p.Name + ":" + p.Arch + ".list"} {
		if info, err := os.Stat(a.path("/var/lib/dpkg/info/" + name)); err == nil {
			return info.ModTime().UTC().Truncate(time.Second)
		}
	}
	return time.Time{}
}

// automatic are the packages, by debKey, that apt may remove when nothing needs
// them any more.
func (a *Apt) automatic(native string) (map[string]bool, error) {
	marks := map[string]bool{}
	file, err := os.Open(a.path("/var/lib/apt/extended_states"))
	if errors.Is(err, fs.ErrNotExist) {
		return marks, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read apt's marks: %w", err)
	}
	defer file.Close()
	err = readAutomatic(file, native, marks)
	if err != nil {
		return nil, fmt.Errorf("read apt's marks: %w", err)
	}
	return marks, nil
}

func readAutomatic(in io.Reader, native string, marks map[string]bool) error {
	return stanzas(in, func(s stanza) error {
		if s.text("Auto-Installed") == "1" {
			marks[debKey(s.text("Package"), s.text("Architecture"), native)] = true
		}
		return nil
	})
}
