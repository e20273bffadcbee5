package failpoint

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A daemon that is built without the tag holds no failpoint: neither the
// environment variable nor a point's name is in its file. With the tag they are.
func TestOnlyTaggedBuildsHaveFailpoints(t *testing.T) {
	names := []string{Env}
	for _, row := range Table() {
		names = append(names, string(row.Point))
	}
	file := filepath.Join(t.TempDir(), "meshd")
	for _, tags := range []string{"", "failpoint"} {
		build := exec.Command("go", "build", "-tags", tags, "-o", file, "fleetmesh/cmd/meshd")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if tags != "" && strings.HasPrefix(name, "journal-") {
				continue // put together at run time
			}
			if tagged := tags != ""; bytes.Contains(data, []byte(name)) != tagged {
				t.Errorf("built with tags %q, the daemon's file holds %q: %v", tags, name, !tagged)
			}
		}
	}
}

func TestTableIsSound(t *testing.T) {
	seen := map[Point]bool{}
	for _, row := range Table() {
		if seen[row.Point] || row.Point == "" || row.Where == "" || strings.ContainsAny(string(row.Point), "/. ") {
			t.Errorf("%+v", row)
		}
		seen[row.Point] = true
	}
}
