package gossip

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestNodesFindEachOther(t *testing.T) {
	nodes := mesh(t, 3)
	want, _ := memberOf(nodes[2], "n3")
	if want.Address != nodes[2].config.APIAddress || want.GossipAddress != nodes[2].Address() || want.Version != "1.2.3" {
		t.Errorf("itself: %+v", want)
	}
	got, _ := memberOf(nodes[1], "n3")
	want.LastSeen, got.LastSeen = time.Time{}, time.Time{}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("n2 sees n3 as %+v, itself as %+v", got, want)
	}

	changed, end := nodes[0].Subscribe()
	defer end()
	nodes[2].SetVoter(true)
	select {
	case <-changed:
	case <-time.After(patience):
		t.Fatal("no signal that something changed")
	}
	for _, g := range nodes {
		sees(t, g, "n3", "as voter", func(m Member) bool { return m.Voter })
	}
}

func TestTwentyNodesFormQuickly(t *testing.T) {
	// With the timings of the product.
	begin := time.Now()
	mesh(t, 20, func(c *Config) { c.Timings = Timings{} })
	t.Logf("20 nodes in %s", time.Since(begin))
}

func TestTagsReachEveryNode(t *testing.T) {
	nodes := mesh(t, 3, func(c *Config) { c.Timings.PushPullInterval = time.Hour })
	nodes[0].SetTags("n2", 5, map[string]string{"role": "web"})
	for _, g := range nodes {
		sees(t, g, "n2", "tagged", hasTag("role", "web"))
	}
	// The node itself announces what it has learnt.
	eventually(t, "n2 announces its tags", func() any { return nodes[2].Members() }, func() bool {
		nodes[2].mu.Lock()
		defer nodes[2].mu.Unlock()
		return nodes[2].members["n2"].meta.Tags == nodes[2].tags["n2"].mark
	})

	// A node that comes later learns at its first exchange.
	late := open(t, config(t, "n4", seeds(nodes[2].Address())))
	sees(t, late, "n2", "tagged", hasTag("role", "web"))

	// The higher version wins, from whatever node.
	nodes[1].SetTags("n2", 7, map[string]string{"role": "db"})
	nodes[0].SetTags("n2", 6, map[string]string{"role": "old"})
	for _, g := range append(nodes, late) {
		sees(t, g, "n2", "tagged anew", hasTag("role", "db"))
	}
	nodes[2].SetTags("n2", 8, nil)
	for _, g := range append(nodes, late) {
		sees(t, g, "n2", "without tags", func(m Member) bool { return len(m.Tags) == 0 })
	}
}

func TestTagsGivenBeforeTheNodeCame(t *testing.T) {
	first := open(t, config(t, "n1"))
	first.SetTags("n3", 9, map[string]string{"role": "web"})
	if _, ok := memberOf(first, "n3"); ok {
		t.Error("a node that never came is a member")
	}
	second := open(t, config(t, "n2", seeds(first.Address())))
	third := open(t, config(t, "n3", seeds(second.Address())))
	for _, g := range []*Gossip{first, second, third} {
		sees(t, g, "n3", "tagged", hasTag("role", "web"))
	}
}

// Tags that fill their 4 KiB do not fit into a packet. They must not wait for the
// push/pull of half a minute either.
func TestTagsOfFourKilobytes(t *testing.T) {
	nodes := mesh(t, 4, func(c *Config) { c.Timings.PushPullInterval = time.Hour })
	tags := make(map[string]string)
	for i := range 15 {
		tags[fmt.Sprintf("key-%02d", i)] = strings.Repeat("v", 256)
	}
	nodes[0].SetTags("n3", 1, tags)
	for _, g := range nodes {
		sees(t, g, "n3", "with all tags", func(m Member) bool { return len(m.Tags) == 15 && !m.TagsCut })
	}
	for i := range 50 {
		tags[fmt.Sprintf("key-%02d", i)] = strings.Repeat("v", 256)
	}
	nodes[0].SetTags("n3", 2, tags)
	for _, g := range nodes[1:] {
		sees(t, g, "n3", "with cut tags", func(m Member) bool { return len(m.Tags) == 15 && m.TagsCut })
	}
	if m, _ := memberOf(nodes[0], "n3"); len(m.Tags) != 50 || m.TagsCut {
		t.Errorf("the node with the store has %d tags, cut %v", len(m.Tags), m.TagsCut)
	}
}

func TestLeavingIsNotFailing(t *testing.T) {
	nodes := mesh(t, 4)
	if err := nodes[3].Close(); err != nil {
		t.Fatal(err)
	}
	nodes[2].Kill()
	for _, g := range nodes[:2] {
		sees(t, g, "n4", "gone with a goodbye", func(m Member) bool { return !m.Alive && m.Left })
		sees(t, g, "n3", "failed", func(m Member) bool { return !m.Alive && !m.Left })
		if m, _ := memberOf(g, "n3"); time.Since(m.LastSeen) > patience {
			t.Errorf("last seen at %s", m.LastSeen)
		}
	}
	// Both come back, though memberlist has forgotten them by then or not.
	for _, g := range nodes[2:] {
		open(t, g.config)
	}
	for _, g := range nodes[:2] {
		for _, id := range []string{"n3", "n4"} {
			sees(t, g, id, "back", func(m Member) bool { return m.Alive && !m.Left })
		}
	}
}

func TestLongPartitionHeals(t *testing.T) {
	var net network
	nodes := mesh(t, 5, func(c *Config) { c.Cut = net.of(c.address()) })
	left, right := nodes[:2], nodes[2:]
	net.split(left, right)
	formed(t, left...)
	formed(t, right...)
	right[0].SetTags("n1", 3, map[string]string{"changed": "meanwhile"})
	// Until memberlist itself has forgotten the other side: from then on only the
	// reconnect loop can find it.
	for _, g := range nodes {
		eventually(t, "the dead are dead for long", func() any { return g.Members() }, func() bool {
			for _, m := range g.Members() {
				if !m.Alive && time.Since(m.LastSeen) < 4*g.config.Timings.GossipToTheDead {
					return false
				}
			}
			return true
		})
	}
	net.heal()
	formed(t, nodes...)
	for _, g := range nodes {
		sees(t, g, "n1", "tagged", hasTag("changed", "meanwhile"))
	}
}

func TestRestartOfAllFromPeersFile(t *testing.T) {
	nodes := mesh(t, 3)
	var configs []Config
	for _, g := range nodes {
		path := filepath.Join(g.config.Dir, peersName)
		eventually(t, "peers are on disk", func() any { b, _ := os.ReadFile(path); return string(b) }, func() bool {
			b, err := os.ReadFile(path)
			if err != nil {
				return false
			}
			peers, err := decodePeers(b)
			return err == nil && len(peers) == 2
		})
		c := g.config
		c.Seeds = nil
		configs = append(configs, c)
	}
	for _, g := range nodes {
		g.Kill()
	}
	// The first is alone for a while, and knows of the others all the same.
	again := []*Gossip{open(t, configs[2])}
	if m, ok := memberOf(again[0], "n1"); !ok || m.Alive || m.Address != configs[0].APIAddress {
		t.Errorf("n1 is remembered as %+v, %v", m, ok)
	}
	for _, c := range configs[:2] {
		again = append(again, open(t, c))
	}
	formed(t, again...)
}

func TestSeedsAreTriedForEver(t *testing.T) {
	late := config(t, "n2")
	first := open(t, config(t, "n1", seeds(late.address()), func(c *Config) { c.Timings.JoinTimeout = 100 * time.Millisecond }))
	if list := first.Members(); len(list) != 1 || !list[0].Alive {
		t.Errorf("alone: %+v", list)
	}
	formed(t, first, open(t, late))

	third := open(t, config(t, "n3"))
	first.SetSeeds([]string{"no address", third.Address()})
	sees(t, first, "n3", "alive", func(m Member) bool { return m.Alive })
}

func TestDuplicateIDIsRefusedAtOpen(t *testing.T) {
	nodes := mesh(t, 3)
	// The clone hears of it from a third node.
	var out records
	clone := config(t, "n2", seeds(nodes[2].Address()), func(c *Config) { c.Log = out.logger() })
	g, err := Open(clone)
	if err == nil {
		g.Kill()
	}
	if !errors.Is(err, ErrDuplicateNode) {
		t.Fatalf("a clone opens with %v", err)
	}
	for _, part := range []string{"n2", nodes[1].Address(), clone.address()} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	// The first one has not been harmed.
	formed(t, nodes...)
	if m, _ := memberOf(nodes[0], "n2"); m.GossipAddress != nodes[1].Address() {
		t.Errorf("n2 is now at %s", m.GossipAddress)
	}
}

func TestDuplicateIDFoundLaterIsReportedOnce(t *testing.T) {
	var reports [2]atomic.Int32
	var twins []*Gossip
	for i := range 2 {
		twins = append(twins, open(t, config(t, "twin", func(c *Config) {
			c.OnConflict = func(err error) {
				if !errors.Is(err, ErrDuplicateNode) {
					t.Errorf("reported: %v", err)
				}
				reports[i].Add(1)
			}
		})))
	}
	third := open(t, config(t, "n3", seeds(twins[0].Address())))
	formed(t, twins[0], third)
	twins[1].SetSeeds([]string{third.Address()})
	eventually(t, "the second twin tells", func() any { return reports[1].Load() }, func() bool { return reports[1].Load() > 0 })
	eventually(t, "the first twin tells", func() any { return reports[0].Load() }, func() bool {
		// Whoever meets it next.
		twins[1].join(twins[0].Address())
		return reports[0].Load() > 0
	})
	for range 20 {
		twins[1].join(twins[0].Address())
		wake(twins[0].wakeConflict)
	}
	if n := reports[0].Load(); n != 1 {
		t.Errorf("reported %d times", n)
	}
}

func TestAddressChangesAfterDeath(t *testing.T) {
	nodes := mesh(t, 3)
	moved := nodes[1].config
	nodes[1].Kill()
	// It is back at once, elsewhere, while the others still count on the old one.
	moved.Bind = newHost()
	back := open(t, moved)
	for _, g := range []*Gossip{nodes[0], nodes[2]} {
		sees(t, g, "n2", "at its new address", func(m Member) bool { return m.Alive && m.GossipAddress == back.Address() })
	}
	formed(t, nodes[0], nodes[2], back)
}

func TestOtherMeshAndWrongKey(t *testing.T) {
	for name, test := range map[string]struct {
		change       func(*Config)
		here, joiner string
	}{
		"other mesh": {
			func(c *Config) { c.MeshID = "mesh-other" },
			"it belongs to another mesh", "it belongs to another mesh or is no gossip port",
		},
		"wrong key": {
			func(c *Config) { c.Keys = [][]byte{key(9)} },
			"encrypted with a key that is not on this node's ring", "it uses another gossip key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var here, there records
			first := open(t, config(t, "n1", func(c *Config) { c.Log = here.logger() }))
			stranger := open(t, config(t, "n2", seeds(first.Address()), test.change, func(c *Config) { c.Log = there.logger() }))
			eventually(t, "both say why", func() any { return here.String() + there.String() }, func() bool {
				return strings.Contains(here.String(), test.here) && strings.Contains(there.String(), test.joiner)
			})
			for range 20 {
				stranger.join(first.Address())
			}
			first.Kill()
			stranger.Kill()
			for side, text := range map[string]string{test.here: here.String(), test.joiner: there.String()} {
				if n := strings.Count(text, side); n != 1 {
					t.Errorf("%q said %d times in a minute:\n%s", side, n, text)
				}
			}
			if len(first.Members()) != 1 || len(stranger.Members()) != 1 {
				t.Errorf("members %+v and %+v", first.Members(), stranger.Members())
			}
		})
	}
}

// Bytes that are no gossip of this mesh are dropped before memberlist sees them.
func TestForeignBytes(t *testing.T) {
	nodes := mesh(t, 2)
	label := append([]byte{244, byte(len("mesh-test"))}, "mesh-test"...)
	for _, b := range [][]byte{
		{}, {0}, {244}, {244, 255}, label, append(label[:len(label):len(label)], 10, 0, 0, 0, 29, 1),
		append(label[:len(label):len(label)], 10, 255, 255, 255, 255, 1), []byte(strings.Repeat("x", 5000)),
		append(label[:len(label):len(label)], []byte(strings.Repeat("\x01", 100))...),
		append(label[:len(label):len(label)], []byte(strings.Repeat("\x00", 100))...),
		append(label[:len(label):len(label)], 6, 0, 0),
	} {
		udp, err := net.Dial("udp", nodes[0].Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = udp.Write(b)
		_ = udp.Close()
		tcp, err := net.Dial("tcp", nodes[0].Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tcp.Write(b)
		_ = tcp.Close()
	}
	nodes[0].SetTags("n2", 1, map[string]string{"still": "here"})
	sees(t, nodes[1], "n2", "tagged", hasTag("still", "here"))
}

func TestKeyRotation(t *testing.T) {
	nodes := mesh(t, 3)
	old, fresh := key(1), key(2)
	value := 0
	works := func(phase string) {
		t.Helper()
		value++
		nodes[value%3].SetTags("n1", uint64(value), map[string]string{"phase": phase})
		for _, g := range nodes {
			sees(t, g, "n1", phase, hasTag("phase", phase))
		}
		formed(t, nodes...)
	}
	for _, phase := range []struct {
		name string
		keys [][]byte
	}{
		{"add", [][]byte{old, fresh}}, {"use", [][]byte{fresh, old}}, {"remove", [][]byte{fresh}},
	} {
		for _, g := range nodes {
			if err := g.SetKeys(phase.keys); err != nil {
				t.Fatal(err)
			}
			works(phase.name + " on " + g.config.NodeID)
		}
	}
	if keys := nodes[0].Keys(); len(keys) != 1 || string(keys[0]) != string(fresh) {
		t.Errorf("ring %x", keys)
	}
	for _, bad := range [][][]byte{nil, {}, {fresh, nil}, {make([]byte, 16)}} {
		if err := nodes[0].SetKeys(bad); err == nil {
			t.Errorf("ring %x taken", bad)
		}
	}
	works("after refused rings")

	// One that slept through it stays outside.
	c := config(t, "n9", seeds(nodes[0].Address()))
	sleeper := open(t, c)
	if err := sleeper.join(nodes[0].Address()); err == nil {
		t.Error("joined with a removed key")
	}
	if err := sleeper.SetKeys([][]byte{fresh}); err != nil {
		t.Fatal(err)
	}
	formed(t, append(nodes, sleeper)...)
}

func TestRemovedNodeIsKeptOut(t *testing.T) {
	var removed atomic.Pointer[string]
	none := ""
	removed.Store(&none)
	refuse := errors.New("it was removed from the mesh")
	var out records
	nodes := mesh(t, 3, func(c *Config) {
		c.Log = out.logger()
		c.Admit = func(id string) error {
			if id == *removed.Load() {
				return refuse
			}
			return nil
		}
	})
	gone := nodes[2].config
	nodes[2].Kill()
	for _, g := range nodes[:2] {
		sees(t, g, "n3", "failed", func(m Member) bool { return !m.Alive })
	}
	removed.Store(&gone.NodeID)
	for _, g := range nodes[:2] {
		g.Forget("n3")
	}
	gone.Log, gone.Admit, gone.Seeds = nil, nil, []string{nodes[0].Address(), nodes[1].Address()}
	back := open(t, gone)
	eventually(t, "it is refused aloud", func() any { return out.String() }, func() bool {
		return strings.Contains(out.String(), "node refused") || strings.Contains(out.String(), "exchange refused")
	})
	for range 5 {
		back.join(nodes[0].Address())
	}
	for _, g := range nodes[:2] {
		if m, ok := memberOf(g, "n3"); ok {
			t.Errorf("%s has it: %+v", g.config.NodeID, m)
		}
	}
	formed(t, nodes[:2]...)
}

// A node that is removed while it is away is forgotten by the reconnect loop.
func TestReconnectForgetsWhatIsNotAdmitted(t *testing.T) {
	var removed atomic.Bool
	first := open(t, config(t, "n1", func(c *Config) {
		c.Admit = func(id string) error {
			if id == "n2" && removed.Load() {
				return errors.New("removed")
			}
			return nil
		}
	}))
	second := open(t, config(t, "n2", seeds(first.Address())))
	formed(t, first, second)
	second.Kill()
	sees(t, first, "n2", "failed", func(m Member) bool { return !m.Alive })
	removed.Store(true)
	eventually(t, "n2 is forgotten", func() any { return first.Members() }, func() bool {
		_, ok := memberOf(first, "n2")
		return !ok
	})
}

func TestBindErrors(t *testing.T) {
	first := open(t, config(t, "n1"))
	taken := config(t, "n2", func(c *Config) { c.Bind = first.config.Bind })
	_, err := Open(taken)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(fmt.Sprint(err), "in use by another process") {
		t.Errorf("taken port: %v", err)
	}
	udp, err := net.ListenPacket("udp", config(t, "").Bind+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	host, port, _ := net.SplitHostPort(udp.LocalAddr().String())
	_, err = Open(config(t, "n2", func(c *Config) { c.Bind = host; fmt.Sscan(port, &c.Port) }))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(fmt.Sprint(err), "UDP port "+port) {
		t.Errorf("taken UDP port: %v", err)
	}
	_, err = Open(config(t, "n2", func(c *Config) { c.Bind = "192.0.2.1" }))
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("foreign address: %v", err)
	}
	free := open(t, config(t, "n2", func(c *Config) { c.Port = 0 }))
	if strings.HasSuffix(free.Address(), ":0") {
		t.Errorf("port 0 gave %s", free.Address())
	}
}

func TestBadConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no id":         func(c *Config) { c.NodeID = "" },
		"id with space": func(c *Config) { c.NodeID = "a b" },
		"long id":       func(c *Config) { c.NodeID = strings.Repeat("x", 65) },
		"no mesh":       func(c *Config) { c.MeshID = "" },
		"no key":        func(c *Config) { c.Keys = nil },
		"short key":     func(c *Config) { c.Keys = [][]byte{key(1), {1}} },
		"every address": func(c *Config) { c.Bind = "0.0.0.0" },
		"no address":    func(c *Config) { c.Bind = "here" },
		"no API port":   func(c *Config) { c.APIAddress = "127.0.0.1" },
		"long version":  func(c *Config) { c.Version = strings.Repeat("1", 33) },
		"port":          func(c *Config) { c.Port = 70000 },
		"packets":       func(c *Config) { c.Timings.PacketSize = 32 << 10 },
		"probe":         func(c *Config) { c.Timings.ProbeTimeout = time.Hour },
		"reconnect":     func(c *Config) { c.Timings.ReconnectMin = time.Hour },
	} {
		if g, err := Open(config(t, "n1", change)); err == nil {
			g.Kill()
			t.Errorf("%s: taken", name)
		}
	}
}

func TestCloseAndKill(t *testing.T) {
	noLeak(t)
	nodes := mesh(t, 3)
	// A seed that never answers must not hold Close up.
	silent, err := net.Listen("tcp", newHost()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	nodes[0].SetSeeds([]string{silent.Addr().String()})
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := nodes[0].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	nodes[0].Kill()
	nodes[1].Kill()
	if err := nodes[1].Close(); err != nil {
		t.Error(err)
	}
	if err := nodes[2].Close(); err != nil {
		t.Error(err)
	}
	// Calls after the end do no harm.
	nodes[0].SetVoter(true)
	nodes[0].SetTags("n2", 1, nil)
	nodes[0].SetSeeds(nil)
	nodes[0].Members()
	if b, err := os.ReadFile(filepath.Join(nodes[0].config.Dir, peersName)); err != nil || !strings.Contains(string(b), "n3") {
		t.Errorf("peers after close: %s %v", b, err)
	}
	noLeak(t)
}

// Everything at once, for the race detector.
func TestManyCallers(t *testing.T) {
	var self atomic.Pointer[Gossip]
	nodes := mesh(t, 3, func(c *Config) {
		c.Admit = func(string) error {
			// Admit may look at the list although memberlist holds its locks.
			if g := self.Load(); g != nil {
				g.Members()
			}
			return nil
		}
	})
	self.Store(nodes[0])
	var callers sync.WaitGroup
	for i, g := range nodes {
		callers.Go(func() {
			for n := range 100 {
				g.SetTags(fmt.Sprintf("n%d", n%3+1), uint64(n), map[string]string{"n": fmt.Sprint(n)})
				g.SetVoter(n%2 == i%2)
				g.Members()
				g.Alive("n1")
				_, end := g.Subscribe()
				end()
				keys := [][]byte{key(1), key(byte(2 + n%3)), key(byte(5 + n%2))}
				if err := g.SetKeys(keys); err != nil {
					t.Error(err)
				}
				g.SetSeeds([]string{nodes[0].Address()})
				g.Forget("n8")
			}
		})
	}
	callers.Wait()
	formed(t, nodes...)
	for _, g := range nodes {
		sees(t, g, "n1", "at the last version", hasTag("n", "99"))
	}
}
