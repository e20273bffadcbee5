//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// quorum is what `mesh status` says of it.
type quorum struct {
	status
	Term uint64
}

func (m *mesh) quorum() (quorum, error) {
	var q quorum
	s, err := m.status()
	if err != nil {
		return q, err
	}
	out, _, err := m.run("meshctl", "--endpoint", "https://"+m.byID(s.Leader).address+":7947", "mesh", "status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &q)
	}
	return q, err
}

// awaitQuorum waits for voters that are all in the list, as many as are wanted.
func (m *mesh) awaitQuorum(voters int, among ...*node) quorum {
	m.t.Helper()
	var q quorum
	m.await(fmt.Sprintf("%d voters among the living", voters), func() (err error) {
		if q, err = m.quorum(); err != nil {
			return err
		}
		for _, id := range q.Voters {
			if !slices.Contains(among, m.byID(id)) {
				return fmt.Errorf("%s votes; voters %v, stand-bys %v", m.byID(id).name, q.Voters, q.StandBys)
			}
		}
		if len(q.Voters) != voters {
			return fmt.Errorf("voters %v, stand-bys %v", q.Voters, q.StandBys)
		}
		return nil
	})
	return q
}

// zones counts the voters in each zone.
func (m *mesh) zones(q quorum, zoneOf func(n *node) string) map[string]int {
	count := map[string]int{}
	for _, id := range q.Voters {
		count[zoneOf(m.byID(id))]++
	}
	return count
}

// TestVotersOneAfterAnother: eight nodes in three zones grow to five voters, two in
// a zone at most. Then one voter after another dies for good, the leader first: each
// is replaced by itself while there is somebody, and the mesh writes until the last
// majority. The dead come back, and take no vote by their old stores; nor do they
// disturb the leader.
func TestVotersOneAfterAnother(t *testing.T) {
	zone := func(i int) string { return []string{"a", "b", "c"}[i%3] }
	m := newMesh(t, 8, func(i int) []string {
		args := []string{"--tag", "zone=" + zone(i)}
		if i == 7 {
			args = append(args, "--member-only")
		}
		return args
	}, "--voter-dead-after", "5s")
	zoneOf := func(n *node) string { return zone(slices.Index(m.nodes, n)) }
	memberOnly := m.nodes[7]
	m.meshctl("node", "tag", m.nodes[0].id, "zone=a")
	m.awaitRest(5, 1)
	m.await("two voters in a zone at most", func() error {
		q, err := m.quorum()
		if err != nil {
			return err
		}
		for z, n := range m.zones(q, zoneOf) {
			if n > 2 || len(q.Voters) != 5 {
				return fmt.Errorf("%d voters of %d in zone %s", n, len(q.Voters), z)
			}
		}
		return nil
	})
	l := newLedger(m)
	works := func(what string, alive []*node) {
		t.Helper()
		l.firstWrite(time.Now(), alive)
		if _, err := l.send(t.Context(), 0.1, 8, alive...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	var dead []*node
	alive := slices.Clone(m.nodes)
	die := func() {
		t.Helper()
		victim := m.leader()
		m.kill(victim)
		dead = append(dead, victim)
		alive = slices.DeleteFunc(alive, func(n *node) bool { return n == victim })
	}
	for len(dead) < 2 {
		die()
		q := m.awaitQuorum(5, alive...)
		if slices.Contains(q.Voters, memberOnly.id) || slices.Contains(q.StandBys, memberOnly.id) {
			t.Errorf("a member-only node holds the store: %+v", q)
		}
		works(fmt.Sprintf("%d dead", len(dead)), alive)
	}
	// Nobody is left to replace these.
	for len(dead) < 4 {
		die()
		works(fmt.Sprintf("%d dead", len(dead)), alive)
	}
	s, err := m.quorum()
	if err != nil || len(s.Voters) != 5 {
		t.Errorf("the quorum was made smaller because nodes are silent: %+v, %v", s, err)
	}
	term := s.Term
	for _, n := range dead[:2] { // replaced while they were dead
		m.start(n)
	}
	m.await("the replaced ones to be back, without a store", func() error {
		q, err := m.quorum()
		if err != nil {
			return err
		}
		if q.Term != term {
			return fmt.Errorf("term %d, it was %d", q.Term, term)
		}
		if q.Nodes.Online != 6 {
			return fmt.Errorf("%d online", q.Nodes.Online)
		}
		return nil
	})
	alive = append(alive, dead[:2]...)
	q := m.awaitQuorum(5, alive...) // in place of the two that are dead still
	if q.Term != term {
		t.Errorf("a node that came back has deposed the leader: term %d, it was %d", q.Term, term)
	}
	for _, n := range dead[2:] {
		m.start(n)
	}
	alive = slices.Clone(m.nodes)
	m.awaitOnline(8)
	m.awaitRest(5, 1)
	works("all back", alive)
	l.prove()
	m.noLeaks()
}

// awaitStep waits until the log of the leader says that it changes the quorum so.
func (m *mesh) awaitStep(leader *node, step string) {
	m.t.Helper()
	m.await("the step "+step, func() error {
		data, err := os.ReadFile(leader.dir + ".log")
		if err == nil && !strings.Contains(string(data), `msg="changing the quorum"`) {
			err = errors.New("no step yet")
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, `msg="changing the quorum"`) && strings.Contains(line, "step="+step+" ") {
				return nil
			}
		}
		return errors.Join(err, errors.New("other steps only"))
	})
}

// TestInheritedChange: the leader dies in the middle of a replacement. The next one
// finishes what it finds, or undoes it.
func TestInheritedChange(t *testing.T) {
	m := newMesh(t, 5, anyNode, "--voter-dead-after", "5s", "--voters", "3")
	l := newLedger(m)
	m.awaitRest(3, 1)
	for _, step := range []string{"promote", "remove"} {
		leader := m.leader()
		q, err := m.quorum()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(q.Voters, func(id string) bool { return id != leader.id })
		lost := m.byID(q.Voters[i])
		if err := os.Truncate(leader.dir+".log", 0); err != nil {
			t.Fatal(err)
		}
		m.kill(lost)
		m.awaitStep(leader, step)
		m.kill(leader)
		m.start(leader) // else two of three may be dead
		alive := m.others(lost)
		m.awaitQuorum(3, alive...)
		l.firstWrite(time.Now(), alive)
		m.start(lost)
		m.awaitOnline(5)
		m.awaitRest(3, 1)
	}
	if _, err := l.send(t.Context(), 0.1, 5, m.nodes...); err != nil {
		t.Fatal(err)
	}
	l.prove()
}

// TestStartInAnyOrder: all nodes die at once. A majority of the voters that starts
// is enough, whatever the order; a voter that was removed meanwhile stays out, and
// ends by itself.
func TestStartInAnyOrder(t *testing.T) {
	m := newMesh(t, 4, anyNode)
	m.awaitRest(3, 1)
	l := newLedger(m)
	if _, err := l.send(t.Context(), 0.1, 4, m.nodes...); err != nil {
		t.Fatal(err)
	}
	l.prove()
	q, err := m.quorum()
	if err != nil {
		t.Fatal(err)
	}
	var voters []*node
	for _, id := range q.Voters {
		voters = append(voters, m.byID(id))
	}
	for _, n := range m.nodes {
		n.process.Process.Kill()
	}
	for _, n := range m.nodes {
		m.kill(n)
	}
	// Two of three, the second one late.
	m.start(voters[2])
	m.await("an answer without a leader", func() error {
		if _, err := m.advice(voters[2], true); err != nil {
			return err
		}
		return nil
	})
	m.start(voters[0])
	took := l.firstWrite(time.Now(), []*node{voters[0], voters[2]})
	t.Logf("the first write with two of three voters took %s", took)

	gone := voters[1]
	m.await("its removal", func() error {
		_, err := l.client.DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &gone.id})
		return err
	})
	before, err := m.quorum()
	if err != nil {
		t.Fatal(err)
	}
	m.start(gone)
	m.awaitEnd(gone)
	after, err := m.quorum()
	if err != nil || after.Term != before.Term || slices.Contains(after.Voters, gone.id) {
		t.Errorf("after a removed voter came back: %+v, %v; before: %+v", after, err, before)
	}
	if _, err := os.Stat(filepath.Join(gone.dir, "store")); err != nil {
		t.Logf("its store: %v", err)
	}
}
