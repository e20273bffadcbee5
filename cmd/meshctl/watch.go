package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"fleetmesh/agent/meshapi"
)

// course is how far a command is, as its watcher knows it.
type course struct {
	commandID string
	state     meshapi.WatchCommandOutput // its Invocations are only the last changes
	nodes     map[string]meshapi.InvocationChange
}

// apply takes in an answer of Mesh.WatchCommand.
func (c *course) apply(out *meshapi.WatchCommandOutput) {
	c.state = *out
	for _, change := range out.Invocations {
		c.nodes[change.InstanceId] = change
	}
}

// invocations are the nodes in the order of a table: what went well, then what
// goes on, the failures last; by name within each.
func (c *course) invocations() []meshapi.InvocationChange {
	all := make([]meshapi.InvocationChange, 0, len(c.nodes))
	for _, i := range c.nodes {
		all = append(all, i)
	}
	slices.SortFunc(all, func(x, y meshapi.InvocationChange) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.InstanceId, y.InstanceId))
	})
	return all
}

// rank is 0 for what went well, 1 for what goes on, 2 for a failure.
func rank(i meshapi.InvocationChange) int {
	switch {
	case i.Status == "Success":
		return 0
	case !ended(i.Status):
		return 1
	}
	return 2
}

// ended reports whether an invocation with this status is over.
func ended(status string) bool {
	switch status {
	case "", "Pending", "InProgress", "Delayed", "Cancelling":
		return false
	}
	return true
}

// verdict is nil when the command is done with success on every target, else an
// outcome that says what is missing.
func (c *course) verdict() error {
	s := c.state
	details := cmp.Or(s.StatusDetails, s.Status)
	switch {
	case !s.Done:
		return &outcome{exit: exitNotAll, code: details, message: fmt.Sprintf("the command is not done yet (%s)", details)}
	case s.TargetCount == 0:
		return &outcome{exit: exitNotAll, code: cmp.Or(details, "NoInstancesInTag"), message: "nothing ran: no node matches the targets; `meshctl node list` shows the nodes and their tags"}
	}
	succeeded := 0
	for _, i := range c.nodes {
		if i.Status == "Success" {
			succeeded++
		}
	}
	if s.Status == "Success" && succeeded >= s.TargetCount {
		return nil
	}
	return &outcome{exit: exitNotAll, code: details, message: fmt.Sprintf("success on %d of %s", succeeded, count(s.TargetCount, "node"))}
}

// watcher follows a command by long polls.
type watcher struct {
	// poll is Mesh.WatchCommand.
	poll func(context.Context, *meshapi.WatchCommandInput) (*meshapi.WatchCommandOutput, error)
	// changed is told of every answer; trouble, once, when the mesh does not
	// answer, and again (with nil) when it does. Both are called by follow.
	changed func(*course)
	trouble func(error)
	// patience is how long the mesh may be without an answer, pause the rest
	// between two questions that brought nothing.
	patience, pause time.Duration
}

// longPoll is how long one question may wait, in seconds: the most that the mesh
// allows.
const longPoll = 20

// watchPatience outlasts an election and the restart of a node by far. The command
// goes on in any case.
const watchPatience = 2 * time.Minute

// newWatcher watches over c; say is told of trouble.
func newWatcher(c *client, changed func(*course), say func(text string)) *watcher {
	return &watcher{
		poll: c.mesh.WatchCommand, changed: changed, patience: watchPatience, pause: time.Second,
		trouble: func(err error) { say(troubleText(err)) },
	}
}

// troubleText tells that the mesh does not answer, or does again.
func troubleText(err error) string {
	if err == nil {
		return "meshctl: it answers again"
	}
	who := "the mesh"
	if isAway(err) {
		who = "the node"
	}
	return fmt.Sprintf("meshctl: %s does not answer (%s); what it does goes on, still trying", who, cell(explain(err, false).Message))
}

// follow watches until the command is done. The course is as far as was seen,
// also with an error.
func (w *watcher) follow(ctx context.Context, commandID string) (*course, error) {
	c := &course{commandID: commandID, nodes: make(map[string]meshapi.InvocationChange)}
	answered, silent := time.Now(), false
	for {
		asked := time.Now()
		out, err := w.poll(ctx, &meshapi.WatchCommandInput{CommandId: commandID, AfterIndex: c.state.Index, WaitSeconds: longPoll})
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		if err != nil {
			if !passing(err) || time.Since(answered) > w.patience {
				return c, err
			}
			if !silent {
				silent = true
				w.trouble(err)
			}
			if err := sleep(ctx, w.pause); err != nil {
				return c, err
			}
			continue
		}
		answered = time.Now()
		if silent {
			silent = false
			w.trouble(nil)
		}
		nothingNew := out.Index <= c.state.Index && !out.More && !out.Done
		c.apply(out)
		w.changed(c)
		if out.Done && !out.More {
			return c, nil
		}
		if nothingNew && time.Since(asked) < w.pause { // a mesh that does not wait is not to be pelted
			if err := sleep(ctx, w.pause); err != nil {
				return c, err
			}
		}
	}
}

// look asks once where a command is, in as many answers as that takes.
func (w *watcher) look(ctx context.Context, commandID string) (*course, error) {
	c := &course{commandID: commandID, nodes: make(map[string]meshapi.InvocationChange)}
	for {
		out, err := w.poll(ctx, &meshapi.WatchCommandInput{CommandId: commandID, AfterIndex: c.state.Index})
		if err != nil {
			return c, err
		}
		moved := out.Index > c.state.Index
		c.apply(out)
		if !out.More || !moved {
			return c, nil
		}
	}
}

// passing reports whether an error may be over in a moment: the mesh is without
// an answer, but has not refused.
func passing(err error) bool {
	f := explain(err, false)
	return f.Exit == exitUnreachable || f.Code == "ThrottlingException" || f.Code == "InternalServerError"
}

// sleep waits, or returns the context's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
