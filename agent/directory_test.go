package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWriteFileFollowsNobody: a file or link that somebody has laid where the new
// content goes first gets none of it.
func TestWriteFileFollowsNobody(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "secret"), filepath.Join(dir, "elsewhere")
	for name, lay := range map[string]func() error{
		"nothing": func() error { return nil },
		"a link":  func() error { return os.Symlink(elsewhere, path+".new") },
		"a file":  func() error { return os.WriteFile(path+".new", []byte("old"), 0o666) },
	} {
		if err := lay(); err != nil {
			t.Fatal(err)
		}
		trap, err := os.Open(path + ".new")
		if err == nil {
			defer trap.Close()
		}
		if err := writeFile(path, []byte("content")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "content" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if trap != nil {
			got := make([]byte, 16)
			if n, _ := trap.Read(got); string(got[:n]) != "old" {
				t.Errorf("%s: it was given %q", name, got[:n])
			}
		}
	}
	if _, err := os.Stat(elsewhere); err == nil {
		t.Error("the link was followed")
	}
}
