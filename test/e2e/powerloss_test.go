//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"fleetmesh/test/powerloss"
)

var (
	cuts     = flag.Int("cuts", 160, "`how many` power cuts to try in each test of them")
	cutSeed  = flag.Uint64("cut", 0, "replay the power cut with this `seed` alone")
	cutTrace = flag.String("cut-trace", "", "replay on the trace kept in this `directory`")
)

// childEnv tells this test binary to be one of childPrograms instead.
const childEnv = "POWERLOSS_CHILD"

// childPrograms do something with the files of a directory, while they are traced.
// What they must keep, they first note.
var childPrograms = map[string]func(dir string, note func(format string, args ...any)) error{
	"tiny, synced":       func(dir string, note func(string, ...any)) error { return tinyChild(dir, note, true, true) },
	"tiny, no file sync": func(dir string, note func(string, ...any)) error { return tinyChild(dir, note, false, true) },
	"tiny, no dir sync":  func(dir string, note func(string, ...any)) error { return tinyChild(dir, note, true, false) },
	"store":              storeChild,
	"journal":            journalChild,
	"gate":               gateChild,
	"files":              filesChild,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := runChild(childPrograms[name]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0) // with nothing closed
	}
	os.Exit(m.Run())
}

// runChild runs in the directory that traceChild gave to it.
func runChild(program func(string, func(string, ...any)) error) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	notes, err := os.OpenFile(filepath.Join(dir, "notes"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer notes.Close()
	return program(filepath.Join(dir, "root"), func(format string, args ...any) {
		fmt.Fprintf(notes, format, args...) // one write, which the trace has in its place
	})
}

// recording is a trace, and what was below root when it began.
type recording struct {
	root   string
	before *powerloss.Image
	events []powerloss.Event
	notes  string // the file that the program noted in
	kept   string // where it can be replayed from, if it can
	// stages are events from which on more is owed, beside what the notes say.
	stages []int
}

// traceChild runs a child program on an empty directory.
func traceChild(t *testing.T, name string) *recording {
	t.Helper()
	dir := *cutTrace
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "fmcut"); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "root"), 0o700); err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		command := powerloss.Command(filepath.Join(dir, "trace"), self)
		command.Dir = dir
		command.Env = append(os.Environ(), childEnv+"="+name)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Cleanup(func() {
			if !t.Failed() {
				os.RemoveAll(dir)
			}
		})
	}
	events, err := powerloss.ParseFile(filepath.Join(dir, "trace"))
	if err != nil {
		t.Fatal(err)
	}
	empty, err := powerloss.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &recording{
		root: filepath.Join(dir, "root"), notes: filepath.Join(dir, "notes"), kept: dir,
		before: empty.Cut(rand.New(rand.NewPCG(0, 0))), events: events,
	}
}

// cut is one moment of a recording, and a state that a power cut then left.
type cut struct {
	seed  uint64
	at    int // index of the first event that did not happen
	image *powerloss.Image
	notes []string // lines noted before
}

// moments are the events after which the power may go.
type moments struct {
	all    []int
	marked []int // notes that begin with ! and what follows them
	kinds  []string
	byKind map[string][]int // those that do the same with the same file
}

func (r *recording) moments() moments {
	m := moments{byKind: map[string][]int{}}
	follow := 0
	for i, e := range r.events {
		if !strings.HasPrefix(e.Op.Path, r.root) && e.Op.Path != r.notes {
			continue
		}
		m.all = append(m.all, i)
		if e.Op.Path == r.notes && strings.HasPrefix(string(e.Op.Data), "!") {
			follow = 10
		}
		if follow--; follow >= 0 {
			m.marked = append(m.marked, i)
		}
		kind := fmt.Sprint(e.Op.Kind, e.End, e.Op.Path)
		if m.byKind[kind] == nil {
			m.kinds = append(m.kinds, kind)
		}
		m.byKind[kind] = append(m.byKind[kind], i)
	}
	return m
}

// draw prefers what is rare, and the beginning, where most is rare. The last event
// of all comes up, too: then everything was answered.
func (m moments) draw(r *rand.Rand) int {
	switch r.IntN(10) {
	case 0:
		return m.all[len(m.all)-1]
	case 1, 2:
		return m.all[r.IntN(min(len(m.all), 150))]
	case 3, 4:
		if len(m.marked) > 0 {
			return m.marked[r.IntN(len(m.marked))]
		}
	case 5, 6:
		same := m.byKind[m.kinds[r.IntN(len(m.kinds))]]
		return same[r.IntN(len(same))]
	}
	return m.all[r.IntN(len(m.all))]
}

// try makes cuts at random moments, drops those that leave what another left and
// owe no more, and has each checked.
func (r *recording) try(t *testing.T, number int, check func(ctx context.Context, c cut, dir string) error) {
	t.Helper()
	disk := r.before.Disk(r.root)
	moments := r.moments()
	if len(moments.all) == 0 {
		t.Fatal("the trace holds no event of these files")
	}
	var all []cut
	add := func(seed uint64) {
		all = append(all, cut{seed: seed, at: 1 + moments.draw(rand.New(rand.NewPCG(seed, 0)))})
	}
	if *cutSeed != 0 {
		add(*cutSeed)
	} else {
		for range number {
			add(rand.Uint64())
		}
	}
	slices.SortFunc(all, func(a, b cut) int { return a.at - b.at })

	work := make(chan cut)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for c := range work {
				if err := r.check(t.Context(), c, check); err != nil {
					replay := fmt.Sprintf("-cut %d", c.seed)
					if r.kept != "" {
						replay += " -cut-trace " + r.kept
					}
					t.Errorf("a power cut at event %d: %v; replay: go test -tags e2e ./test/e2e -run '^%s$' %s", c.at, err, t.Name(), replay)
				}
			}
		})
	}
	played := 0
	type moment struct {
		sum           [32]byte
		notes, stages int
	}
	seen := map[moment]bool{}
	for _, c := range all {
		for ; played < c.at; played++ {
			disk.Play(r.events[played])
		}
		random := rand.New(rand.NewPCG(c.seed, 1))
		c.image, c.notes = disk.Cut(random), r.notesBefore(c.at)
		m := moment{sum: c.image.Sum(), notes: len(c.notes)}
		for _, stage := range r.stages {
			if stage < c.at {
				m.stages++
			}
		}
		if !seen[m] {
			seen[m] = true
			work <- c
		}
	}
	close(work)
	wg.Wait()
	t.Logf("%d events, %d states after %d cuts", len(moments.all), len(seen), len(all))
}

// notesBefore are the lines that were noted before event at.
func (r *recording) notesBefore(at int) (notes []string) {
	for _, e := range r.events[:at] {
		if e.Op.Path == r.notes && e.Op.Kind == powerloss.Write && !e.End {
			notes = append(notes, strings.TrimSuffix(string(e.Op.Data), "\n"))
		}
	}
	return notes
}

func (r *recording) check(ctx context.Context, c cut, check func(context.Context, cut, string) error) error {
	dir, err := os.MkdirTemp("", "fmcut")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := c.image.Write(dir); err != nil {
		return err
	}
	return check(ctx, c, dir)
}

// tinyChild replaces a file over and over, with or without what that takes.
func tinyChild(dir string, note func(string, ...any), syncFile, syncDir bool) error {
	for i := range 20 {
		file, err := os.Create(filepath.Join(dir, "new"))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(file, "value %02d", i); err != nil {
			return err
		}
		if syncFile {
			err = file.Sync()
		}
		err = errors.Join(err, file.Close(), os.Rename(file.Name(), filepath.Join(dir, "value")))
		if err == nil && syncDir {
			var parent *os.File
			if parent, err = os.Open(dir); err == nil {
				err = errors.Join(parent.Sync(), parent.Close())
			}
		}
		if err != nil {
			return err
		}
		note("%02d\n", i)
	}
	return nil
}

// TestPowerLossIsSeen: the model tells a program that syncs from one that does not.
func TestPowerLossIsSeen(t *testing.T) {
	for name, sound := range map[string]bool{"tiny, synced": true, "tiny, no file sync": false, "tiny, no dir sync": false} {
		r := traceChild(t, name)
		var mu sync.Mutex
		lost := 0
		r.try(t, *cuts, func(_ context.Context, c cut, dir string) error {
			data, err := os.ReadFile(filepath.Join(dir, "value"))
			if len(c.notes) > 0 && (err != nil || len(data) != len("value 00") || string(data) < "value "+c.notes[len(c.notes)-1]) {
				mu.Lock()
				defer mu.Unlock()
				lost++
			}
			return nil
		})
		if sound != (lost == 0) {
			t.Errorf("%s: %d values lost", name, lost)
		}
	}
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// straceOf is the wrapper of a node that is to be traced.
func straceOf(trace string) []string {
	command := powerloss.Command(trace, "")
	return slices.DeleteFunc(command.Args, func(arg string) bool { return arg == "" })
}

// tracedChildOf is the process that a strace runs.
func tracedChildOf(strace *exec.Cmd) (pid int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", strace.Process.Pid, strace.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscan(string(data), &pid)
	return pid, err
}
