package leader

import (
	"context"
	"fmt"
	"sync"
	"time"

	"fleetmesh/raftstore"
)

// dispatcher is the loop around the engine: it waits for events, lets the engine
// decide and commit, and performs its calls.
type dispatcher struct {
	cfg    Config
	term   uint64
	reign  *reign
	jitter func() float64

	answers chan answer
	// performing are the calls in flight; they end with the loop.
	performing sync.WaitGroup
}

func newDispatcher(cfg Config, term uint64, r *reign, jitter func() float64) *dispatcher {
	return &dispatcher{cfg: cfg, term: term, reign: r, jitter: jitter}
}

// run runs one engine until ctx ends or something goes wrong.
func (d *dispatcher) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	d.answers = make(chan answer, d.cfg.Settings.CallsInFlight)
	defer func() {
		stop()
		d.performing.Wait()
	}()
	commands := d.cfg.Store.Watch(raftstore.ActiveCommandPrefix, raftstore.CommandCancelPrefix)
	defer commands.Stop()
	nodes := d.cfg.Store.Watch(raftstore.RosterKey)
	defer nodes.Stop()
	members, unsubscribe := d.cfg.Members.Subscribe()
	defer unsubscribe()

	e := newEngine(d.cfg, d.term, d.jitter)
	defer func() { e.abandon(notLeading()) }()
	if err := e.refresh(); err != nil {
		return err
	}
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		if err := d.work(ctx, e); err != nil {
			return err
		}
		wake.Reset(d.pause(e))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake.C:
		case <-commands.C:
			if err := e.refresh(); err != nil {
				return err
			}
		case <-nodes.C:
			e.nodesChanged()
		case <-members:
			e.membersChanged()
		case call := <-d.reign.reports:
			e.takeReport(call)
		case a := <-d.answers:
			e.takeAnswer(a)
		}
		d.drain(e)
	}
}

// work commits what there is to decide and starts the calls that follow.
func (d *dispatcher) work(ctx context.Context, e *engine) error {
	if e.accused {
		// A node says that it has seen a newer leader. A thief of its key may say so
		// too; a majority decides.
		if err := d.cfg.Store.ConfirmedView(ctx, func(raftstore.Reader) error { return nil }); err != nil {
			return fmt.Errorf("%w: a node has seen a newer leader, and a majority does not confirm this one: %w", raftstore.ErrNotLeader, err)
		}
		e.acquitted()
	}
	if err := e.round(ctx); err != nil {
		return err
	}
	calls, err := e.calls()
	for _, c := range calls {
		d.performing.Go(func() {
			if err := orderPatches(ctx, d.cfg.Store, c.jobs, d.cfg.Now()); err != nil {
				d.answers <- answer{call: c, err: err}
				return
			}
			d.answers <- c.perform(ctx, d.cfg.Peers, d.cfg.Settings.CallTimeout) // there is room for each call in flight
		})
	}
	return err
}

// drain takes what else has come meanwhile, so that one round serves it all.
func (d *dispatcher) drain(e *engine) {
	for {
		select {
		case call := <-d.reign.reports:
			e.takeReport(call)
		case a := <-d.answers:
			e.takeAnswer(a)
		default:
			return
		}
	}
}

// idlePause bounds the wait for events, so that a jump of the clock is noticed.
const idlePause = 10 * time.Second

func (d *dispatcher) pause(e *engine) time.Duration {
	next := e.nextWake()
	if next.IsZero() {
		return idlePause
	}
	return min(max(next.Sub(d.cfg.Now()), 0), idlePause)
}

// abandon answers the queued reports with an error: they must be sent again.
func (e *engine) abandon(err error) {
	for _, call := range e.reports {
		call.done <- reportResult{err: err}
	}
	e.reports = nil
}
