package executor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// FreeBytes is how much this process may still write below dir; 0 also when no
// more files can be made.
func FreeBytes(dir string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("look how much of the disk is free: %w", err)
	}
	blocks := s.Bavail
	if os.Geteuid() == 0 {
		blocks = s.Bfree // root may use what is reserved
	}
	if s.Files > 0 && s.Ffree == 0 {
		return 0, nil
	}
	return blocks * uint64(s.Bsize), nil
}
