package raftstore

import (
	"slices"
	"testing"
)

func told(w *Watch) bool {
	select {
	case <-w.C:
		return true
	default:
		return false
	}
}

func TestWatchesOfPrefixes(t *testing.T) {
	t.Parallel()
	var s Store
	all := s.Watch("")
	nodes := s.Watch("node/")
	two := s.Watch("node/a", "command/")
	for _, test := range []struct {
		keys []string
		want []bool // all, nodes, two
	}{
		{nil, []bool{false, false, false}},
		{[]string{"mesh"}, []bool{true, false, false}},
		{[]string{"node"}, []bool{true, false, false}},
		{[]string{"node/b", "node/c"}, []bool{true, true, false}},
		{[]string{"node/ab"}, []bool{true, true, true}},
		{[]string{"x", "command/1"}, []bool{true, false, true}},
	} {
		s.watches.changed(test.keys)
		if got := []bool{told(all), told(nodes), told(two)}; !slices.Equal(got, test.want) {
			t.Errorf("%q told %v, want %v", test.keys, got, test.want)
		}
		if told(all) || told(nodes) || told(two) {
			t.Errorf("%q told twice", test.keys)
		}
	}
	s.watches.all()
	if !told(all) || !told(nodes) || !told(two) {
		t.Error("a new state was not told to all")
	}
	for _, w := range []*Watch{all, nodes, two, two} {
		w.Stop()
	}
	s.watches.changed([]string{"node/a"})
	if told(all) || told(nodes) || told(two) {
		t.Error("a stopped watch was told")
	}
	if len(s.watches.byPrefix)+len(s.watches.lengths) > 0 {
		t.Errorf("stopped watches are remembered: %v", s.watches.byPrefix)
	}
}

// Followers are told as the leader is; a refused transaction tells nobody.
func TestWatchesOnEveryServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	var watches []*Watch
	for _, node := range c.nodes {
		watches = append(watches, node.store.Watch("node/"))
	}
	var refused Txn
	refused.Require("first", 0)
	refused.Put("node/x", nil)
	if _, err := c.leader().store.Apply(testContext(t), refused); err == nil {
		t.Fatal("it was applied")
	}
	c.ensureSame()
	for i, w := range watches {
		if told(w) {
			t.Errorf("%s was told of a refused transaction", c.nodes[i].id)
		}
	}
	c.write("node/x", "1")
	for _, w := range watches {
		<-w.C
	}
}
