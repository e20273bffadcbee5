//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wrongClock makes a node's clock wrong from its next start on.
func (n *node) wrongClock(by string) { n.env = []string{"MESHD_CLOCK_OFFSET=" + by} }

// newMeshWithClocks makes a mesh of the build whose clock may be wrong. The joining
// node has its wrong clock already.
func newMeshWithClocks(t *testing.T, n int, wrong map[int]string, joinArgs func(i int) []string, runArgs ...string) *mesh {
	t.Helper()
	i := 0
	return newOutfittedMesh(t, n, joinArgs, func(n *node) {
		n.program = filepath.Join(filepath.Dir(n.program), "failpoint", "meshd")
		if by := wrong[i]; by != "" {
			n.wrongClock(by)
		}
		i++
	}, runArgs...)
}

// TestWrongClocks: a voter and a member join and work with clocks that are an hour
// off; whoever leads, commands run, clients are believed, and what waits is not
// timed out.
func TestWrongClocks(t *testing.T) {
	m := newMeshWithClocks(t, 5, map[int]string{2: "+1h", 3: "-1h", 4: "+1h"}, func(i int) []string {
		if i >= 3 {
			return []string{"--member-only"}
		}
		return nil
	})
	m.awaitRest(3, 0)
	l := newLedger(m)
	wrong, away := m.nodes[2], m.nodes[4]
	m.awaitAdvice(m.nodes[0], false, "3 clocks are wrong", "node3 ("+wrong.id+") is 1h0m0s ahead", "node4 ("+m.nodes[3].id+") is 1h0m0s behind")
	m.kill(away)
	waiting, err := l.send(t.Context(), 0.1, 1, away)
	if err != nil {
		t.Fatal(err)
	}
	led := map[string]bool{}
	for range 8 {
		leader := m.leader()
		led[leader.id] = true
		if _, err := l.send(t.Context(), 0.1, 4, m.others(away)...); err != nil {
			t.Errorf("led by %s: %v", leader.name, err)
		}
		if _, err := m.aws(m.nodes[3], "describe-instance-information"); err != nil { // its clock is an hour behind
			t.Errorf("led by %s: %v", leader.name, err)
		}
		c, err := l.command(t.Context(), waiting)
		if err != nil || c.CompletedCount != 0 {
			t.Errorf("led by %s: what waits is %s, %v", leader.name, c.Status, err)
		}
		if len(led) >= 2 && led[wrong.id] {
			break
		}
		m.kill(leader)
		l.firstWrite(time.Now(), m.others(leader))
		m.start(leader)
		m.awaitOnline(4)
	}
	if !led[wrong.id] {
		t.Logf("the node with the wrong clock never led")
	}
	m.start(away)
	if states := l.prove(); states["Success/Success"] != 4*len(led)+1 && len(states) != 1 {
		t.Errorf("%v", states)
	}
	m.noLeaks()
}

// TestHopelessClock: a machine whose clock is years off is told so when it joins,
// and so is whoever asks the mesh while an enrolled node has such a clock.
func TestHopelessClock(t *testing.T) {
	m := newMeshWithClocks(t, 2, nil, func(int) []string { return []string{"--member-only"} })
	m.awaitOnline(2)
	for _, by := range []string{"87600h", "-87600h"} {
		joiner := m.add()
		var activation struct{ JoinToken string }
		m.json(&activation, "activation", "create")
		joiner.wrongClock(by)
		out, err := os.CreateTemp(m.dir, "join")
		if err != nil {
			t.Fatal(err)
		}
		out.Close()
		_, _, err = m.run("env", append(joiner.env, joiner.program, "join", "--data-dir", joiner.dir, "--bind", joiner.address, "--token", activation.JoinToken)...)
		if err == nil || !strings.Contains(err.Error(), "this machine's clock says") {
			t.Errorf("joined with a clock that is wrong by %s: %v", by, err)
		}
		m.nodes = m.nodes[:2]
	}
	l := newLedger(m)
	member := m.nodes[1]
	m.kill(member)
	member.wrongClock("87600h")
	m.start(member)
	m.awaitOnline(2)
	m.awaitAdvice(m.nodes[0], false, "node2 ("+member.id+") is 87600h0m0s ahead")
	id, err := l.send(t.Context(), 0, 2, m.nodes...)
	if err != nil {
		t.Fatal(err)
	}
	m.await("the other node's end", func() error {
		c, err := l.command(t.Context(), id)
		if err == nil && c.invocations[m.nodes[0].id].Status != "Success" {
			err = fmt.Errorf("%s", c.invocations[m.nodes[0].id].Status)
		}
		return err
	})
	m.kill(member)
	member.env = nil
	m.start(member)
	if states := l.prove(); states["Success/Success"] != 2 {
		t.Errorf("once the clock was right: %v", states)
	}
}

// TestDarkForAMonth: every certificate has expired, on all nodes at once. The mesh
// comes back by itself. The test's own clock has not moved, so it asks on the local
// socket.
func TestDarkForAMonth(t *testing.T) {
	m := newMeshWithClocks(t, 4, nil, func(i int) []string {
		if i == 3 {
			return []string{"--member-only"}
		}
		return nil
	})
	m.awaitRest(3, 0)
	for _, n := range m.nodes {
		m.kill(n)
	}
	for _, n := range m.nodes {
		n.wrongClock("720h")
		m.start(n)
	}
	socket := func(n *node) string { return filepath.Join(n.dir, "meshd.sock") }
	m.await("all four online", func() error {
		var s status
		out, _, err := m.run("meshctl", "--socket", socket(m.nodes[0]), "mesh", "status", "-o", "json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &s)
		}
		if err == nil && (s.Leader == "" || s.Nodes.Online != 4 || s.FailureTolerance != 1) {
			err = fmt.Errorf("%+v", s)
		}
		return err
	})
	m.await("a command on all", func() error {
		out, _, err := m.run("meshctl", "--socket", socket(m.nodes[0]), "run", "--nodes", m.nodes[0].id+","+m.nodes[1].id+","+m.nodes[2].id+","+m.nodes[3].id, "--", "echo back")
		if err == nil && strings.Count(out, "Success") < 4 && strings.Count(out, "back") < 4 {
			err = fmt.Errorf("it printed %s", out)
		}
		return err
	})
}
