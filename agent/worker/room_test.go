package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

func TestOutdated(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	job := func(id string, age time.Duration, bytes int64) jobFiles {
		return jobFiles{id: id, bytes: bytes, endedAt: now.Add(-age)}
	}
	runs := jobFiles{id: "runs", bytes: 100, pinned: true}
	unreported := jobFiles{id: "unreported", bytes: 100, endedAt: now.Add(-99 * day), pinned: true}
	jobs := []jobFiles{job("new", time.Hour, 100), job("older", 3*day, 100), runs, job("old", 2*day, 100), unreported, job("ancient", 31*day, 1)}
	for _, c := range []struct {
		name  string
		rules roomRules
		want  []string
	}{
		{"by age alone", roomRules{space: 1000}, []string{"ancient"}},
		{"at the age itself", roomRules{space: 1000, retention: 3 * day}, []string{"ancient", "older"}},
		{"what just fits stays", roomRules{space: 501}, []string{"ancient"}},
		{"the oldest, as many as needed", roomRules{space: 400}, []string{"ancient", "older"}},
		{"what running steps may write counts", roomRules{space: 500, reserved: 100}, []string{"ancient", "older"}},
		{"never what runs or is not reported", roomRules{space: 1}, []string{"ancient", "older", "old", "new"}},
		{"the disk's need", roomRules{space: 1000, lack: 150}, []string{"ancient", "older", "old"}},
		{"the greater need", roomRules{space: 300, lack: 10}, []string{"ancient", "older", "old"}},
	} {
		if c.rules.retention == 0 {
			c.rules.retention = 30 * day
		}
		if got := outdated(jobs, now, c.rules); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestStepLimit(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name               string
		space, pinned, own int64
		others             []int64
		slots              int
		want               int64
	}{
		{"alone, an equal share", 200 * mib, 0, 0, nil, 5, 10 * mib},
		{"the last has as much as the first", 200 * mib, 0, 0, []int64{20 * mib, 20 * mib, 20 * mib, 20 * mib}, 5, 10 * mib},
		{"what others do not need is left", 200 * mib, 0, 0, []int64{mib, mib}, 3, 49 * mib},
		{"earlier steps count", 200 * mib, 0, 20 * mib, nil, 1, 40 * mib},
		{"ended ones that must stay may take half", 200 * mib, 100 * mib, 0, nil, 5, 10 * mib},
		{"and what they take beyond is missing", 200 * mib, 150 * mib, 0, nil, 5, 5 * mib},
		{"never less than the API shows", 200 * mib, 300 * mib, 0, nil, 5, executor.AlwaysKept},
		{"more jobs than places, after a restart", 200 * mib, 0, 0, []int64{mib, mib}, 1, 49 * mib},
	} {
		if got := stepLimit(c.space, c.pinned, c.own, c.others, c.slots); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// However many jobs of however many steps run at once, and in whatever order they
// begin, what they may write stays within half of the space.
func TestReservationsStayWithinTheSpace(t *testing.T) {
	u := newUsage(Config{Dir: t.TempDir(), Executor: Executor{OutputSpace: 100 << 20, OutputLimit: 64 << 20, MaxRunning: 4}})
	for round := range 20 {
		id := fmt.Sprint(round % 4)
		if limit := u.begin(id); limit != 100<<20/2/4/2 {
			t.Errorf("round %d: a limit of %d", round, limit)
		}
		u.mu.Lock()
		reserved := u.reservations()
		u.mu.Unlock()
		if reserved > 50<<20 {
			t.Fatalf("round %d: %d bytes are reserved", round, reserved)
		}
		if round%4 == 3 {
			u.end(id)
		}
	}
}

func TestOldOutputsMakeRoom(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	config := testConfig(dir, m)
	config.OutputSpace, config.MaxRunning = 16<<20, 2
	w := open(t, config)
	there := func(id string) bool {
		_, err := os.Stat(filepath.Join(jobsDir(dir), id))
		return err == nil
	}
	accept(t, w, newJob("runs", shell("a", "echo runs", until(dir+"/go"))))
	eventually(t, "it runs", func() bool { return there("runs") })
	const jobs = 16
	for i := range jobs {
		id := fmt.Sprint("job", i)
		accept(t, w, newJob(id, shell("a", "head -c 1500000 /dev/zero")))
		if end := m.end(t, id); end.Status != "Success" || end.Reason != "" {
			t.Fatalf("%+v", end)
		}
		eventually(t, "it is acknowledged", func() bool { return !w.journal.Entry(id).Unreported() })
	}
	// Half of the space is kept for what they leave, whatever runs.
	last := fmt.Sprint("job", jobs-1)
	eventually(t, "the oldest are gone", func() bool { return !there("job0") && diskUse(jobsDir(dir)) <= 16<<20 })
	if out := output(t, w, peer.OutputRequest{CommandID: last}); out.Size != 1500000 {
		t.Errorf("of the last job, %d bytes are kept", out.Size)
	}
	if !there("runs") || !there(fmt.Sprint("job", jobs-4)) {
		t.Error("more than the oldest is gone")
	}
	_, err := w.Output(t.Context(), &peer.OutputRequest{CommandID: "job0"})
	var refusal *peer.Refusal
	if !errors.As(err, &refusal) || w.journal.Entry("job0") == nil {
		t.Errorf("%v; an id must be known until its command has expired", err)
	}
	os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
	m.end(t, "runs")
}

// Scripts that print without end share the room, and go on.
func TestRunawayScriptsShareTheRoom(t *testing.T) {
	dir := t.TempDir()
	m := newMesh()
	config := testConfig(dir, m)
	config.OutputSpace, config.MaxRunning = 8<<20, 4
	w := open(t, config)
	for i := range 4 {
		accept(t, w, newJob(fmt.Sprint("job", i), shell("a", "head -c 20000000 /dev/zero", "head -c 20000000 /dev/zero >&2", "exit 3")))
	}
	for i := range 4 {
		end := m.end(t, fmt.Sprint("job", i))
		if end.Plugins[0].ResponseCode != 3 || end.Reason == "" {
			t.Errorf("job %d: %+v", i, end)
		}
		if out := output(t, w, peer.OutputRequest{CommandID: end.CommandID}); out.Size < 500_000 || out.Size > 8<<20/2/4/2+200 {
			t.Errorf("job %d: %d bytes are kept of its output", i, out.Size)
		}
	}
}
