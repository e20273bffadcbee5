package leader

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

// activeCommand is a command that has not ended, in the engine's memory.
type activeCommand struct {
	command raftstore.Command
	input   *ssm.SendCommandInput
	// state is what the store has; the next commit's counters grow from it.
	state raftstore.CommandState
	// next is state with what is decided and not yet committed.
	next   raftstore.CommandState
	cancel raftstore.CommandCancel

	targets map[string]*activeTarget
	// open are the targets that are not terminal, in order of node ids.
	open []*activeTarget
	// endings counts the terminal invocations by StatusDetails.
	endings map[string]int

	// waiting are the nodes with a report in the queue.
	waiting map[string]bool
	// deadline is when time alone changes something.
	deadline time.Time
	// dirty: decide in the next round. mended: the nodes may have changed, look
	// whether they are still enrolled.
	dirty  bool
	mended bool
}

// activeTarget is one node of an active command.
type activeTarget struct {
	// invocation is as decided; outputs are dropped once a terminal one is stored.
	invocation raftstore.Invocation
	// counted is what the stored counters count for it.
	counted tally
	// changed: it differs from what is stored.
	changed  bool
	delivery *delivery
}

// loadCommand reads a command with everything that belongs to it. It returns nil
// when there is no such active command.
func loadCommand(r raftstore.Reader, id string) (*activeCommand, error) {
	state, err := raftstore.GetCommandState(r, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !state.FinishedAt.IsZero() {
		return nil, nil
	}
	command, err := raftstore.GetCommand(r, id)
	if err != nil {
		return nil, fmt.Errorf("load command %s: %w", id, err)
	}
	c := &activeCommand{
		command: command, state: state, next: state, input: &ssm.SendCommandInput{},
		targets: map[string]*activeTarget{}, endings: map[string]int{}, waiting: map[string]bool{},
		dirty: true, mended: true,
	}
	if err := json.Unmarshal(command.Input, c.input); err != nil {
		return nil, fmt.Errorf("load command %s: decode its input: %w", id, err)
	}
	if c.cancel, err = raftstore.GetCommandCancel(r, id); err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	err = raftstore.ScanInvocations(r, id, "", func(i raftstore.Invocation) bool {
		c.add(&activeTarget{invocation: slim(i), counted: tallyOf(&i)})
		return true
	})
	return c, err
}

// add takes up a target; callers add in order of node ids.
func (c *activeCommand) add(t *activeTarget) {
	c.targets[t.invocation.NodeID] = t
	if t.invocation.Terminal() {
		c.endings[t.invocation.StatusDetails]++
	} else {
		c.open = append(c.open, t)
	}
}

// slim drops the outputs of a terminal invocation: they are in the store, and a
// thousand of them would fill the memory.
func slim(i raftstore.Invocation) raftstore.Invocation {
	if i.Terminal() {
		i.Plugins, i.Reason = nil, ""
	}
	return i
}

// starts counts the targets that were dispatched, and those of them that have
// reported or ended.
func (c *activeCommand) starts() (started, heard int) {
	for _, t := range c.targets {
		if i := &t.invocation; !i.DispatchedAt.IsZero() {
			started++
			if i.Sequence > 0 || i.Terminal() {
				heard++
			}
		}
	}
	return started, heard
}

// change puts a decided invocation in place of the present one.
func (c *activeCommand) change(t *activeTarget, is raftstore.Invocation) {
	recount(&c.next, tallyOf(&t.invocation), tallyOf(&is))
	if is.Terminal() && !t.invocation.Terminal() {
		c.endings[is.StatusDetails]++
	}
	t.invocation, t.changed = is, true
}
