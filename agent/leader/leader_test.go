package leader_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"fleetmesh/agent/leader"
	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// brisk are settings for a mesh that lives for seconds.
var brisk = leader.Settings{StableAfter: 100 * time.Millisecond, DeadAfter: time.Second, TransitFor: 5 * time.Second, SweepEvery: 50 * time.Millisecond}

func TestThreeNodesBecomeThreeVoters(t *testing.T) {
	t.Parallel()
	settings := brisk
	settings.StableAfter = 0 // the default
	begun := time.Now()
	r := newRig(t, 3, settings)
	eventually(t, "three voters", func() bool { v, _ := r.servers(); return len(v) == 3 })
	t.Logf("three voters after %v", time.Since(begun))
	for _, n := range r.all() {
		eventually(t, "the roster on "+n.id, func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			voters := 0
			for _, m := range n.roster.Members {
				if !m.StandBy && m.PublicKey == "key-"+m.NodeID {
					voters++
				}
			}
			return voters == 3
		})
	}
}

func TestTheQuorumLivesThroughLosses(t *testing.T) {
	t.Parallel()
	r := newRig(t, 6, brisk)
	eventually(t, "five voters and a stand-by", func() bool { v, s := r.servers(); return len(v) == 5 && len(s) == 1 })

	// One after another is lost, the leader first; the stand-by replaces the first.
	lost, _ := r.leading()
	lost.kill()
	eventually(t, "a replacement", func() bool {
		v, s := r.servers()
		return len(v) == 5 && len(s) == 0 && !slices.Contains(v, lost.id)
	})
	second, _ := r.leading()
	second.kill()
	eventually(t, "another leader", func() bool { n, _ := r.leading(); return n != nil })
	eventually(t, "the new leader's view", func() bool { v, _ := r.servers(); return len(v) == 5 && slices.Contains(v, second.id) })

	// The first comes back with its old store: it must give it up, and then stand
	// by like any other and take the second's place.
	lost.start()
	eventually(t, "the returned node to vote in place of the silent one", func() bool {
		v, _ := r.servers()
		return len(v) == 5 && slices.Contains(v, lost.id) && !slices.Contains(v, second.id)
	})
	second.start()
	eventually(t, "the second to stand by", func() bool { v, s := r.servers(); return len(v) == 5 && slices.Equal(s, []string{second.id}) })
	for _, n := range []*rigNode{lost, second} {
		n.mu.Lock()
		if n.demoted == 0 {
			t.Errorf("%s was replaced and kept its old store", n.id)
		}
		n.mu.Unlock()
	}
}

func TestACommandSurvivesItsLeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, brisk)
	eventually(t, "three voters", func() bool { v, _ := r.servers(); return len(v) == 3 })
	for _, n := range r.all() {
		n.mu.Lock()
		n.held["c"] = true // it runs until the test lets it end
		n.mu.Unlock()
	}
	r.sendCommand("c")
	eventually(t, "all to be in flight", func() bool { return r.commandState("c").InFlight == 4 })
	first, _ := r.leading()
	first.kill()
	eventually(t, "another leader", func() bool { n, _ := r.leading(); return n != nil && n != first })
	first.start()
	for _, n := range r.all() {
		eventually(t, "the job on "+n.id, func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.jobs["c"] > 0 })
		r.reporting.Go(func() { n.finish("c") })
	}
	eventually(t, "the end", func() bool { s := r.commandState("c"); return s.Status == "Success" && s.CompletedCount == 4 })
	for _, n := range r.all() {
		n.mu.Lock()
		if n.jobs["c"] != 1 {
			t.Errorf("%s took the job %d times", n.id, n.jobs["c"])
		}
		n.mu.Unlock()
	}
}

func TestARemovedNodeLeavesEverything(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, brisk)
	eventually(t, "three voters and a stand-by", func() bool { v, s := r.servers(); return len(v) == 3 && len(s) == 1 })
	voters, _ := r.servers()
	at, _ := r.leading()
	gone := voters[slices.IndexFunc(voters, func(id string) bool { return id != at.id })]
	r.apply(func(v raftstore.Reader) (t raftstore.Txn, err error) {
		n, err := raftstore.GetNode(v, gone)
		if err != nil {
			return t, err
		}
		roster, err := raftstore.GetRoster(v)
		if err != nil {
			return t, err
		}
		roster.Version++
		roster.Members = slices.DeleteFunc(roster.Members, func(m raftstore.RosterMember) bool { return m.NodeID == gone })
		roster.Removed = append(roster.Removed, raftstore.RemovedKey{NodeID: gone, PublicKey: n.PublicKey})
		t.PutRoster(roster)
		t.DeleteNode(n)
		return t, nil
	})
	eventually(t, "the stand-by to vote in its place", func() bool {
		v, _ := r.servers()
		return len(v) == 3 && !slices.Contains(v, gone)
	})
	var ring raftstore.Keyring
	eventually(t, "a new gossip key alone", func() bool {
		return r.view(func(v raftstore.Reader) (err error) { ring, err = raftstore.GetKeyring(v); return err }) &&
			ring.CoversRemoved == 1 && ring.Rotating == "" && len(ring.Keys) == 1
	})
	if ring.Version != 4 {
		t.Errorf("the ring has version %d after three phases", ring.Version)
	}
	for _, n := range r.all() {
		n.mu.Lock()
		if n.id == gone && n.ring == ring.Version {
			t.Error("the removed node got the new key")
		}
		n.mu.Unlock()
		if n.id == gone {
			eventually(t, "the farewell", func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.roster.IsRemoved("key-" + gone)
			})
		}
		if n.id != gone {
			eventually(t, "the key on "+n.id, func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.ring == ring.Version && n.roster.IsRemoved("key-"+gone) && len(n.keys) == 1
			})
		}
	}
}

func TestLastPingIsWrittenWhenANodeIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, brisk)
	n := r.node(1)
	eventually(t, "the roster on both", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.ring > 0 })
	before := time.Now()
	n.kill()
	eventually(t, "the time of the last ping", func() bool {
		var node raftstore.Node
		return r.view(func(v raftstore.Reader) (err error) { node, err = raftstore.GetNode(v, n.id); return err }) &&
			!node.LastPing.IsZero() && !node.LastPing.Before(before)
	})
}

// TestLastPingOfANodeThatDiedWithoutALeader: the next leader writes down when its
// gossip ceased to see it.
func TestLastPingOfANodeThatDiedWithoutALeader(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, brisk)
	const dead = "mi-dead0000000000000"
	at := time.Now().Add(-time.Hour).UTC()
	r.mu.Lock()
	r.gone = map[string]time.Time{dead: at}
	r.mu.Unlock()
	r.apply(func(raftstore.Reader) (raftstore.Txn, error) {
		var t raftstore.Txn
		t.PutNode(raftstore.Node{ID: dead, PublicKey: "key-dead", Address: "127.0.0.1:1", LastPing: at.Add(-24 * time.Hour)})
		return t, nil
	})
	eventually(t, "the time of the last ping", func() bool {
		var node raftstore.Node
		return r.view(func(v raftstore.Reader) (err error) { node, err = raftstore.GetNode(v, dead); return err }) && node.LastPing.Equal(at)
	})
}

func TestOldAnswersAreSwept(t *testing.T) {
	r := newRig(t, 1, brisk)
	r.apply(func(raftstore.Reader) (t raftstore.Txn, err error) {
		for n := range 800 {
			t.PutAnswer(raftstore.Answer{AccessKeyID: "k", InvocationID: fmt.Sprint(n), ExpiresAt: time.Now().Add(-time.Minute)})
		}
		return t, nil
	})
	r.apply(func(raftstore.Reader) (t raftstore.Txn, err error) {
		t.PutAnswer(raftstore.Answer{AccessKeyID: "k", InvocationID: "young", ExpiresAt: time.Now().Add(time.Hour)})
		return t, nil
	})
	eventually(t, "old answers to be gone", func() bool {
		left := 0
		r.view(func(v raftstore.Reader) error {
			v.Scan("answer", "", func(string, []byte, uint64) bool { left++; return true })
			return nil
		})
		return left == 2 // the young one and its index
	})
}

func TestReportsAreRefusedWithoutLeadership(t *testing.T) {
	l := leader.New(leader.Config{})
	_, err := l.Report(context.Background(), "n", nil)
	var refusal *peer.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != peer.RefusedNotLeader {
		t.Errorf("%v", err)
	}
}
