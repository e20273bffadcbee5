package main

import (
	"context"
	"fmt"
	"time"

	"fleetmesh/agent/meshapi"
)

// benchFailover kills the leader of five voters again and again.
func benchFailover(ctx context.Context, b *bench) error {
	const nodes = 5
	m, err := b.newMesh(ctx, "failover", "127.77.5", nodes)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.awaitVoters(ctx, nodes); err != nil {
		return err
	}
	t := &table{
		Title: "Fail-over",
		Method: "From SIGKILL of the leader of five voters until the next SendCommand is accepted, asked of another node by one client that sends one request at a time, each given up to 5 s, and tries again 10 ms after a refusal. " +
			"The killed node is started again and votes before the next kill.",
		Floor: &floorCheck{What: "256 bytes and fdatasync, one file", Unit: "ms"},
	}
	if t.Floor.Before, err = diskFloor(b.dir, 1500); err != nil {
		return err
	}
	var took []float64
	for range b.times(15, 5) {
		if err := pause(ctx, settled/2); err != nil {
			return err
		}
		d, err := m.killLeader(ctx, nodes)
		if err != nil {
			return err
		}
		took = append(took, seconds(d))
	}
	if t.Floor.After, err = diskFloor(b.dir, 1500); err != nil {
		return err
	}
	t.add("SIGKILL of the leader to the next accepted command", "s", took).below(1.5)
	b.finish(t)
	return nil
}

func (m *mesh) killLeader(ctx context.Context, voters int) (time.Duration, error) {
	roles, err := m.roles(ctx)
	if err != nil {
		return 0, err
	}
	dead := roles.leader
	survivor := m.client(roles.voter)
	if _, err := survivor.mesh.Status(ctx, &meshapi.StatusInput{}); err != nil {
		return 0, err // its connection is warm now
	}
	began := time.Now()
	dead.kill()
	deadline := began.Add(patience)
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := survivor.send(attempt, &command{script: floorCommand, maxConcurrency: "1"})
		cancel()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("no command was accepted within %s of the leader's end: %w", patience, err)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	m.mu.Lock()
	delete(m.warm, dead)
	m.mu.Unlock()
	if err := m.start(dead); err != nil {
		return 0, err
	}
	if err := m.awaitOnline(ctx, len(m.nodes)); err != nil {
		return 0, err
	}
	return took, m.awaitVoters(ctx, voters)
}
