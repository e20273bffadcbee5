package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// TestUnfinished: whatever files an interrupted init or join has left, the
// directory tells which it was.
func TestUnfinished(t *testing.T) {
	for _, test := range []struct {
		name       string
		files      []string
		init, join bool
	}{
		{"nothing", nil, false, false},
		{"init, at its beginning", []string{"mesh.key"}, true, false},
		{"init, before its CA", []string{"mesh.key", "node.key"}, true, false},
		{"init, near its end", []string{"mesh.key", "node.key", "node.crt", "ca.crt"}, true, false},
		{"join, before the answer", []string{"node.key"}, false, true},
		{"join, near its end", []string{"node.key", "ca.crt", "node.crt"}, false, true},
	} {
		dir := directory(t.TempDir())
		if err := os.Mkdir(dir.path("identity"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range test.files {
			if err := os.WriteFile(filepath.Join(dir.path("identity"), name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		init, err := dir.unfinishedInit()
		if err != nil || init != test.init {
			t.Errorf("%s: init %v, %v", test.name, init, err)
		}
		join, err := dir.unfinishedJoin()
		if err != nil || join != test.join {
			t.Errorf("%s: join %v, %v", test.name, join, err)
		}
	}
}

func TestRemoveStore(t *testing.T) {
	dir := directory(t.TempDir())
	if err := dir.removeStore(); err != nil {
		t.Errorf("no store: %v", err)
	}
	// A leftover of a removal that was interrupted.
	for _, path := range []string{dir.store(), dir.goneStore()} {
		if err := os.MkdirAll(filepath.Join(path, "snapshots"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := dir.removeStore(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(string(dir)); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
