package raftstore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// churnWriters write churnKeys keys each, again and again.
const (
	churnWriters = 4
	churnKeys    = 48
	churnValue   = 16 << 10
)

// churn is a flood of writes, and what of it was acknowledged.
type churn struct {
	t        *testing.T
	children func() []*child

	mu           sync.Mutex
	acknowledged map[string]int // by key, the highest number
	writes       int
}

// writer puts growing numbers through whichever server accepts them, until stop.
func (c *churn) writer(w int, stop <-chan struct{}) {
	ctx := testContext(c.t)
	padding := strings.Repeat("v", churnValue)
	for n := 1; ; n++ {
		key := fmt.Sprintf("churn-%d-%02d", w, n%churnKeys)
		for accepted := false; !accepted; {
			for _, server := range c.children() {
				if accepted = server.ask(ctx, "/put?key="+key, strconv.Itoa(n)+" "+padding, nil) == nil; accepted {
					break
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
		c.mu.Lock()
		c.acknowledged[key] = n
		c.writes++
		c.mu.Unlock()
	}
}

func (c *churn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// more waits for so many further writes.
func (c *churn) more(writes int) {
	c.t.Helper()
	until := c.count() + writes
	waitFor(c.t, "more writes", func() bool { return c.count() >= until })
}

// installing reports whether a snapshot of what comes after index, so not one of
// its own, lies half received or half restored in a server's directory.
func installing(c *child, index uint64) bool {
	tmp, _ := filepath.Glob(filepath.Join(c.cfg.Dir, "snapshots", "*.tmp")) // term-index-time.tmp
	received := slices.ContainsFunc(tmp, func(path string) bool {
		parts := strings.Split(filepath.Base(path), "-")
		n, err := strconv.ParseUint(parts[min(1, len(parts)-1)], 10, 64)
		return err == nil && n > index
	})
	_, err := os.Stat(filepath.Join(c.cfg.Dir, "state.db.restore"))
	return received || err == nil
}

// Writers never pause while snapshots are made all the time, a follower that is
// far behind is killed in the middle of receiving one, the leader is killed in the
// middle of sending one, and a new voter comes in. Nothing acknowledged is lost,
// all servers end up the same, and nothing grows without bound.
func TestSnapshotsAndInstallsUnderWrites(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	small := func(cfg *childConfig) { cfg.SmallLog = true }
	all := startChildren(t, 3, small)
	var mu sync.Mutex // writers look at servers that come and go
	children := func() (running []*child) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			if c.process != nil {
				running = append(running, &child{t: t, cfg: c.cfg, control: c.control})
			}
		}
		return running
	}
	kill := func(c *child) { mu.Lock(); defer mu.Unlock(); c.kill() }
	start := func(c *child) { mu.Lock(); defer mu.Unlock(); c.start() }
	flood := &churn{t: t, children: children, acknowledged: map[string]int{}}
	stop := make(chan struct{})
	var writing sync.WaitGroup
	for w := range churnWriters {
		writing.Go(func() { flood.writer(w, stop) })
	}
	flood.more(churnWriters * churnKeys)

	follower := func() *child {
		leader := leadingChild(t, all)
		return all[slices.IndexFunc(all, func(c *child) bool { return c != leader })]
	}
	// behind kills a follower, waits until the log does not reach back to it, and
	// starts it again. It returns how far it was.
	behind := func(c *child) uint64 {
		t.Helper()
		kill(c)
		var at childSum
		waitFor(t, "the leader's state", func() bool { return leadingChild(t, all).ask(ctx, "/sum", "", &at) == nil })
		flood.more(150)
		start(c)
		return at.Index
	}
	follows := func(c *child) {
		t.Helper()
		var now, then childSum
		waitFor(t, "the leader's state", func() bool { return leadingChild(t, all).ask(ctx, "/sum", "", &then) == nil })
		waitFor(t, "the follower to catch up", func() bool {
			return c.ask(ctx, "/sum", "", &now) == nil && now.Index >= then.Index
		})
	}
	// caught tries until the kill has hit the middle of an install.
	caught := func(what string, attempt func() bool) {
		t.Helper()
		for n := 1; !attempt(); n++ {
			if n == 10 {
				t.Fatalf("%s was never hit in %d attempts", what, n)
			}
		}
	}
	caught("a follower's install", func() bool {
		c := follower()
		at := behind(c)
		waitFor(t, "an install", func() bool { return installing(c, at) })
		kill(c)
		hit := installing(c, at)
		start(c)
		follows(c)
		return hit
	})
	caught("a leader's sending", func() bool {
		c, leader := follower(), leadingChild(t, all)
		at := behind(c)
		waitFor(t, "an install", func() bool { return installing(c, at) })
		kill(leader)
		hit := installing(c, at)
		flood.more(100)
		start(leader)
		follows(c)
		follows(leader)
		return hit
	})
	fresh := startChild(t, childConfig{Dir: filepath.Join(t.TempDir(), "fresh"), NodeID: "mi-0000000000000000f", Address: "127.0.0.1:0", SmallLog: true})
	addChild(t, all, fresh)
	mu.Lock()
	all = append(all, fresh)
	mu.Unlock()
	follows(fresh)
	files := map[string]int{}
	for _, c := range all {
		files[c.cfg.NodeID] = openFiles(t, c)
	}
	flood.more(400)
	close(stop)
	writing.Wait()

	var reference childSum
	waitFor(t, "all servers to be the same", func() bool {
		var sums []string
		for _, c := range all {
			if err := c.ask(ctx, "/sum", "", &reference); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, reference.Sum)
		}
		return len(slices.Compact(sums)) == 1
	})
	for key, acknowledged := range flood.acknowledged {
		var value string
		waitFor(t, "a read", func() bool { return leadingChild(t, all).ask(ctx, "/read?key="+key, "", &value) == nil })
		number, _, _ := strings.Cut(value, " ")
		// One more may have happened without being acknowledged.
		if n, err := strconv.Atoi(number); err != nil || n < acknowledged {
			t.Errorf("%s is %.10q, acknowledged was %d", key, value, acknowledged)
		}
	}
	for _, c := range all {
		var sum childSum
		// A snapshot is made every 100 to 200 ms when 64 entries are new; how many
		// are new by then is the machine's matter.
		waitFor(t, "the log to be cut", func() bool { return c.ask(ctx, "/sum", "", &sum) == nil && sum.LogEntries <= 64+16+16 })
		snapshots, err := os.ReadDir(filepath.Join(c.cfg.Dir, "snapshots"))
		if err != nil || len(snapshots) > retainedSnapshots {
			t.Errorf("%d snapshots are kept, %v", len(snapshots), err)
		}
		live := int64(churnWriters * churnKeys * churnValue)
		size := directorySize(t, c.cfg.Dir)
		if size > 24*live {
			t.Errorf("%d MiB on disk for %d MiB of records", size>>20, live>>20)
		}
		now := openFiles(t, c)
		// A few for HTTP connections of this test.
		if now > files[c.cfg.NodeID]+20 {
			t.Errorf("%d open files, %d before", now, files[c.cfg.NodeID])
		}
		memory := anonymousMemory(t, c)
		if memory > 256<<10 {
			t.Errorf("%d MiB of memory", memory>>10)
		}
		t.Logf("%s: %d log entries, %d MiB on disk for %d MiB of records, %d open files (%d before), %d MiB of memory",
			c.cfg.NodeID, sum.LogEntries, size>>20, live>>20, now, files[c.cfg.NodeID], memory>>10)
	}
	t.Logf("%d writes acknowledged", flood.count())
}

func directorySize(t *testing.T, dir string) (size int64) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil // a file may go meanwhile
	}); err != nil {
		t.Fatal(err)
	}
	return size
}

func openFiles(t *testing.T, c *child) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// anonymousMemory is what a process holds beside mapped files, in KiB.
func anonymousMemory(t *testing.T, c *child) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "RssAnon:" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no memory in its status")
	return 0
}
