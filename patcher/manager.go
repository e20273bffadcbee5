package patcher

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// ErrBusy is wrapped where another program held the package manager's lock for
// longer than Setup.LockWait; the text names the holder.
var ErrBusy = errors.New("the package manager is busy")

// ErrInterrupted is wrapped where an interrupted transaction could not be repaired.
var ErrInterrupted = errors.New("an interrupted transaction cannot be repaired")

// Setup is where and how a Manager works.
type Setup struct {
	// Root is the machine's file system, "/" but for tests.
	Root string
	// Cache is a directory of ours for metadata; a scan writes nothing else.
	Cache string
	// LockWait bounds the wait for another program's lock. 0: one try.
	LockWait time.Duration
	// Sources, when there are any, are the only repositories of the run: those of a
	// baseline. The machine's own configuration is not touched.
	Sources []types.PatchSource
	// Offline: nothing is fetched; what metadata there is, ours or the system's, is
	// used, and its age told.
	Offline bool
	// Log gets what the package manager prints, line by line.
	Log io.Writer
	Now func() time.Time
	// BootIDFile names the boot of the machine. Default: the kernel's, which a container
	// has in common with its host.
	BootIDFile string
}

// Manager is a machine's own package manager. An implementation is apt.go, dnf.go
// (yum too) or zypper.go with their parsers beside them; all pass one suite,
// managersuite_test.go. The methods are not called at the same time.
//
// Inventory and Reboot change nothing of the system, need not be root but where
// sources demand it, and work while another program holds the package manager's
// lock. All write the tool's output to Setup.Log, run it with LC_ALL=C.UTF-8 and
// without any terminal or prompt, and kill it with all its children when ctx ends,
// Install and Repair only between transactions.
type Manager interface {
	// Inventory refreshes the metadata in Setup.Cache (unless Offline) and reads it. A
	// source that fails is told in Inventory.Sources, and is no error as long as one
	// source or older data is left.
	Inventory(ctx context.Context) (*Inventory, error)
	// Repair ends interrupted transactions: dpkg --configure -a, apt-get -f install,
	// dnf/rpm duplicates. It returns what it did, a sentence each; nothing when there
	// was nothing to do.
	Repair(ctx context.Context) ([]string, error)
	// Install brings each package to exactly the version asked for, with what that
	// needs, and nothing else: no other package is upgraded but by need, none is
	// removed, none in blocked is installed or upgraded. One package's failure does
	// not void the others. Configuration files of the administrator stay. What is
	// missing from the failures is installed.
	Install(ctx context.Context, want []Package, blocked []string) ([]Failure, error)
	// Reboot tells whether the machine must be started anew.
	Reboot(ctx context.Context) (Reboot, error)
	// Compare orders two versions as the package manager does: -1, 0, 1.
	Compare(a, b string) int
}
