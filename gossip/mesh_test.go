package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Each test node has an address of its own in 127.0.0.0/8, so that restarts find
// their port free and test processes do not meet.
var nextHost atomic.Uint32

func newHost() string {
	n := nextHost.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 20+os.Getpid()%200, n/250, 1+n%250)
}

const testPort = 17946

// quick is a profile about ten times as fast as the default.
func quick() Timings {
	return Timings{
		GossipInterval:   20 * time.Millisecond,
		ProbeInterval:    200 * time.Millisecond,
		ProbeTimeout:     100 * time.Millisecond,
		PushPullInterval: 500 * time.Millisecond,
		GossipToTheDead:  500 * time.Millisecond,
		DeadReclaim:      100 * time.Millisecond,
		ReconnectMin:     50 * time.Millisecond,
		ReconnectMax:     500 * time.Millisecond,
		ConflictDelay:    200 * time.Millisecond,
	}
}

// patience is how long a condition is waited for: far longer than it takes, for
// machines that are busy.
const patience = 30 * time.Second

func key(b byte) []byte { return bytes.Repeat([]byte{b}, keySize) }

// records collects log lines for tests that look for them.
type records struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *records) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// config is that of a node with the id, on a host of its own.
func config(t *testing.T, id string, change ...func(*Config)) Config {
	t.Helper()
	c := Config{
		NodeID:  id,
		MeshID:  "mesh-test",
		Bind:    newHost(),
		Port:    testPort,
		Version: "1.2.3",
		Keys:    [][]byte{key(1)},
		Dir:     t.TempDir(),
		Timings: quick(),
	}
	c.APIAddress = c.Bind + ":7947"
	for _, f := range change {
		f(&c)
	}
	return c
}

func (c Config) address() string { return fmt.Sprintf("%s:%d", c.Bind, c.Port) }

func open(t *testing.T, c Config) *Gossip {
	t.Helper()
	g, err := Open(c)
	if err != nil {
		t.Fatalf("open %s: %v", c.NodeID, err)
	}
	t.Cleanup(g.Kill)
	return g
}

func seeds(addresses ...string) func(*Config) {
	return func(c *Config) { c.Seeds = addresses }
}

// mesh opens n nodes that know of the first.
func mesh(t *testing.T, n int, change ...func(*Config)) []*Gossip {
	t.Helper()
	var nodes []*Gossip
	for i := range n {
		c := config(t, fmt.Sprintf("n%d", i+1), change...)
		if i > 0 {
			c.Seeds = []string{nodes[0].Address()}
		}
		nodes = append(nodes, open(t, c))
	}
	formed(t, nodes...)
	return nodes
}

// eventually waits for the condition, and says what there is when it does not come.
func eventually(t *testing.T, what string, there func() any, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not in %s: %s; there is %+v", patience, what, there())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// formed waits until each of the nodes has exactly the others alive.
func formed(t *testing.T, nodes ...*Gossip) {
	t.Helper()
	for _, g := range nodes {
		eventually(t, g.config.NodeID+" sees all", func() any { return g.Members() }, func() bool {
			alive := 0
			for _, m := range g.Members() {
				if m.Alive {
					alive++
				}
			}
			for _, other := range nodes {
				if !g.Alive(other.config.NodeID) {
					return false
				}
			}
			return alive == len(nodes)
		})
	}
}

func memberOf(g *Gossip, id string) (Member, bool) {
	for _, m := range g.Members() {
		if m.NodeID == id {
			return m, true
		}
	}
	return Member{}, false
}

// sees waits until g's entry for id is as wanted.
func sees(t *testing.T, g *Gossip, id, what string, wanted func(Member) bool) {
	t.Helper()
	eventually(t, g.config.NodeID+" sees "+id+" "+what, func() any { return g.Members() }, func() bool {
		m, ok := memberOf(g, id)
		return ok && wanted(m)
	})
}

func hasTag(key, value string) func(Member) bool {
	return func(m Member) bool { return m.Tags[key] == value }
}

// network cuts links between hosts, by host address.
type network struct {
	mu    sync.Mutex
	sides map[string]int
}

func (n *network) split(sides ...[]*Gossip) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = make(map[string]int)
	for side, nodes := range sides {
		for _, g := range nodes {
			n.sides[g.Address()] = side
		}
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sides = nil
}

// of is the Config.Cut of the node at the address.
func (n *network) of(self string) func(string) bool {
	return func(other string) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		a, known := n.sides[self]
		b, otherKnown := n.sides[other]
		return known && otherKnown && a != b
	}
}

// noLeak waits until no goroutine of this package or of memberlist is left.
func noLeak(t *testing.T) {
	t.Helper()
	var left string
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		left = ""
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(stack, "noLeak") {
				continue
			}
			if strings.Contains(stack, "hashicorp/memberlist") || strings.Contains(stack, "fleetmesh/gossip.(*") {
				left += stack + "\n\n"
			}
		}
		if left == "" {
			return
		}
		if !sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("goroutines left:\n%s", left)
		}
	}
}
