package executor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// place names a directory and the mount that it was seen on. It changes when the
// directory is deleted and made again, and when its file system is mounted anew: in
// both cases files that were not synced may be gone, on the same boot of the machine.
// Kernels before 6.8 may give a mount the number of one that is gone.
func place(dir string) (string, error) {
	const want = unix.STATX_INO | unix.STATX_BTIME
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, 0, want|unix.STATX_MNT_ID_UNIQUE, &stat)
	if err == nil && stat.Mask&unix.STATX_MNT_ID_UNIQUE == 0 {
		err = unix.Statx(unix.AT_FDCWD, dir, 0, want|unix.STATX_MNT_ID, &stat)
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	return fmt.Sprintf("%d.%d.%d.%d", stat.Mnt_id, stat.Ino, stat.Btime.Sec, stat.Btime.Nsec), nil
}

// makePlace makes a directory and names it; "" is a directory that cannot be told
// from another one.
func makePlace(dir string) string {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	name, err := place(dir)
	if err != nil {
		return ""
	}
	return name
}

// samePlace reports whether a directory is the one that makePlace has named.
func samePlace(dir, name string) (bool, error) {
	now, err := place(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && name != "" && now == name, err
}
