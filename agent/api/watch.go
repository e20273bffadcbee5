package api

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/raftstore"
)

const (
	maxWatch = 20 * time.Second
	// watchPause is how long a watch waits for more to come when something has
	// changed, so that a large command is not told node by node. The end of a command
	// does not wait.
	watchPause = 100 * time.Millisecond
	// maxChanges is how many invocations one answer lists, more only when one
	// commit has changed more.
	maxChanges = 500
	// maxFirstLine is in characters.
	maxFirstLine = 200
)

// checkWatch refuses a watch that cannot be.
func (c *call) checkWatch(in *meshapi.WatchCommandInput) (*meshapi.WatchCommandOutput, error) {
	if in.WaitSeconds < 0 || time.Duration(in.WaitSeconds)*time.Second > maxWatch {
		return nil, refuse(codeValidation, "WaitSeconds is 0 to %d.", int(maxWatch.Seconds()))
	}
	_, _, err := c.getCommand(in.CommandId)
	return nil, err
}

// mayWatch: root of a member may watch what runs on this node alone.
func (c *call) mayWatch(in *meshapi.WatchCommandInput) error {
	return c.mayRead(&in.CommandId, nil)
}

// watchCommand answers when there is something new, or when the time is over.
func watchCommand(ctx context.Context, c *call, in *meshapi.WatchCommandInput) (*meshapi.WatchCommandOutput, error) {
	watch := c.store.Watch(raftstore.InvocationPrefix(in.CommandId), raftstore.CommandStateKey(in.CommandId))
	defer watch.Stop()
	// A command that ends is active no more.
	ended := c.store.Watch(raftstore.ActiveCommandPrefix + in.CommandId)
	defer ended.Stop()
	end := time.NewTimer(time.Duration(in.WaitSeconds) * time.Second)
	defer end.Stop()
	for last := in.WaitSeconds == 0; ; {
		var out *meshapi.WatchCommandOutput
		var news bool
		err := c.view(ctx, func() (err error) {
			out, news, err = c.commandNews(in.CommandId, in.AfterIndex)
			return err
		})
		if err != nil || news || last {
			return out, err
		}
		select {
		case <-watch.C:
		case <-end.C:
			last = true
			continue
		case <-ctx.Done():
			return nil, errUnavailable
		}
		rest := time.NewTimer(c.face.watchPause)
		select {
		case <-rest.C:
		case <-ended.C:
			rest.Stop()
		case <-ctx.Done():
			rest.Stop()
			return nil, errUnavailable
		}
	}
}

// commandNews is a command's state and what changed after an index; news is false
// when nothing did.
func (c *call) commandNews(id string, after uint64) (out *meshapi.WatchCommandOutput, news bool, err error) {
	command, state, err := c.getCommand(id)
	if err != nil {
		return nil, false, err
	}
	described, err := describeCommand(command, state)
	if err != nil {
		return nil, false, err
	}
	out = &meshapi.WatchCommandOutput{
		Index: c.Index(), Status: state.Status, StatusDetails: state.StatusDetails, Resolved: state.Resolved,
		TargetCount: int(described.TargetCount), CompletedCount: state.CompletedCount, ErrorCount: state.ErrorCount,
		DeliveryTimedOutCount: state.DeliveryTimedOutCount, InFlight: state.InFlight, Done: !state.FinishedAt.IsZero(),
		Invocations: []meshapi.InvocationChange{},
	}
	// The keys alone say what changed: a big command's unchanged invocations are not
	// decoded over and over.
	var changed []changedKey
	prefix := raftstore.InvocationPrefix(id)
	c.Scan(prefix, "", func(key string, _ []byte, index uint64) bool {
		if index > after {
			changed = append(changed, changedKey{nodeID: strings.TrimPrefix(key, prefix), index: index})
		}
		return true
	})
	page, upTo, more := cutChanges(changed, maxChanges)
	if more {
		out.Index, out.More = upTo, true
	}
	for _, k := range page {
		i, err := raftstore.GetInvocation(c, id, k.nodeID)
		if err != nil {
			return nil, false, err
		}
		out.Invocations = append(out.Invocations, describeChange(i))
	}
	return out, len(page) > 0 || state.ModifyIndex > after, nil
}

type changedKey struct {
	nodeID string
	index  uint64
}

// cutChanges orders changes by when they happened and keeps the first limit, and
// those that happened together with the last of them: who asks again for what
// came after upTo misses none.
func cutChanges(changed []changedKey, limit int) (page []changedKey, upTo uint64, more bool) {
	slices.SortFunc(changed, func(a, b changedKey) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.nodeID, b.nodeID))
	})
	if len(changed) <= limit {
		return changed, 0, false
	}
	end := limit
	for end < len(changed) && changed[end].index == changed[limit-1].index {
		end++
	}
	return changed[:end], changed[end-1].index, end < len(changed)
}

func describeChange(i raftstore.Invocation) meshapi.InvocationChange {
	return meshapi.InvocationChange{
		InstanceId: i.NodeID, Name: i.NodeName, Status: i.Status, StatusDetails: i.StatusDetails,
		ResponseCode: invocationCode(i.Plugins), StartedAt: optionalTime(i.StartedAt), FinishedAt: optionalTime(i.FinishedAt),
		FirstLine: firstLine(i.Plugins), Reason: i.Reason,
	}
}

// failedStep is the index of the first step that has not ended well, -1 for none.
func failedStep(plugins []raftstore.PluginResult) int {
	return slices.IndexFunc(plugins, func(p raftstore.PluginResult) bool {
		return !p.FinishedAt.IsZero() && p.Status != string(types.CommandPluginStatusSuccess)
	})
}

// invocationCode is the exit code that tells how an invocation went: that of the
// first step that failed, else of the last that ended; -1 before any has.
func invocationCode(plugins []raftstore.PluginResult) int {
	if failed := failedStep(plugins); failed >= 0 {
		return plugins[failed].ResponseCode
	}
	code := notEnded
	for _, p := range plugins {
		if !p.FinishedAt.IsZero() {
			code = p.ResponseCode
		}
	}
	return code
}

// firstLine is the first line that a step wrote, of its errors when it wrote
// nothing else. Where a step has not ended well, it is that of this step, and of its
// errors first: they say why.
func firstLine(plugins []raftstore.PluginResult) string {
	stdout := func(p raftstore.PluginResult) string { return p.Stdout }
	stderr := func(p raftstore.PluginResult) string { return p.Stderr }
	streams := []func(raftstore.PluginResult) string{stdout, stderr}
	if failed := failedStep(plugins); failed >= 0 {
		plugins, streams = plugins[failed:failed+1], []func(raftstore.PluginResult) string{stderr, stdout}
	}
	for _, stream := range streams {
		for _, p := range plugins {
			line, _, _ := strings.Cut(strings.TrimLeft(stream(p), "\r\n"), "\n")
			if line = strings.TrimRight(line, "\r"); line != "" {
				return firstCharacters(line, maxFirstLine)
			}
		}
	}
	return ""
}
