package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// engine owns every change to command states and invocations while this node
// leads. It has no goroutine and no clock of its own: dispatch.go tells it what
// happened, lets it decide and commit (round), and performs the calls that follow
// from what was committed (calls). Its memory is a copy of the store's active
// commands, and what it knows of deliveries.
type engine struct {
	store     Records
	members   Members
	platforms func(document json.RawMessage) []string
	settings  Settings
	log       *slog.Logger
	now       func() time.Time
	fence     func(term, epoch uint64) peer.Fence
	// jitter is in [0, 1).
	jitter func() float64

	term  uint64
	epoch uint64

	commands map[string]*activeCommand
	// touched are the commands with decisions that are not committed.
	touched map[string]*activeCommand
	// unreadable are active commands whose records this program cannot read.
	unreadable map[string]bool

	links    map[string]*link
	schedule schedule
	running  int
	// accused: a node says that a newer leader is there; nothing goes out until the
	// store has confirmed that it is not so.
	accused bool

	reports    []*reportCall
	reportsDue time.Time
	// limit is the size of a transaction, in bytes of keys and values.
	limit int
	// unknownPause is as the constant.
	unknownPause time.Duration
}

// txnLimit leaves room for preconditions under raftstore.MaxTxnSize. Larger
// entries delay Raft's heartbeats, smaller ones cost more syncs.
const txnLimit = 200 << 10

// reportCall is a node's reports and where the answer goes; done has room for it.
type reportCall struct {
	nodeID  string
	reports []peer.JobReport
	done    chan reportResult
}

type reportResult struct {
	unknown []string
	err     error
}

func newEngine(cfg Config, term uint64, jitter func() float64) *engine {
	return &engine{
		store: cfg.Store, members: cfg.Members, platforms: cfg.Platforms, settings: cfg.Settings,
		log: cfg.Log, now: cfg.Now, fence: cfg.fence, jitter: jitter, term: term,
		commands: map[string]*activeCommand{}, touched: map[string]*activeCommand{}, unreadable: map[string]bool{},
		links: map[string]*link{}, limit: txnLimit, unknownPause: unknownPause,
	}
}

// refresh looks for new commands, requests to cancel, and a new epoch. The first
// one of a term rebuilds the memory from the store.
func (e *engine) refresh() error {
	return e.store.View(func(r raftstore.Reader) error {
		mesh, err := raftstore.GetMesh(r)
		if err != nil {
			return fmt.Errorf("read the mesh's record: %w", err)
		}
		restored := mesh.Epoch != e.epoch
		e.epoch = mesh.Epoch
		active := map[string]bool{}
		for _, id := range raftstore.ActiveCommands(r) {
			active[id] = true
			c := e.commands[id]
			if c == nil {
				if err := e.load(r, id); err != nil {
					return err
				}
				continue
			}
			cancel, err := raftstore.GetCommandCancel(r, id)
			if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
				return err
			}
			if cancel.ModifyIndex != c.cancel.ModifyIndex {
				c.cancel, c.dirty = cancel, true
			}
			c.dirty = c.dirty || restored
		}
		for id, c := range e.commands {
			if !active[id] {
				e.drop(c) // ended by other hands
			}
		}
		return nil
	})
}

// load takes up an active command, or takes it up anew as the store has it now.
// What is known of deliveries stays.
func (e *engine) load(r raftstore.Reader, id string) error {
	was := e.commands[id]
	c, err := loadCommand(r, id)
	if err != nil {
		if !e.unreadable[id] {
			e.log.Error("an active command cannot be read and is left alone", "command", id, "error", err)
		}
		e.unreadable[id] = true
		return nil
	}
	if c == nil {
		if was != nil {
			e.drop(was)
		}
		return nil
	}
	delete(e.unreadable, id)
	if was != nil {
		for nodeID, t := range was.targets {
			switch now := c.targets[nodeID]; {
			case t.delivery == nil:
			case now == nil || !now.invocation.InFlight():
				e.forget(t.delivery)
			default:
				now.delivery = t.delivery
			}
		}
		c.waiting = was.waiting
	}
	e.commands[id] = c
	delete(e.touched, id)
	for _, t := range c.open {
		e.track(t, toAsk)
	}
	return nil
}

// drop forgets a command that has ended.
func (e *engine) drop(c *activeCommand) {
	for _, t := range c.targets {
		if t.delivery != nil {
			e.forget(t.delivery)
			t.delivery = nil
		}
	}
	delete(e.commands, c.command.ID)
	delete(e.touched, c.command.ID)
}

// nodesChanged: nodes may have been removed.
func (e *engine) nodesChanged() {
	for _, c := range e.commands {
		c.mended, c.dirty = true, true
	}
}

// membersChanged: nodes may have come or gone.
func (e *engine) membersChanged() {
	now := e.now()
	for _, c := range e.commands {
		c.dirty = true
	}
	for _, l := range e.links {
		alive := e.members.Alive(l.nodeID)
		if alive && !l.alive {
			l.tries, l.notBefore = 0, time.Time{}
			e.schedule.at(l, now)
		}
		l.alive = alive
	}
}

// takeReport queues a node's reports for the next round.
func (e *engine) takeReport(call *reportCall) {
	slices.SortStableFunc(call.reports, func(a, b peer.JobReport) int {
		switch {
		case a.Sequence < b.Sequence:
			return -1
		case a.Sequence > b.Sequence:
			return 1
		}
		return 0
	})
	e.reports = append(e.reports, call)
	now := e.now()
	if e.reportsDue.IsZero() {
		e.reportsDue = now.Add(e.settings.ReportDelay)
	}
	for i := range call.reports {
		c := e.commands[call.reports[i].CommandID]
		if c == nil {
			continue
		}
		c.waiting[call.nodeID] = true
		frees := !call.reports[i].FinishedAt.IsZero() && len(c.open) > c.state.InFlight
		if frees || len(c.waiting) >= c.state.InFlight {
			e.reportsDue = now
		}
	}
}

// round decides for every command that something happened to and commits. When
// it returns nil nothing decided is left uncommitted. Any error ends this
// engine's work in this term, unless the loop starts a new one.
func (e *engine) round(ctx context.Context) error {
	for range maxConflicts {
		again, err := e.attempt(ctx)
		if err != nil || !again {
			return err
		}
	}
	return errContended
}

// maxConflicts bounds how often a round is decided anew. The engine is the only
// writer, so a conflict means that its memory was wrong once.
const maxConflicts = 20

var errContended = errors.New("the records of commands keep changing under the leader")

func (e *engine) attempt(ctx context.Context) (again bool, err error) {
	now := e.now()
	for _, c := range e.commands {
		if !c.deadline.IsZero() && !now.Before(c.deadline) {
			c.dirty = true
		}
	}
	reporting := len(e.reports) > 0 && !now.Before(e.reportsDue)
	var late lateReports
	if reporting {
		if late, err = e.applyReports(now); err != nil {
			return false, err
		}
	}
	var dirty []*activeCommand
	for _, c := range e.commands {
		if c.dirty {
			dirty = append(dirty, c)
		}
	}
	slices.SortFunc(dirty, byAge)
	for _, c := range dirty {
		if err := e.decide(c, now); err != nil {
			return false, err
		}
		e.touched[c.command.ID] = c
	}
	conflict, err := e.commit(ctx, late.records, now)
	if err != nil || conflict {
		return conflict, err
	}
	if reporting {
		e.release(late)
	}
	return false, nil
}

func byAge(a, b *activeCommand) int {
	if n := a.command.RequestedAt.Compare(b.command.RequestedAt); n != 0 {
		return n
	}
	return strings.Compare(a.command.ID, b.command.ID)
}

// lateReports is what a round of reports comes to besides changes of active
// commands.
type lateReports struct {
	// records are invocations of ended commands with a new detail.
	records map[string]raftstore.Invocation
	unknown map[*reportCall][]string
	failed  map[*reportCall]error
}

// applyReports applies all queued reports in memory. It may be repeated.
func (e *engine) applyReports(now time.Time) (lateReports, error) {
	late := lateReports{records: map[string]raftstore.Invocation{}, unknown: map[*reportCall][]string{}, failed: map[*reportCall]error{}}
	err := e.store.View(func(r raftstore.Reader) error {
		for _, call := range e.reports {
			for _, report := range call.reports {
				if err := e.applyReport(r, call, report, &late, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return late, err
}

func (e *engine) applyReport(r raftstore.Reader, call *reportCall, report peer.JobReport, late *lateReports, now time.Time) error {
	c := e.commands[report.CommandID]
	if c == nil {
		return e.applyLate(r, call, report, late, now)
	}
	t := c.targets[call.nodeID]
	if t == nil {
		late.unknown[call] = append(late.unknown[call], report.CommandID)
		return nil
	}
	was := t.invocation
	if was.Terminal() && !t.changed {
		if report.Sequence <= was.Sequence {
			return nil
		}
		var err error
		if was, err = raftstore.GetInvocation(r, report.CommandID, call.nodeID); err != nil {
			return err
		}
	}
	if is, changed := applyReport(was, report, now); changed {
		c.change(t, is)
		c.dirty = true
	}
	if d := t.delivery; d != nil {
		d.phase, d.refused = accepted, ""
		e.schedule.at(e.links[d.nodeID], now)
	}
	return nil
}

// applyLate takes a report for a command that is not active.
func (e *engine) applyLate(r raftstore.Reader, call *reportCall, report peer.JobReport, late *lateReports, now time.Time) error {
	key := report.CommandID + "/" + call.nodeID
	was, found := late.records[key]
	if !found {
		var err error
		was, err = raftstore.GetInvocation(r, report.CommandID, call.nodeID)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
			late.unknown[call] = append(late.unknown[call], report.CommandID)
			return nil
		case err != nil:
			return err
		}
	}
	if !was.Terminal() {
		// Its command is active and not in memory, for now: nothing is acknowledged.
		late.failed[call] = &peer.Refusal{Kind: peer.RefusedUnavailable, Message: "the leader cannot take reports for command " + report.CommandID + " now"}
		return nil
	}
	if is, changed := applyReport(was, report, now); changed {
		late.records[key] = is
	}
	return nil
}

// release answers the queued reports; all they say is committed.
func (e *engine) release(late lateReports) {
	for _, call := range e.reports {
		for _, report := range call.reports {
			if c := e.commands[report.CommandID]; c != nil {
				delete(c.waiting, call.nodeID)
			}
		}
		call.done <- reportResult{unknown: late.unknown[call], err: late.failed[call]}
	}
	e.reports, e.reportsDue = nil, time.Time{}
}

// nextWake is when the engine has something to do without any event; zero when
// never.
func (e *engine) nextWake() time.Time {
	wake := e.reportsDue
	sooner := func(t time.Time) {
		if !t.IsZero() && (wake.IsZero() || t.Before(wake)) {
			wake = t
		}
	}
	for _, c := range e.commands {
		if c.dirty {
			sooner(e.now())
		}
		sooner(c.deadline)
	}
	if len(e.schedule) > 0 && e.running < e.settings.CallsInFlight && !e.accused {
		sooner(e.schedule[0].due)
	}
	return wake
}
