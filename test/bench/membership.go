package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fleetmesh/agent/meshapi"
)

const (
	// membershipNodes is how many nodes find each other.
	membershipNodes = 50
	// spawnPause is the pause between two starts: all 50 within a quarter of a
	// second.
	spawnPause = 4 * time.Millisecond
	// lookPause is the pause between two rounds of asking those who do not know yet.
	lookPause = 20 * time.Millisecond
)

// observer asks one node whom it holds alive.
type observer struct {
	name   string
	living func(context.Context) (map[string]bool, error)
}

// allKnow asks everybody until each has said yes once, and returns when the
// first, half and all had; those who do not answer yet are asked again.
func allKnow(ctx context.Context, began time.Time, who []observer, yes func(alive map[string]bool) bool) (first, half, all time.Duration, err error) {
	total := len(who)
	deadline := time.Now().Add(patience)
	known := 0
	for {
		var rest []observer
		for _, o := range who {
			alive, err := o.living(ctx)
			if err != nil || !yes(alive) {
				rest = append(rest, o)
				continue
			}
			known++
			now := time.Since(began)
			if known == 1 {
				first = now
			}
			if known == (total+1)/2 {
				half = now
			}
			all = now
		}
		if who = rest; len(who) == 0 {
			return first, half, all, nil
		}
		if time.Now().After(deadline) {
			return 0, 0, 0, fmt.Errorf("%d of %d nodes knew after %s", known, total, patience)
		}
		if err := pause(ctx, lookPause); err != nil {
			return 0, 0, 0, err
		}
	}
}

func sees(n int) func(map[string]bool) bool {
	return func(alive map[string]bool) bool { return len(alive) >= n }
}

func misses(name string) func(map[string]bool) bool {
	return func(alive map[string]bool) bool { return !alive[name] }
}

// sightings are the rounds of one system.
type sightings struct{ joined, lostFirst, lostHalf, lostAll []float64 }

// benchMembership lets serf and fleetmesh take turns; each has the machine alone.
func benchMembership(ctx context.Context, b *bench) error {
	t := &table{
		Title: fmt.Sprintf("Membership: %d nodes", membershipNodes),
		Method: "All nodes are started within a quarter of a second and know one address each (serf: -retry-join of the first; fleetmesh: enrolled before, what gossip remembered deleted). " +
			"Counted from the first start until every node has been seen to hold all alive; then, at rest, from SIGKILL of one node until every other has been seen to hold it dead. " +
			"Both use the same timings: probes every second, news every 200 ms. The one that does not know yet is asked again every 20 ms (serf by RPC, fleetmesh by Mesh.Members on its local socket).",
		Floor: &floorCheck{What: "exec: `sh -c true` 50 times, two at a time", Unit: "ms"},
	}
	var err error
	if t.Floor.Before, err = execFloor(50, b.times(15, 7)); err != nil {
		return err
	}
	m, err := b.newMesh(ctx, "members", "127.77.7", 1)
	if err != nil {
		return err
	}
	defer m.close()
	if _, err := m.enrol(ctx, membershipNodes); err != nil {
		return err
	}
	if err := m.stopAll(); err != nil {
		return err
	}
	var serf, ours sightings
	for round := range b.times(5, 2) {
		if installed("serf") {
			if err := serfRound(ctx, filepath.Join(b.dir, fmt.Sprintf("serf%d", round)), &serf); err != nil {
				return fmt.Errorf("serf: %w", err)
			}
		}
		if err := m.sightingRound(ctx, &ours); err != nil {
			return fmt.Errorf("fleetmesh: %w", err)
		}
	}
	if t.Floor.After, err = execFloor(50, b.times(15, 7)); err != nil {
		return err
	}
	for _, part := range []struct {
		what       string
		serf, ours []float64
		limit      float64
	}{
		{"all know all", serf.joined, ours.joined, 1.2},
		{"a killed node is missed by the first", serf.lostFirst, ours.lostFirst, 0},
		{"a killed node is missed by half", serf.lostHalf, ours.lostHalf, 0},
		{"a killed node is missed by all", serf.lostAll, ours.lostAll, 1},
	} {
		if len(part.serf) > 0 {
			t.add("serf: "+part.what, "s", part.serf)
		}
		r := t.add("fleetmesh: "+part.what, "s", part.ours).times(part.serf, "serf")
		if part.limit > 0 && r.Of != "" {
			r.atMost(part.limit)
		}
	}
	b.finish(t)
	return nil
}

// quietBeforeKill is how long a mesh that knows itself is left alone.
const quietBeforeKill = 5 * time.Second

func (s *sightings) watch(ctx context.Context, began time.Time, who []observer, victim int, kill func()) error {
	_, _, joined, err := allKnow(ctx, began, who, sees(len(who)))
	if err != nil {
		return fmt.Errorf("after the start: %w", err)
	}
	if err := pause(ctx, quietBeforeKill); err != nil {
		return err
	}
	others := append(append([]observer(nil), who[:victim]...), who[victim+1:]...)
	began = time.Now()
	kill()
	first, half, all, err := allKnow(ctx, began, others, misses(who[victim].name))
	if err != nil {
		return fmt.Errorf("after the kill: %w", err)
	}
	s.joined = append(s.joined, seconds(joined))
	s.lostFirst, s.lostHalf, s.lostAll = append(s.lostFirst, seconds(first)), append(s.lostHalf, seconds(half)), append(s.lostAll, seconds(all))
	return nil
}

func serfRound(ctx context.Context, dir string, s *sightings) error {
	began := time.Now()
	m, err := startSerf(ctx, dir, "127.77.8", membershipNodes, spawnPause)
	if err != nil {
		return err
	}
	defer m.close()
	var who []observer
	for _, a := range m.agents {
		who = append(who, observer{name: a.name, living: a.living})
	}
	victim := m.agents[len(m.agents)-1]
	return s.watch(ctx, began, who, len(who)-1, func() {
		_ = victim.process.Process.Kill()
		_ = victim.process.Wait()
		victim.process = nil
	})
}

// sightingRound starts the enrolled nodes as if gossip had never been used.
func (m *mesh) sightingRound(ctx context.Context, s *sightings) error {
	for _, n := range m.nodes {
		if err := os.Remove(filepath.Join(n.dir, "gossip", "peers.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	began := time.Now()
	var who []observer
	for _, n := range m.nodes {
		if err := m.start(n); err != nil {
			return err
		}
		who = append(who, observer{name: n.id, living: n.living()})
		if err := pause(ctx, spawnPause); err != nil {
			return err
		}
	}
	victim := m.nodes[len(m.nodes)-1]
	if err := s.watch(ctx, began, who, len(who)-1, victim.kill); err != nil {
		return err
	}
	return m.stopAll()
}

// living asks a node over its local socket, on a connection that stays open.
func (n *node) living() func(context.Context) (map[string]bool, error) {
	client := socketClient(filepath.Join(n.dir, "meshd.sock"))
	return func(ctx context.Context) (map[string]bool, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		out, err := client.Members(ctx, &meshapi.MembersInput{})
		if err != nil {
			return nil, err
		}
		alive := map[string]bool{}
		for _, member := range out.Members {
			if member.Alive {
				alive[member.NodeId] = true
			}
		}
		return alive, nil
	}
}
