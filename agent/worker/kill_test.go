package worker

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/peer"
)

// Workers are killed at random moments of their jobs' lives, again and again.
// What was answered is known; no script runs twice; every job ends, and as what
// it was.
func TestKilledAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	mark := func(id string) string { return filepath.Join(dir, "mark-"+id) }
	answered := map[string]bool{}
	var all []string
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "worker", dir)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var jobs []peer.Job
		for i := range 7 { // five begin at once, two wait
			id := fmt.Sprintf("job-%d-%d", round, i)
			all = append(all, id)
			jobs = append(jobs, newJob(id, shell("a", "echo x >> "+mark(id)), shell("b", "echo y >> "+mark(id), "exit 4")))
		}
		data, _ := json.Marshal(jobs)
		fmt.Fprintln(stdin, string(data))
		kill := time.AfterFunc(time.Duration(random.IntN(60))*time.Millisecond, func() { cmd.Process.Kill() })
		var answers []peer.JobAnswer
		if lines := bufio.NewScanner(stdout); lines.Scan() && json.Unmarshal(lines.Bytes(), &answers) == nil {
			for _, a := range answers {
				answered[a.CommandID] = true
			}
		}
		cmd.Wait()
		kill.Stop()
	}
	w := open(t, testConfig(dir, newMesh()))
	outcomes := map[string]int{}
	for _, id := range all {
		entry := w.journal.Entry(id)
		if entry == nil {
			if answered[id] || ran(mark(id)) > 0 {
				t.Errorf("seed %d: %s is not known, though answered (%v) or run (%d)", seed, id, answered[id], ran(mark(id)))
			}
			continue
		}
		eventually(t, id+" has ended", func() bool { return w.journal.Entry(id).Finished() })
		entry = w.journal.Entry(id)
		data, _ := os.ReadFile(mark(id))
		steps := string(data)
		switch {
		case steps != "" && steps != "x\n" && steps != "x\ny\n":
			t.Errorf("seed %d: %s ran %q", seed, id, steps)
		case strings.HasPrefix(entry.Reason, "interrupted: "):
			if entry.Status != "Failed" || len(entry.Steps) != 2 {
				t.Errorf("seed %d: %+v", seed, entry)
			}
			outcomes["interrupted"]++
		case steps != "x\ny\n" || entry.Status != "Failed" || entry.Steps[1].ResponseCode != 4:
			t.Errorf("seed %d: %s ran %q and is %+v", seed, id, steps, entry)
		default:
			outcomes["ran"]++
		}
	}
	t.Logf("%d jobs, %d answered: %v", len(all), len(answered), outcomes)
}
