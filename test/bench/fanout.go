package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// rest is the pause after each run of ours: nodes then start their spare shims,
	// and what they do after the last result would slow down what is measured next.
	rest = 1500 * time.Millisecond
	// settled is how long a mesh that has just grown is left alone: voters are
	// chosen, gossip calms down.
	settled = 8 * time.Second
	// pollEvery is the pause of a client that has SSM's operations only.
	pollEvery = 10 * time.Millisecond
)

const fanoutMethod = "Wall time from the client's SendCommand, written to a warm HTTPS connection, until the client has the result of the last node, " +
	"which it gets by holding Mesh.WatchCommand on the same connection. `true` by AWS-RunShellScript, targets by tag, every node a process; the runs of all rows take turns, with a rest between them."

// fanAims are the aims by nodes: times the warm floor.
var fanAims = map[int]float64{10: 3, 100: 2}

// benchFanout measures a mesh that grows, beside the floors.
func benchFanout(ctx context.Context, b *bench) error {
	sizes := []int{10, 50, 100}
	if b.quick {
		sizes = []int{10, 100}
	}
	if b.nodes > 0 {
		sizes = []int{b.nodes}
	}
	largest := sizes[len(sizes)-1]
	floors, err := newFloorMesh(ctx, b.dir+"/floor", "127.77.1", largest)
	if err != nil {
		return err
	}
	defer floors.close()
	alone := map[int][]float64{}
	for _, n := range sizes {
		if alone[n], err = floors.fans(n, b.times(15, 7), false); err != nil {
			return err
		}
	}
	m, err := b.newMesh(ctx, "fan", "127.77.2", sizes[0])
	if err != nil {
		return err
	}
	defer m.close()
	for _, n := range sizes {
		if err := m.grow(ctx, n); err != nil {
			return err
		}
		if err := m.awaitVoters(ctx, 5); err != nil {
			return err
		}
		f := &fanout{bench: b, mesh: m, floors: floors, n: n, alone: alone[n]}
		if err := f.measureWarm(ctx); err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
		if err := f.measureCold(ctx); err != nil {
			return fmt.Errorf("%d nodes, first run: %w", n, err)
		}
	}
	return nil
}

// fanout is the measurement of one size.
type fanout struct {
	*bench
	mesh   *mesh
	floors *floorMesh
	n      int
	// alone is the warm floor before there was a mesh on the machine.
	alone []float64
}

// all lets all nodes start at once, as the floor does.
func (f *fanout) all() *command { return &command{script: floorCommand, maxConcurrency: "100%"} }

// contender is one row of runs that take turns with others.
type contender struct {
	name string
	run  func(context.Context) (time.Duration, error)
	// rest is the pause behind each run.
	rest   time.Duration
	values []float64
}

// takeTurns runs all contenders the given number of times. A first round is not
// counted: connections and caches are warm then.
func takeTurns(ctx context.Context, rounds int, contenders []*contender) error {
	for round := range rounds + 1 {
		for _, c := range contenders {
			took, err := c.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.values = append(c.values, milliseconds(took))
			}
			if err := pause(ctx, c.rest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fanout) measureWarm(ctx context.Context) error {
	if err := pause(ctx, settled); err != nil {
		return err
	}
	roles, err := f.mesh.roles(ctx)
	if err != nil {
		return err
	}
	if roles.member == nil {
		return fmt.Errorf("no node is a plain member")
	}
	atMember, atLeader := f.mesh.client(roles.member), f.mesh.client(roles.leader)
	t := &table{Title: fmt.Sprintf("Run `true` on %d nodes", f.n), Method: fanoutMethod}
	t.Floor = &floorCheck{What: "warm mTLS and exec, beside the resting mesh", Unit: "ms"}
	execs, err := execFloor(f.n, f.times(15, 5))
	if err != nil {
		return err
	}
	if t.Floor.Before, err = f.floors.fans(f.n, f.times(15, 7), false); err != nil {
		return err
	}
	fan := func(cold bool) func(context.Context) (time.Duration, error) {
		return func(context.Context) (time.Duration, error) { return f.floors.fan(f.n, cold) }
	}
	warm := &contender{name: "warm floor", run: fan(false), rest: 100 * time.Millisecond}
	cold := &contender{name: "cold floor", run: fan(true), rest: 300 * time.Millisecond}
	member := &contender{name: "fleetmesh, asked of a member", rest: rest, run: func(ctx context.Context) (time.Duration, error) {
		return atMember.run(ctx, f.all(), f.n)
	}}
	leading := &contender{name: "fleetmesh, asked of the leader", rest: rest, run: func(ctx context.Context) (time.Duration, error) {
		return atLeader.run(ctx, f.all(), f.n)
	}}
	polled := &contender{name: "fleetmesh, a member, stock client", rest: rest, run: func(ctx context.Context) (time.Duration, error) {
		return atMember.runPolled(ctx, f.all(), f.n, pollEvery)
	}}
	contenders := []*contender{warm, member, cold, leading, polled}
	fifty := &contender{name: "fleetmesh, MaxConcurrency left at 50", rest: rest, run: func(ctx context.Context) (time.Duration, error) {
		return atMember.run(ctx, &command{script: floorCommand}, f.n)
	}}
	if f.n > 50 {
		contenders = append(contenders, fifty)
	}
	if err := takeTurns(ctx, f.times(15, 5), contenders); err != nil {
		return err
	}
	hasty, perTarget, err := f.backToBack(ctx, atMember, roles.leader)
	if err != nil {
		return err
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	if t.Floor.After, err = f.floors.fans(f.n, f.times(15, 7), false); err != nil {
		return err
	}
	t.add("exec floor: `sh -c true`, two at a time", "ms", execs)
	t.add("warm floor, before there was a mesh", "ms", f.alone)
	t.add(warm.name, "ms", warm.values)
	floor := t.Floor.both()
	floor = append(floor, warm.values...)
	t.add(cold.name, "ms", cold.values).times(floor, warm.name)
	for _, c := range []*contender{member, leading} {
		r := t.add(c.name, "ms", c.values).times(floor, warm.name)
		if aim := fanAims[f.n]; aim > 0 {
			r.atMost(aim)
		}
	}
	t.add(polled.name, "ms", polled.values).times(floor, warm.name).note("ListCommands every %s in place of Mesh.WatchCommand", pollEvery)
	if len(fifty.values) > 0 {
		t.add(fifty.name, "ms", fifty.values).times(floor, warm.name)
	}
	t.add("fleetmesh, a member, without rest between the runs", "ms", hasty).times(floor, warm.name)
	t.add("leader's CPU for each target", "ms", perTarget).below(1).note("utime and stime of its meshd over runs without rest, scripts not counted")
	f.finish(t)
	return nil
}

// backToBack runs without rest, in sets over which the leader's CPU time is read:
// its clock has ticks of 10 ms.
func (f *fanout) backToBack(ctx context.Context, c *client, leader *node) (took, perTarget []float64, err error) {
	sets, runs := f.times(5, 3), max(3, 400/f.n)
	for range sets {
		before, err := cpuTime(leader.process.Process.Pid)
		if err != nil {
			return nil, nil, err
		}
		for range runs {
			d, err := c.run(ctx, f.all(), f.n)
			if err != nil {
				return nil, nil, err
			}
			took = append(took, milliseconds(d))
		}
		after, err := cpuTime(leader.process.Process.Pid)
		if err != nil {
			return nil, nil, err
		}
		perTarget = append(perTarget, milliseconds(after-before)/float64(runs*f.n))
	}
	return took, perTarget, nil
}

// measureCold measures the first command of a mesh: all nodes are stopped and
// started again, and the command goes out as soon as all are online. The other
// first run is that of a leader that has just come to lead.
func (f *fanout) measureCold(ctx context.Context) error {
	t := &table{
		Title:  fmt.Sprintf("First run on %d nodes", f.n),
		Method: "As above, for the first command after a start: all nodes were stopped and started again, and the command is sent as soon as all are online; or after the leader was stopped and started again, another leads, and all are online.",
	}
	t.Floor = &floorCheck{What: "cold mTLS: a fresh handshake for each, and exec", Unit: "ms"}
	var err error
	if err := pause(ctx, rest); err != nil {
		return err
	}
	if t.Floor.Before, err = f.floors.fans(f.n, f.times(9, 5), true); err != nil {
		return err
	}
	var started, led, between []float64
	for range f.times(5, 1) {
		if err := f.restartAll(ctx); err != nil {
			return err
		}
		took, err := f.firstRun(ctx, f.n)
		if err != nil {
			return err
		}
		started = append(started, took)
		if err := pause(ctx, settled); err != nil {
			return err
		}
		cold, err := f.floors.fans(f.n, 3, true)
		if err != nil {
			return err
		}
		between = append(between, cold...)
	}
	for range f.times(5, 3) {
		took, err := f.newLeaderRun(ctx)
		if err != nil {
			return err
		}
		led = append(led, took)
	}
	if err := pause(ctx, settled); err != nil {
		return err
	}
	if t.Floor.After, err = f.floors.fans(f.n, f.times(9, 5), true); err != nil {
		return err
	}
	floor := append(t.Floor.both(), between...)
	t.add("cold floor", "ms", floor)
	t.add("first run after the start of all", "ms", started).times(floor, "cold floor").atMost(1.5)
	t.add("first run of a new leader", "ms", led).times(floor, "cold floor").atMost(1.5)
	f.finish(t)
	return nil
}

// restartAll stops all nodes, starts them again, and waits until they are online.
func (f *fanout) restartAll(ctx context.Context) error {
	if err := f.mesh.stopAll(); err != nil {
		return fmt.Errorf("stop all: %w", err)
	}
	for _, n := range f.mesh.nodes {
		if err := f.mesh.start(n); err != nil {
			return err
		}
		if err := pause(ctx, startPause); err != nil {
			return err
		}
	}
	return f.mesh.awaitOnline(ctx, len(f.mesh.nodes))
}

// firstRun asks a plain member, over a connection that is warm.
func (f *fanout) firstRun(ctx context.Context, n int) (float64, error) {
	roles, err := f.mesh.roles(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := f.mesh.status(ctx, roles.member); err != nil {
		return 0, err
	}
	took, err := f.mesh.client(roles.member).run(ctx, f.all(), n)
	return milliseconds(took), err
}

// newLeaderRun stops the leader and starts it again; another leads by then. The
// command goes out as soon as that one sees all nodes online.
func (f *fanout) newLeaderRun(ctx context.Context) (float64, error) {
	roles, err := f.mesh.roles(ctx)
	if err != nil {
		return 0, err
	}
	if err := f.mesh.restart(roles.leader); err != nil {
		return 0, err
	}
	if err := f.mesh.awaitOnline(ctx, f.n); err != nil {
		return 0, err
	}
	took, err := f.firstRun(ctx, f.n)
	if err != nil {
		return 0, err
	}
	if err := f.mesh.awaitVoters(ctx, 5); err != nil {
		return 0, err
	}
	return took, pause(ctx, settled)
}
