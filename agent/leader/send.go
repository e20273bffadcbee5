package leader

import (
	"errors"
	"slices"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// track makes the delivery of a target follow its stored record: there is one
// while the invocation is in flight. first is the phase of a new one.
func (e *engine) track(t *activeTarget, first phase) {
	i := &t.invocation
	if !i.InFlight() {
		if t.delivery != nil {
			e.forget(t.delivery)
			t.delivery = nil
		}
		return
	}
	now := e.now()
	d := t.delivery
	if d == nil {
		d = &delivery{commandID: i.CommandID, nodeID: i.NodeID, phase: first}
		t.delivery = d
		l := e.links[i.NodeID]
		if l == nil {
			l = &link{nodeID: i.NodeID, deliveries: map[string]*delivery{}, alive: e.members.Alive(i.NodeID)}
			e.links[i.NodeID] = l
		}
		l.deliveries[i.CommandID] = d
		e.schedule.at(l, now)
	}
	if i.Cancelling && !d.cancel {
		d.cancel, d.cancelAt = true, now
		e.schedule.at(e.links[d.nodeID], now)
	}
	d.askBeforeCancel()
}

// askBeforeCancel: a job that is to be cancelled and may or may not be there is
// not sent again; it is asked for.
func (d *delivery) askBeforeCancel() {
	if d.cancel && d.phase == toSend && d.uncertain && !d.calling {
		d.phase = toAsk
	}
}

func (e *engine) forget(d *delivery) {
	l := e.links[d.nodeID]
	if l == nil || l.deliveries[d.commandID] != d {
		return
	}
	delete(l.deliveries, d.commandID)
	e.prune(l)
}

// prune forgets a link without work. One that is on the schedule is forgotten when
// its turn comes, one with a call when that is answered.
func (e *engine) prune(l *link) {
	if len(l.deliveries) == 0 && !l.busy && l.due.IsZero() {
		delete(e.links, l.nodeID)
	}
}

// calls returns what to call now, as far as the bound on calls in flight allows.
// Each must be answered by takeAnswer.
func (e *engine) calls() ([]*call, error) {
	var out []*call
	now := e.now()
	for e.running < e.settings.CallsInFlight && len(e.schedule) > 0 && !e.accused {
		if e.schedule[0].due.After(now) {
			break
		}
		l := e.schedule.pop()
		if len(l.deliveries) == 0 || l.busy {
			e.prune(l)
			continue
		}
		if !e.members.Alive(l.nodeID) {
			l.alive = false // membersChanged puts it on the schedule again
			continue
		}
		l.alive = true
		if now.Before(l.notBefore) {
			e.schedule.at(l, l.notBefore)
			continue
		}
		c, err := e.nextCall(l, now)
		if err != nil {
			return out, err
		}
		if c != nil {
			l.busy = true
			e.running++
			out = append(out, c)
		}
	}
	return out, nil
}

// nextCall is the link's most urgent call, nil when it has none now.
func (e *engine) nextCall(l *link, now time.Time) (*call, error) {
	for _, d := range l.deliveries {
		if c := e.commands[d.commandID]; d.phase == toSend && !now.Before(c.command.DeliverUntil) {
			// Too late to start. It ends, once it is certain that it is not there.
			if d.uncertain {
				d.phase = toAsk
			}
			c.dirty = true
		}
	}
	w := workOf(l, now)
	c := &call{nodeID: l.nodeID, fence: e.fence(e.term, e.epoch)}
	var chosen []*delivery
	switch {
	case len(w.ask) > 0:
		c.kind, chosen = callStates, w.ask
	case len(w.cancel) > 0:
		c.kind, chosen = callCancel, w.cancel
	default:
		c.kind = callJobs
		for size := 0; len(w.send) > len(chosen); {
			d := w.send[len(chosen)]
			command := e.commands[d.commandID]
			if !now.Before(command.command.DeliverUntil) {
				w.send = slices.Delete(w.send, len(chosen), len(chosen)+1)
				continue
			}
			size += len(command.command.Document) + len(command.command.Input) + 1<<10
			for _, nested := range command.command.Nested {
				size += len(nested.Content)
			}
			if len(chosen) > 0 && (l.solo || size > maxJobBytes) {
				break
			}
			chosen = append(chosen, d)
			c.jobs = append(c.jobs, jobFor(command, d.nodeID, now))
		}
	}
	if len(chosen) == 0 {
		if !w.next.IsZero() {
			e.schedule.at(l, w.next)
		}
		return nil, nil
	}
	err := e.store.View(func(r raftstore.Reader) error {
		node, err := raftstore.GetNode(r, l.nodeID)
		c.target = peer.Target{NodeID: node.ID, Address: node.Address}
		return err
	})
	if errors.Is(err, raftstore.ErrNotFound) {
		for _, d := range l.deliveries {
			command := e.commands[d.commandID]
			command.mended, command.dirty = true, true
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, d := range chosen[:min(len(chosen), maxIDsPerCall)] {
		d.calling = true
		c.ids = append(c.ids, d.commandID)
	}
	if c.kind == callJobs {
		c.jobs = c.jobs[:len(c.ids)]
	}
	return c, nil
}

func jobFor(c *activeCommand, nodeID string, now time.Time) peer.Job {
	return peer.Job{
		CommandID: c.command.ID, NodeID: nodeID,
		DocumentName: c.command.DocumentName, DocumentVersion: c.command.DocumentVersion, Document: c.command.Document, Nested: c.command.Nested,
		Parameters:  c.input.Parameters,
		StartWithin: c.command.DeliverUntil.Sub(now), ExpiresWithin: c.command.ExpiresAt.Sub(now), Epoch: c.command.Epoch,
	}
}

// takeAnswer takes what became of a call.
func (e *engine) takeAnswer(a answer) {
	now := e.now()
	e.running--
	l := e.links[a.call.nodeID]
	l.busy = false
	told := map[string]peer.JobAnswer{}
	for _, job := range a.answers {
		told[job.CommandID] = job
	}
	failure := hadNoEffect
	if a.err != nil {
		failure = outcomeOf(a.err)
	}
	for _, id := range a.call.ids {
		d := l.deliveries[id]
		if d == nil {
			continue // it ended meanwhile
		}
		d.calling = false
		c := e.commands[id]
		switch {
		case a.err == nil && a.call.kind == callJobs:
			job, ok := told[id]
			switch {
			case !ok:
				d.uncertain, d.tried = true, true
			case job.Refused != "" && d.phase != accepted:
				d.refused, d.tooLate = job.Refused, job.TooLate || !now.Before(c.command.DeliverUntil)
				if c.dirty = true; d.uncertain {
					// An earlier attempt may still arrive, and be taken.
					d.phase, d.unknownSince, d.askAt = toAsk, now, now.Add(e.settings.RetryMost)
				}
			case job.Refused == "":
				d.phase, d.refused = accepted, ""
			}
		case a.err == nil && a.call.kind == callCancel:
			d.cancelAt = now.Add(backoff(e.settings, d.cancelTries, e.jitter()))
			d.cancelTries++
		case a.err == nil && a.call.kind == callStates:
			e.takeState(c, d, slices.Contains(a.unknown, id), now)
		case a.call.kind == callJobs && failure == isMalformed && len(a.call.ids) == 1:
			d.refused, c.dirty = a.err.Error(), true
		case a.call.kind == callJobs:
			d.tried = true
			if failure == isUnknown {
				d.uncertain, d.unknownSince = true, time.Time{}
			}
			c.dirty = true // it may be recalled
		}
		d.askBeforeCancel()
		c.dirty = c.dirty || d.cancel && d.unsent()
	}
	switch {
	case a.err == nil:
		l.tries, l.notBefore = 0, time.Time{}
	case failure == isMalformed && len(a.call.ids) > 1:
		l.solo = true
	default:
		if failure == isStale {
			e.accused = true
		}
		e.log.Debug("call to a node failed", "node", l.nodeID, "tries", l.tries+1, "error", a.err)
		l.notBefore = now.Add(backoff(e.settings, l.tries, e.jitter()))
		l.tries++
	}
	if len(l.deliveries) == 0 {
		e.prune(l)
		return
	}
	e.schedule.at(l, later(now, l.notBefore))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// takeState takes a node's word on whether it has the job.
func (e *engine) takeState(c *activeCommand, d *delivery, unknown bool, now time.Time) {
	switch {
	case d.phase == accepted:
	case !unknown:
		d.phase, d.refused = accepted, ""
	case !d.uncertain:
		d.phase, c.dirty = toSend, true
	case d.unknownSince.IsZero():
		d.unknownSince, d.askAt = now, now.Add(e.settings.RetryMost)
		if !d.cancel && d.refused == "" && now.Before(c.command.DeliverUntil) {
			d.phase = toSend
		}
	case now.Sub(d.unknownSince) >= e.settings.RetryMost:
		d.phase, d.uncertain, c.dirty = toSend, false, true
	}
}

// acquitted ends an accusation: the store has confirmed this leader.
func (e *engine) acquitted() { e.accused = false }
