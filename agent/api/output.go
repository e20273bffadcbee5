package api

import (
	"context"
	"errors"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

const (
	// maxOutputWait is how long an answer is held until there is something to read.
	maxOutputWait = 10 * time.Second
	// maxOutputRead is how much one answer carries, in bytes.
	maxOutputRead = 256 << 10
	// outputSlack is what a node gets to answer on top of the wait.
	outputSlack = 10 * time.Second
)

// checkReadOutput refuses what cannot be read.
func (c *call) checkReadOutput(in *meshapi.ReadOutputInput) (*meshapi.ReadOutputOutput, error) {
	if in.Offset < 0 {
		return nil, refuse(codeValidation, "Offset must not be negative.")
	}
	_, err := c.outputSource(in)
	return nil, err
}

// mayReadOutput: root of a member reads what this node made.
func (c *call) mayReadOutput(in *meshapi.ReadOutputInput) error {
	return c.mayRead(&in.CommandId, &in.InstanceId)
}

// outputSource is where the output of a step lies at a moment.
type outputSource struct {
	node  raftstore.Node
	step  string
	fence peer.Fence
	// begun: the node was told to run it. ended: nothing will be written any more.
	begun, ended bool
}

func (c *call) outputSource(in *meshapi.ReadOutputInput) (outputSource, error) {
	var s outputSource
	command, state, err := c.getCommand(in.CommandId)
	if err != nil {
		return s, err
	}
	i, err := c.invocationOf(command, state, in.InstanceId)
	if err != nil {
		return s, err
	}
	if s.step, err = chooseStep(command, in.PluginName); err != nil {
		return s, err
	}
	meshRecord, err := c.readMesh()
	if err != nil {
		return s, err
	}
	s.fence = peer.Fence{Term: c.store.Term(), Epoch: meshRecord.Epoch}
	s.begun, s.ended = !i.DispatchedAt.IsZero(), i.Terminal()
	s.node, err = raftstore.GetNode(c, in.InstanceId)
	if errors.Is(err, raftstore.ErrNotFound) {
		return s, refuse(codeInvalidInstance, "%s is not enrolled in this mesh any more; its output went with it.", in.InstanceId)
	}
	return s, err
}

// readOutput fetches a part of a step's output from the node that has it. Before
// the step begins there is nothing; with Wait it waits for the beginning too. That
// a command was started on a node is committed before the node is told, by this
// leader or, when that one is lost, by the next: until then the node knows nothing.
func readOutput(ctx context.Context, c *call, in *meshapi.ReadOutputInput) (*meshapi.ReadOutputOutput, error) {
	watch := c.store.Watch(raftstore.InvocationPrefix(in.CommandId) + in.InstanceId)
	defer watch.Stop()
	end := time.NewTimer(maxOutputWait)
	defer end.Stop()
	for last := !in.Wait; ; {
		var source outputSource
		err := c.view(ctx, func() (err error) {
			source, err = c.outputSource(in)
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case source.begun:
			out, written, err := c.fetchOutput(ctx, in, source, !last)
			if err == nil && out.Ended && !written && len(out.Data) == 0 {
				err = c.view(ctx, func() error { return c.tellStep(in, source.step, out) })
			}
			if !errors.Is(err, errNotThere) || !in.Wait {
				return out, err
			}
		}
		if source.ended || last {
			return &meshapi.ReadOutputOutput{Data: []byte{}, NextOffset: in.Offset, Ended: source.ended}, nil
		}
		select {
		case <-watch.C:
		case <-end.C:
			last = true
		case <-ctx.Done():
			return nil, errUnavailable
		}
	}
}

// tellStep gives what the mesh knows of a step that wrote nothing: why it was
// skipped or refused.
func (c *call) tellStep(in *meshapi.ReadOutputInput, step string, out *meshapi.ReadOutputOutput) error {
	i, err := raftstore.GetInvocation(c, in.CommandId, in.InstanceId)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range i.Plugins {
		told, bytes := p.Stdout, p.StdoutBytes
		if in.Stderr {
			told, bytes = p.Stderr, p.StderrBytes
		}
		if p.Name == step && bytes == 0 {
			out.Data = []byte(told[min(in.Offset, int64(len(told))):])
			out.NextOffset = in.Offset + int64(len(out.Data))
		}
	}
	return nil
}

// errNotThere: the node has not been told yet to run it.
var errNotThere = refuse(codeValidation, "The command is on its way to the node, which has no output of it yet.")

// fetchOutput asks the node; written reports whether the output has a byte there.
func (c *call) fetchOutput(ctx context.Context, in *meshapi.ReadOutputInput, source outputSource, wait bool) (out *meshapi.ReadOutputOutput, written bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxOutputWait+outputSlack)
	defer cancel()
	plugin := in.PluginName
	if plugin == "" {
		plugin = source.step
	}
	got, err := c.face.cfg.Peers.Output(ctx, peer.Target{NodeID: source.node.ID, Address: source.node.Address}, &peer.OutputRequest{
		Fence: source.fence, CommandID: in.CommandId, Plugin: plugin, Stderr: in.Stderr,
		Offset: in.Offset, Limit: maxOutputRead, Wait: wait,
	})
	var refused *peer.Refusal
	switch {
	case err == nil:
		return &meshapi.ReadOutputOutput{Data: list(got.Data), NextOffset: in.Offset + int64(len(got.Data)), Ended: got.Ended}, got.Size > 0, nil
	case errors.As(err, &refused) && refused.Kind == peer.RefusedStaleTerm:
		return nil, false, raftstore.ErrNotLeader
	case errors.As(err, &refused) && refused.Kind == peer.RefusedInput && !source.ended:
		return nil, false, errNotThere
	case errors.As(err, &refused) && refused.Kind == peer.RefusedInput:
		return nil, false, refuse(codeValidation, "%s: %s", in.InstanceId, refused.Message)
	case errors.As(err, &refused):
		return nil, false, refuse("TargetNotConnected", "%s does not give its output: %s", in.InstanceId, refused.Message)
	default:
		c.face.cfg.Log.Debug("read output from a node", "request", c.id, "from", in.InstanceId, "error", err)
		return nil, false, refuse("TargetNotConnected", "%s is not connected: the whole output lies there and can be read when it is back. GetCommandInvocation has the first 24,000 characters, once it has reported them.", in.InstanceId)
	}
}
