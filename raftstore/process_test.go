package raftstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Some promises are about processes: a SIGKILL, a disk that is full. For them the
// test binary starts itself again as a server with one store, asked over HTTP.

// childEnv holds the childConfig of a server process.
const childEnv = "RAFTSTORE_TEST_CHILD"

type childConfig struct {
	Dir, NodeID, Address string
	// MaxFileSize, when set, limits the size of files from the request /limit on:
	// writes beyond it fail, as on a full disk.
	MaxFileSize uint64
	// SmallLog makes snapshots often and keeps few entries behind them.
	SmallLog bool
}

func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		if err := serveChild(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	os.Exit(m.Run())
}

// serveChild runs until standard input closes, which it does when the test ends.
func serveChild(env string) error {
	var cfg childConfig
	if err := json.Unmarshal([]byte(env), &cfg); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	network := newNetwork()
	fatal := make(chan error, 1)
	config := Config{
		Dir: cfg.Dir, NodeID: cfg.NodeID, Address: address, Log: testLog(nil),
		Stream: &stream{Listener: listener, network: network, node: cfg.NodeID},
		Fatal:  func(err error) { fatal <- err },
	}
	if cfg.SmallLog {
		config.SnapshotThreshold, config.SnapshotInterval, config.TrailingLogs = 64, 100*time.Millisecond, 16
	}
	store, err := Open(config)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	handle := func(path string, do func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			answer, err := do(r.Context(), r)
			if err != nil {
				http.Error(w, err.Error(), statusOf(err))
				return
			}
			if err := json.NewEncoder(w).Encode(answer); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		})
	}
	handle("/bootstrap", func(context.Context, *http.Request) (any, error) { return nil, store.Bootstrap(put("first", "record")) })
	handle("/put", func(ctx context.Context, r *http.Request) (any, error) {
		value, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		return store.Apply(ctx, put(r.FormValue("key"), string(value)))
	})
	handle("/read", func(ctx context.Context, r *http.Request) (value any, err error) {
		return value, store.ConfirmedView(ctx, func(reader Reader) error {
			data, _, _ := reader.Get(r.FormValue("key"))
			value = string(data)
			return nil
		})
	})
	handle("/keys", func(context.Context, *http.Request) (any, error) {
		var keys []string
		err := store.View(func(r Reader) error {
			r.Scan("", "", func(key string, _ []byte, _ uint64) bool { keys = append(keys, key); return true })
			return nil
		})
		return keys, err
	})
	handle("/sum", func(context.Context, *http.Request) (any, error) {
		var state childSum
		sum := sha256.New()
		err := store.View(func(r Reader) error {
			state.Index = r.Index()
			r.Scan("", "", func(key string, value []byte, index uint64) bool {
				fmt.Fprintf(sum, "%q %d %x\n", key, index, value)
				return true
			})
			return nil
		})
		if err != nil {
			return nil, err
		}
		state.Sum = fmt.Sprintf("%x", sum.Sum(nil))
		first, err := store.logs.FirstIndex()
		state.LogEntries = store.LastIndex() - first + 1
		return state, err
	})
	handle("/add", func(ctx context.Context, r *http.Request) (any, error) {
		_, prev, err := store.Servers()
		if err != nil {
			return nil, err
		}
		if r.FormValue("voter") == "" {
			return nil, store.AddNonvoter(ctx, r.FormValue("id"), r.FormValue("address"), prev)
		}
		return nil, store.AddVoter(ctx, r.FormValue("id"), r.FormValue("address"), prev)
	})
	handle("/state", func(context.Context, *http.Request) (any, error) {
		_, index, err := store.Servers()
		return childState{Leader: store.IsLeader(), Term: store.Term(), Servers: index}, err
	})
	handle("/limit", func(context.Context, *http.Request) (any, error) {
		limit := syscall.Rlimit{Cur: cfg.MaxFileSize, Max: cfg.MaxFileSize}
		return nil, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)
	})
	handle("/fatal", func(ctx context.Context, _ *http.Request) (any, error) {
		select {
		case err := <-fatal:
			return err.Error(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	handle("/close", func(context.Context, *http.Request) (any, error) { return nil, store.Close() })
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	fmt.Println(address, control.Addr())
	if err := server.Serve(control); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return store.Close()
}

// childSum is what a server holds: its state in one number, and how long its log is.
type childSum struct {
	Index, LogEntries uint64
	Sum               string
}

type childState struct {
	Leader  bool
	Term    uint64
	Servers uint64
}

func statusOf(err error) int {
	if errors.Is(err, ErrNotLeader) {
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// child is a server process.
type child struct {
	t       testing.TB
	cfg     childConfig
	control string
	process *exec.Cmd
	stdin   io.Closer
}

func startChild(t testing.TB, cfg childConfig) *child {
	t.Helper()
	c := &child{t: t, cfg: cfg}
	c.start()
	t.Cleanup(func() { c.kill() })
	return c
}

func (c *child) start() {
	c.t.Helper()
	config, err := json.Marshal(c.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	c.process = exec.Command(self)
	c.process.Env = append(os.Environ(), childEnv+"="+string(config))
	c.process.Stderr = os.Stderr
	out, err := c.process.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if c.stdin, err = c.process.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.kill()
		c.t.Fatalf("start %s: %v", c.cfg.NodeID, err)
	}
	c.cfg.Address, c.control, _ = strings.Cut(strings.TrimSpace(line), " ")
}

// kill is SIGKILL.
func (c *child) kill() {
	if c.process == nil {
		return
	}
	c.process.Process.Kill()
	c.process.Wait() // its error is the signal
	c.process = nil
}

var errRefused = errors.New("refused")

func (c *child) ask(ctx context.Context, path, body string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.control+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	switch response.StatusCode {
	case http.StatusOK:
		if answer == nil {
			return nil
		}
		return json.Unmarshal(data, answer)
	case http.StatusConflict:
		return errRefused
	}
	return fmt.Errorf("%s %s: %s", c.cfg.NodeID, path, data)
}

// startChildren starts n voters as processes.
func startChildren(t testing.TB, n int, tune func(*childConfig)) []*child {
	t.Helper()
	ctx := testContext(t)
	var children []*child
	for i := range n {
		id := fmt.Sprintf("mi-%017x", i+1)
		cfg := childConfig{Dir: filepath.Join(t.TempDir(), id), NodeID: id, Address: "127.0.0.1:0"}
		if tune != nil {
			tune(&cfg)
		}
		children = append(children, startChild(t, cfg))
	}
	if err := children[0].ask(ctx, "/bootstrap", "", nil); err != nil {
		t.Fatal(err)
	}
	for i, c := range children[1:] {
		addChild(t, children[:i+1], c)
	}
	return children
}

// addChild makes a server that was started a voter.
func addChild(t testing.TB, children []*child, c *child) {
	t.Helper()
	ctx := testContext(t)
	who := "/add?id=" + c.cfg.NodeID + "&address=" + c.cfg.Address
	waitFor(t, "the leader to add a server", func() bool { return leadingChild(t, children).ask(ctx, who, "", nil) == nil })
	waitFor(t, "the new server to hear of it", func() bool {
		var state childState
		return c.ask(ctx, "/state", "", &state) == nil && state.Servers > 0
	})
	waitFor(t, "the leader to give it a vote", func() bool { return leadingChild(t, children).ask(ctx, who+"&voter=1", "", nil) == nil })
}

func leadingChild(t testing.TB, children []*child) *child {
	t.Helper()
	ctx := testContext(t)
	var leader *child
	waitFor(t, "a leader", func() bool {
		var best childState
		leader = nil
		for _, c := range children {
			var state childState
			if c.process != nil && c.ask(ctx, "/state", "", &state) == nil && state.Leader && state.Term > best.Term {
				leader, best = c, state
			}
		}
		return leader != nil
	})
	return leader
}

// The leader is killed again and again while one client writes: the next write is
// accepted soon, and none that was acknowledged is ever missing.
func TestLeaderKilledWithSIGKILL(t *testing.T) {
	t.Parallel()
	voters, kills := 3, 2
	if s := os.Getenv("RAFTSTORE_KILLS"); s != "" { // to measure: more of both
		voters, _ = strconv.Atoi(os.Getenv("RAFTSTORE_VOTERS"))
		kills, _ = strconv.Atoi(s)
	}
	children := startChildren(t, voters, nil)
	ctx := testContext(t)
	var acknowledged []string
	n := 0
	// write tries each server in turn until one accepts.
	write := func() {
		t.Helper()
		key := fmt.Sprintf("key-%06d", n)
		n++
		waitFor(t, "a write to be accepted", func() bool {
			for _, c := range children {
				if c.process != nil && c.ask(ctx, "/put?key="+key, strings.Repeat("v", 256), nil) == nil {
					acknowledged = append(acknowledged, key)
					return true
				}
			}
			return false
		})
	}
	var took []time.Duration
	for range kills {
		for range 50 {
			write()
		}
		leader := leadingChild(t, children)
		leader.kill()
		began := time.Now()
		write()
		took = append(took, time.Since(began).Round(time.Millisecond))
		for range 20 {
			write()
		}
		leader.start()
		waitFor(t, "the killed server to follow", func() bool {
			var keys []string
			return leader.ask(ctx, "/keys", "", &keys) == nil && slices.Contains(keys, acknowledged[len(acknowledged)-1])
		})
	}
	slices.Sort(took)
	t.Logf("%d voters, SIGKILL of the leader to the next accepted write: median %v, all %v", voters, took[len(took)/2], took)
	for _, c := range children {
		waitFor(t, "all acknowledged writes on "+c.cfg.NodeID, func() bool {
			var keys []string
			if err := c.ask(ctx, "/keys", "", &keys); err != nil {
				t.Fatal(err)
			}
			for _, key := range acknowledged {
				if _, found := slices.BinarySearch(keys, key); !found {
					return false
				}
			}
			return true
		})
	}
}

// standsStill reports whether all threads of a process are stopped.
func standsStill(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("list the threads of %d: %v", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			return false // it ended meanwhile: look again
		}
		if _, state, found := strings.Cut(string(stat), ") "); !found || !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// A leader is stopped, another one is elected and acknowledges a write, and the
// old one goes on with questions and answers waiting in its sockets: no confirmed
// read of it shows what was before.
func TestAStoppedLeaderNeverReadsThePast(t *testing.T) {
	t.Parallel()
	children := startChildren(t, 3, nil)
	ctx := testContext(t)
	for round := range 3 {
		now, then := fmt.Sprint("now ", round), fmt.Sprint("then ", round)
		var old *child
		waitFor(t, "a write", func() bool {
			old = leadingChild(t, children)
			return old.ask(ctx, "/put?key=k", then, nil) == nil
		})
		if err := old.process.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// A read that is answered before the signal has reached every thread may
		// show what was before, rightly: nothing else is acknowledged yet.
		waitFor(t, "the old leader to stand still", func() bool { return standsStill(t, old.process.Process.Pid) })
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				for range 20 {
					var value string
					if old.ask(ctx, "/read?key=k", "", &value) == nil && value != now {
						t.Errorf("read %q from the old leader, acknowledged was %q", value, now)
					}
				}
			})
		}
		waitFor(t, "another leader to accept a write", func() bool {
			for _, c := range children {
				if c != old && c.ask(ctx, "/put?key=k", now, nil) == nil {
					return true
				}
			}
			return false
		})
		if err := old.process.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		readers.Wait()
	}
}

// All servers are killed at once, in the middle of writes, and started again.
func TestAllKilledAtOnce(t *testing.T) {
	t.Parallel()
	children := startChildren(t, 3, nil)
	ctx := testContext(t)
	leader := leadingChild(t, children)
	var acknowledged []string
	stop := make(chan struct{})
	stopped := make(chan struct{})
	enough := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			key := fmt.Sprintf("key-%06d", i)
			if leader.ask(ctx, "/put?key="+key, "value", nil) != nil {
				return
			}
			acknowledged = append(acknowledged, key)
			if i == 200 {
				close(enough)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	select {
	case <-enough:
	case <-stopped:
		t.Fatal("the leader refused a write")
	}
	for _, c := range children {
		c.kill()
	}
	close(stop)
	<-stopped
	for _, c := range children {
		c.start()
	}
	for _, c := range children {
		waitFor(t, "all acknowledged writes on "+c.cfg.NodeID, func() bool {
			var keys []string
			if err := c.ask(ctx, "/keys", "", &keys); err != nil {
				t.Fatal(err)
			}
			for _, key := range acknowledged {
				if !slices.Contains(keys, key) {
					return false
				}
			}
			return true
		})
	}
}

// A disk that takes no more stops the node with a sentence, in the log as in the
// state, and what was acknowledged is there when there is room again.
func TestFullDiskStopsTheNode(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	for _, limit := range []uint64{1 << 20, 40 << 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			cfg := childConfig{Dir: t.TempDir(), NodeID: "mi-00000000000000001", Address: "127.0.0.1:0", MaxFileSize: limit}
			c := startChild(t, cfg)
			if err := c.ask(ctx, "/bootstrap", "", nil); err != nil {
				t.Fatal(err)
			}
			if err := c.ask(ctx, "/limit", "", nil); err != nil {
				t.Fatal(err)
			}
			var acknowledged []string
			var failure error
			for i := 0; failure == nil; i++ {
				key := fmt.Sprintf("key-%06d", i)
				if failure = c.ask(ctx, "/put?key="+key, strings.Repeat("v", 8<<10), nil); failure == nil {
					acknowledged = append(acknowledged, key)
				}
				if i > 10000 {
					t.Fatal("the disk is never full")
				}
			}
			var sentence string
			if err := c.ask(ctx, "/fatal", "", &sentence); err != nil {
				t.Fatal(err)
			}
			t.Logf("after %d writes: %v; fatal: %s", len(acknowledged), failure, sentence)
			if !strings.Contains(failure.Error(), ErrUnknownOutcome.Error()) || !strings.Contains(sentence, "is the disk full?") {
				t.Errorf("the write said %q and the node %q", failure, sentence)
			}
			if err := c.ask(ctx, "/close", "", nil); err != nil {
				t.Errorf("close: %v", err)
			}
			c.kill()

			c.cfg.MaxFileSize = 0
			c.start()
			waitFor(t, "all acknowledged writes", func() bool {
				var keys []string
				if err := c.ask(ctx, "/keys", "", &keys); err != nil {
					t.Fatal(err)
				}
				for _, key := range acknowledged {
					if !slices.Contains(keys, key) {
						return false
					}
				}
				return true
			})
			waitFor(t, "a write", func() bool { return c.ask(ctx, "/put?key=more", "room", nil) == nil })
		})
	}
}
