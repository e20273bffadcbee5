package main

import (
	"context"
	"fmt"
	"time"
)

// benchIdle looks at a mesh that does nothing.
func benchIdle(ctx context.Context, b *bench) error {
	n, watched := b.times(50, 10), time.Duration(b.times(60, 30))*time.Second
	m, err := b.newMesh(ctx, "idle", "127.77.6", n)
	if err != nil {
		return err
	}
	defer m.close()
	if err := m.awaitVoters(ctx, 5); err != nil {
		return err
	}
	// One command, so that every part has been in use.
	roles, err := m.roles(ctx)
	if err != nil {
		return err
	}
	if _, err := m.client(roles.member).run(ctx, &command{script: floorCommand, maxConcurrency: "100%"}, n); err != nil {
		return err
	}
	if err := pause(ctx, 2*settled); err != nil {
		return err
	}
	t := &table{
		Title: fmt.Sprintf("At rest: %d nodes", n),
		Method: fmt.Sprintf("Every node a process, which has run one command; from %s later nobody asks anything for %s. Memory is VmRSS (PSS: shared pages divided among the processes that share them), read at the end; "+
			"CPU is utime and stime over that time, in per cent of one core.", 2*settled, watched),
		Floor: &floorCheck{What: "exec: `sh -c true` 50 times, two at a time", Unit: "ms"},
	}
	if t.Floor.Before, err = execFloor(50, b.times(15, 7)); err != nil {
		return err
	}
	if roles, err = m.roles(ctx); err != nil {
		return err
	}
	status, err := m.anyStatus(ctx)
	if err != nil {
		return err
	}
	kind := map[string]string{}
	for _, id := range status.Voters {
		kind[id] = "voter"
	}
	for _, id := range status.StandBys {
		kind[id] = "stand-by"
	}
	kind[roles.leader.id] = "leader"
	before := map[*node]time.Duration{}
	began := time.Now()
	for _, n := range m.nodes {
		if before[n], err = cpuTime(n.process.Process.Pid); err != nil {
			return err
		}
	}
	if err := pause(ctx, watched); err != nil {
		return err
	}
	over := time.Since(began)
	cpu, rss, pss := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	for _, n := range m.nodes {
		k := kind[n.id]
		if k == "" {
			k = "member"
		}
		used, err := cpuTime(n.process.Process.Pid)
		if err != nil {
			return err
		}
		resident, share, err := memory(n.process.Process.Pid)
		if err != nil {
			return err
		}
		cpu[k] = append(cpu[k], float64(used-before[n])/float64(over)*100)
		rss[k], pss[k] = append(rss[k], resident), append(pss[k], share)
	}
	if t.Floor.After, err = execFloor(50, b.times(15, 7)); err != nil {
		return err
	}
	limits := map[string]float64{"member": 30, "voter": 60, "stand-by": 60, "leader": 60}
	for _, k := range []string{"member", "stand-by", "voter", "leader"} {
		if len(rss[k]) == 0 {
			continue
		}
		r := t.add(k+", memory", "MiB", rss[k]).below(limits[k])
		r.note("PSS %s MiB; one value for each node", number(median(pss[k])))
		r = t.add(k+", CPU", "% of a core", cpu[k])
		if k == "member" {
			r.below(0.5)
		}
	}
	b.finish(t)
	return nil
}
