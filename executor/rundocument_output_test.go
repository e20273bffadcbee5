package executor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The joined output of a document's steps keeps the limit of any output, and says
// where it ends.
func TestJoinedOutputKeepsTheLimit(t *testing.T) {
	x := &Execution{JobID: "job", Dir: t.TempDir(), Processes: &Processes{config: ProcessConfig{OutputLimit: 100_000}}}
	entry := &Entry{}
	for i, text := range []string{strings.Repeat("a", 60_000), strings.Repeat("b", 60_000) + "\n", "c\n"} {
		entry.Steps = append(entry.Steps, StepResult{Name: "s"})
		dir := StepDir(x.Dir, x.JobID, i, "s")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "stdout"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry.Steps[2].Stderr = "why\n" // it has no file
	for range 2 {                   // again after a crash in the middle
		cut, err := joinOutputs(x, entry)
		if err != nil || !strings.HasPrefix(cut, "stdout: only the first 100000 bytes") {
			t.Fatalf("cut %q, %v", cut, err)
		}
		data, err := os.ReadFile(filepath.Join(x.Dir, "stdout"))
		want := strings.Repeat("a", 60_000) + "\n" + strings.Repeat("b", 39_999) + "\n--- output truncated: only the first 100000 bytes are kept ---\n"
		if err != nil || string(data) != want {
			t.Fatalf("%d bytes (%v), want %d", len(data), err, len(want))
		}
		if data, err = os.ReadFile(filepath.Join(x.Dir, "stderr")); err != nil || string(data) != "why\n" {
			t.Fatalf("stderr %q, %v", data, err)
		}
	}
}
