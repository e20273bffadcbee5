//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

func anyNode(int) []string { return nil }

// TestFaultsUnderLoad: while commands pour in through all nodes, the leader is
// killed, stopped for longer than an election takes, and every node is killed at
// once; each at a random moment.
func TestFaultsUnderLoad(t *testing.T) {
	m := newMesh(t, 5, anyNode)
	m.awaitRest(5, 0)
	l := newLedger(m)
	ctx, stop := context.WithCancel(t.Context())
	wait := l.pour(ctx, 150*time.Millisecond, 0.5, 2)
	someTime := func() { time.Sleep(rand.N(1500 * time.Millisecond)) }
	for round := range 3 {
		someTime()
		leader := m.leader()
		at := time.Now()
		m.kill(leader)
		took := l.firstWrite(at, m.others(leader))
		t.Logf("round %d: the next write after SIGKILL took %s", round, took)
		someTime()
		m.start(leader)

		someTime()
		leader = m.leader()
		at = time.Now()
		leader.process.Process.Signal(syscall.SIGSTOP)
		took = l.firstWrite(at, m.others(leader))
		t.Logf("round %d: the next write after SIGSTOP took %s", round, took)
		someTime()
		leader.process.Process.Signal(syscall.SIGCONT)

		someTime()
		for _, n := range m.nodes {
			n.process.Process.Kill()
		}
		for _, n := range m.nodes {
			m.kill(n)
			m.start(n)
		}
		took = l.firstWrite(time.Now(), m.nodes)
		t.Logf("round %d: the first write after all were killed took %s", round, took)
	}
	stop()
	wait()
	l.prove()
	m.awaitRest(5, 0)
	m.awaitOnline(5)
	m.noLeaks()
}

// TestCancelWhileTheLeaderDies: what was answered holds, and the scripts end.
func TestCancelWhileTheLeaderDies(t *testing.T) {
	m := newMesh(t, 3, anyNode)
	m.awaitRest(3, 0)
	l := newLedger(m)
	var ids []string
	for range 6 {
		id, err := l.send(t.Context(), 300, 2, m.nodes...)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	leader := m.leader()
	answers := make(chan error, len(ids))
	for _, id := range ids {
		go func() {
			_, err := l.client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: &id})
			answers <- err
		}()
	}
	time.Sleep(rand.N(50 * time.Millisecond))
	m.kill(leader)
	for range ids {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	m.start(leader)
	if states := l.prove(); states["Cancelled/Cancelled"] != 3*len(ids) {
		t.Errorf("%v", states)
	}
	m.noLeaks()
}

// TestLostVoter: a dead voter is replaced by the stand-by, gives up its store when
// it comes back, and stands by in its turn. A removed one ends by itself.
func TestLostVoter(t *testing.T) {
	m := newMesh(t, 4, anyNode, "--voter-dead-after", "5s")
	m.awaitRest(3, 1)
	l := newLedger(m)
	lost := m.leader()
	m.kill(lost)
	m.await("another voter in its place", func() error {
		s, err := m.status()
		if err == nil && (len(s.Voters) != 3 || slices.Contains(s.Voters, lost.id)) {
			err = fmt.Errorf("voters %v", s.Voters)
		}
		return err
	})
	m.start(lost)
	m.awaitRest(3, 1)
	for _, which := range []func() *node{
		m.leader,
		func() *node { return m.others(m.leader())[0] },
	} {
		gone := which()
		alive := m.others(gone)
		if _, err := l.send(t.Context(), 2, 4, append(alive, gone)...); err != nil {
			t.Fatal(err)
		}
		m.await("its script", func() error {
			for _, nodes := range l.runs() {
				if r := nodes[gone.id]; r != nil && r.ends == 0 {
					return nil
				}
			}
			return errors.New("it has not begun")
		})
		m.await("its removal", func() error {
			_, err := l.client.DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &gone.id})
			return err // two voters of two are needed for a moment
		})
		m.awaitEnd(gone)
		if states := l.prove(); states["Failed/Undeliverable"] != 0 {
			t.Errorf("%v", states)
		}
		if len(alive) == 3 {
			m.awaitRest(3, 0)
		}
	}
	m.noLeaks()
}
