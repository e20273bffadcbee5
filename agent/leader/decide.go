package leader

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

// decide brings a command, in memory, to where it can be at this moment: resolved,
// cancelled, expired, stopped, the next batch started, or ended.
func (e *engine) decide(c *activeCommand, now time.Time) error {
	c.dirty = false
	if !c.next.Resolved {
		if err := e.resolve(c, now); err != nil {
			return err
		}
	}
	removed := map[string]bool{}
	if c.mended {
		if err := e.findRemoved(c, removed); err != nil {
			return err
		}
		c.mended = false
	}
	if c.cancel.All {
		c.next.Cancelling = true
	}
	e.settle(c, removed, now)
	if !c.next.Stopped && overThreshold(c.next) {
		c.next.Stopped = true
		e.settle(c, removed, now)
	}
	var pending []string
	for _, t := range c.open {
		if !t.invocation.InFlight() {
			pending = append(pending, t.invocation.NodeID)
		}
	}
	most := len(pending)
	if e.settings.RampUp {
		most = rampUp(c.starts())
	}
	for _, id := range nextBatch(c.next, pending, most, e.members.Alive) {
		t := c.targets[id]
		is := t.invocation
		is.DispatchedAt = now
		is.Status, is.StatusDetails = invocationInProgress, detailInProgress
		c.change(t, is)
	}
	c.next.Status, c.next.StatusDetails = runningStatus(c.next)
	c.deadline = nextDeadline(c.command, now)
	if len(c.open) == 0 {
		c.next.Status, c.next.StatusDetails = finalStatus(c.next, c.endings)
		c.next.FinishedAt = now
		c.deadline = time.Time{}
	}
	return nil
}

// resolve makes the invocations of all targets. After an earlier leader's
// unfinished attempt it adds what is missing; the limits once committed stay.
func (e *engine) resolve(c *activeCommand, now time.Time) error {
	var nodes []raftstore.Node
	var input *ssm.SendCommandInput
	err := e.store.View(func(r raftstore.Reader) (err error) {
		input, err = named(c.input, func(id string) ([]string, error) { return raftstore.UnsuccessfulNodes(r, id) })
		if err != nil {
			return err
		}
		if byTags(input) {
			return raftstore.ScanNodes(r, "", func(n raftstore.Node) bool {
				nodes = append(nodes, n)
				return true
			})
		}
		for _, id := range explicitIDs(input) {
			n, err := raftstore.GetNode(r, id)
			if errors.Is(err, raftstore.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			nodes = append(nodes, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var platforms []string
	if e.platforms != nil {
		platforms = e.platforms(c.command.Document)
	}
	for _, found := range resolve(nodes, input, platforms) {
		if c.targets[found.nodeID] != nil {
			continue
		}
		invocation := raftstore.Invocation{
			CommandID: c.command.ID, NodeID: found.nodeID, NodeName: found.name, RequestedAt: c.command.RequestedAt,
			Status: invocationPending, StatusDetails: detailPending,
		}
		t := &activeTarget{invocation: invocation, changed: true}
		switch {
		case found.missing:
			c.change(t, ended(invocation, invocationFailed, detailUndeliverable, "the node was removed from the mesh", now))
		case found.misfit:
			c.change(t, ended(invocation, invocationFailed, detailInvalidPlatform,
				"the document is for "+strings.Join(platforms, ", ")+" and the node is "+found.platform, now))
		default:
			c.open = append(c.open, t)
		}
		c.targets[found.nodeID] = t
	}
	slices.SortFunc(c.open, func(a, b *activeTarget) int { return strings.Compare(a.invocation.NodeID, b.invocation.NodeID) })
	c.next.Resolved = true
	c.next.TargetCount = len(c.targets)
	if c.state.MaxConcurrency == 0 {
		c.next.MaxConcurrency = maxConcurrency(c.input.MaxConcurrency, len(c.targets))
		c.next.MaxErrors = maxErrors(c.input.MaxErrors, len(c.targets))
	}
	return nil
}

// findRemoved looks which nodes of open targets are enrolled no more.
func (e *engine) findRemoved(c *activeCommand, removed map[string]bool) error {
	return e.store.View(func(r raftstore.Reader) error {
		for _, t := range c.open {
			_, err := raftstore.GetNode(r, t.invocation.NodeID)
			switch {
			case errors.Is(err, raftstore.ErrNotFound):
				removed[t.invocation.NodeID] = true
			case err != nil:
				return err
			}
		}
		return nil
	})
}

// settle ends, cancels or recalls open targets, and drops the ended ones from the
// open.
func (e *engine) settle(c *activeCommand, removed map[string]bool, now time.Time) {
	for _, t := range c.open {
		s := situation{removed: removed[t.invocation.NodeID], alive: e.members.Alive(t.invocation.NodeID)}
		if d := t.delivery; d != nil {
			s.unsent, s.tried = d.unsent(), d.tried
			if !d.uncertain {
				s.refused, s.tooLate = d.refused, d.tooLate
			}
		}
		if wantsCancel(c.cancel, t.invocation.NodeID) || c.cancel.Waiting && !t.invocation.InFlight() {
			if is, changed := cancel(t.invocation, now); changed {
				c.change(t, is)
			}
		}
		if is, changed := settle(t.invocation, c.command, c.next, e.epoch, s, now); changed {
			c.change(t, is)
		}
	}
	c.open = slices.DeleteFunc(c.open, func(t *activeTarget) bool { return t.invocation.Terminal() })
}
