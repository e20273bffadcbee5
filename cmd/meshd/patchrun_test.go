package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fleetmesh/patcher"
)

func TestPatchRunRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	scan := write("scan.json", `{"Operation":"Scan"}`)
	write("root/etc/os-release", "NAME=Alpine\n")
	common := []string{"--state", filepath.Join(dir, "state"), "--cache", filepath.Join(dir, "cache"), "--root", filepath.Join(dir, "root")}
	held, err := lockState(filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held()
	for _, c := range []struct {
		arguments []string
		usage     bool
		says      string
	}{
		{[]string{}, true, "--order is required"},
		{[]string{"--order", filepath.Join(dir, "none")}, true, "no such file"},
		{[]string{"--order", write("broken.json", "{")}, true, "read the order"},
		{[]string{"--order", write("update.json", `{"Operation":"Update"}`)}, true, "Scan or Install"},
		{[]string{"--order", scan, "--state", filepath.Join(dir, "held")}, false, "another patch run is under way"},
		{[]string{"--order", scan}, false, patcher.ErrNoManager.Error()},
	} {
		_, err := meshd(t, append(append([]string{"patch-run"}, common...), c.arguments...)...)
		var usage usageError
		if err == nil || errors.As(err, &usage) != c.usage || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v, want %q", c.arguments, err, c.says)
		}
	}
	// Packages' scripts make files that others may read.
	if old := syscall.Umask(0o022); old != 0o022 {
		t.Errorf("the umask of packages' scripts is %#o", old)
	}
}
