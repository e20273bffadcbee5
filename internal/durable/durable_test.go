package durable

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
		if err := WriteFile(path, []byte("content")); err != nil {
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

func TestMakeDir(t *testing.T) {
	dir := t.TempDir()
	if err := MakeDir(filepath.Join(dir, "a", "b", "c")); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(filepath.Join(dir, "a", "b", "c")); err != nil {
		t.Errorf("again: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "a", "b")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := WriteFile(filepath.Join(dir, "a", "d", "file"), nil); err != nil {
		t.Error(err)
	}
	if err := MakeDir(filepath.Join(dir, "a", "d", "file", "e")); err == nil {
		t.Error("a directory below a file was made")
	}
	if err := MakeDir(filepath.Join(dir, "a", "d", "file")); err == nil {
		t.Error("a directory in the place of a file was made")
	}
}
