package executor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPlaceIsThatOfOneDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "jobs", "job")
	if same, err := samePlace(dir, "1.2.3.4"); same || err != nil {
		t.Errorf("a directory that is not there: %v, %v", same, err)
	}
	name := makePlace(dir)
	if name == "" || makePlace(dir) != name {
		t.Fatalf("the directory has no place: %q", name)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if same, err := samePlace(dir, name); !same || err != nil {
		t.Errorf("the same directory: %v, %v", same, err)
	}
	if same, err := samePlace(dir, ""); same || err != nil {
		t.Errorf("a start without a place: %v, %v", same, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if again := makePlace(dir); again == "" || again == name {
		t.Errorf("deleted and made again: %q, before %q", again, name)
	}
	if same, err := samePlace(dir, name); same || err != nil {
		t.Errorf("deleted and made again: %v, %v", same, err)
	}
}
