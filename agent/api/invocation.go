package api

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

const (
	// Limits of what is shown of a step's output, in characters.
	maxStdout       = 24000
	maxStderr       = 8000
	maxPluginOutput = 2500

	// notEnded is ResponseCode until there is one.
	notEnded = -1
)

func (c *call) listCommandInvocations(in *ssm.ListCommandInvocationsInput) (*ssm.ListCommandInvocationsOutput, error) {
	filter, err := parseCommandFilters(in.Filters, invocationStatuses, false)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	l := invocationList{call: c, filter: filter, details: in.Details, limit: pageSize(in.MaxResults), found: []types.CommandInvocation{}}
	switch {
	case in.CommandId != nil && in.InstanceId != nil:
		err = l.one(*in.CommandId, *in.InstanceId)
	case in.CommandId != nil:
		err = l.ofCommand(*in.CommandId, start)
	case in.InstanceId != nil:
		err = l.ofNode(*in.InstanceId, start)
	default:
		err = l.all(start)
	}
	if err != nil {
		return nil, err
	}
	token, err := c.nextPage(&bound, l.next)
	return &ssm.ListCommandInvocationsOutput{CommandInvocations: l.found, NextToken: token}, err
}

// mayListInvocations: root of a member sees what ran on this node.
func (c *call) mayListInvocations(in *ssm.ListCommandInvocationsInput) error {
	return c.mayRead(in.CommandId, in.InstanceId)
}

// invocationList gathers a page of invocations.
type invocationList struct {
	*call
	filter   commandFilter
	details  bool
	limit    int
	found    []types.CommandInvocation
	examined int
	// next is the position of the first invocation that is not in the page.
	next string
}

// full reports whether the page ends before the invocation at position.
func (l *invocationList) full(position string) bool {
	if len(l.found) < l.limit && l.examined < maxExamined {
		l.examined++
		return false
	}
	l.next = position
	return true
}

func (l *invocationList) add(command raftstore.Command, in *ssm.SendCommandInput, i raftstore.Invocation) {
	if l.filter.matches(command.RequestedAt, command.DocumentName, i.Status, i.StatusDetails) {
		l.found = append(l.found, describeInvocation(command, in, i, l.details))
	}
}

func (l *invocationList) one(commandID, nodeID string) error {
	i, err := raftstore.GetInvocation(l, commandID, nodeID)
	if errors.Is(err, raftstore.ErrNotFound) {
		return l.checkNodeOf(commandID, nodeID)
	}
	if err != nil {
		return err
	}
	command, _, err := l.getCommand(commandID)
	if err != nil {
		return err
	}
	in, err := commandInput(command)
	if err == nil {
		l.add(command, in, i)
	}
	return err
}

func (l *invocationList) ofCommand(commandID, start string) error {
	command, _, err := l.getCommand(commandID)
	if err != nil {
		return err
	}
	in, err := commandInput(command)
	if err != nil {
		return err
	}
	return raftstore.ScanInvocations(l, commandID, start, func(i raftstore.Invocation) bool {
		if l.full(i.NodeID) {
			return false
		}
		l.add(command, in, i)
		return true
	})
}

func (l *invocationList) ofNode(nodeID, start string) error {
	if err := l.checkKnownNode(nodeID); err != nil {
		return err
	}
	var failed error
	raftstore.ScanNodeInvocations(l, nodeID, start, func(position, commandID string) bool {
		if l.full(position) {
			return false
		}
		if !l.kept(commandID) {
			return true
		}
		failed = l.one(commandID, nodeID)
		return failed == nil
	})
	return failed
}

// allSeparator parts the command's position from the node id in a position of
// the list of all invocations; neither contains it.
const allSeparator = " "

func (l *invocationList) all(start string) error {
	from, node, _ := strings.Cut(start, allSeparator)
	var failed error
	raftstore.ScanCommands(l, from, func(position, commandID string) bool {
		command, _, err := l.getCommand(commandID)
		if err != nil {
			failed = err
			return false
		}
		in, err := commandInput(command)
		if err != nil {
			failed = err
			return false
		}
		first := ""
		if position == from {
			first = node
		}
		if l.full(position + allSeparator + first) { // a command without invocations counts too
			return false
		}
		failed = raftstore.ScanInvocations(l, commandID, first, func(i raftstore.Invocation) bool {
			if l.full(position + allSeparator + i.NodeID) {
				return false
			}
			l.add(command, in, i)
			return true
		})
		return failed == nil && l.next == ""
	})
	return failed
}

func describeInvocation(command raftstore.Command, in *ssm.SendCommandInput, i raftstore.Invocation, details bool) types.CommandInvocation {
	out := types.CommandInvocation{
		CommandId: &command.ID, InstanceId: &i.NodeID, InstanceName: &i.NodeName, Comment: text(in.Comment),
		DocumentName: &command.DocumentName, DocumentVersion: &command.DocumentVersion, RequestedDateTime: &command.RequestedAt,
		Status: types.CommandInvocationStatus(i.Status), StatusDetails: &i.StatusDetails,
		StandardOutputUrl: aws.String(""), StandardErrorUrl: aws.String(""), ServiceRole: aws.String(""),
		CommandPlugins:         []types.CommandPlugin{},
		NotificationConfig:     &types.NotificationConfig{NotificationArn: aws.String(""), NotificationEvents: []types.NotificationEvent{}},
		CloudWatchOutputConfig: &types.CloudWatchOutputConfig{CloudWatchLogGroupName: aws.String("")},
	}
	trace := i.Reason
	if details {
		for _, p := range i.Plugins {
			out.CommandPlugins = append(out.CommandPlugins, describePlugin(p))
		}
	}
	out.TraceOutput = aws.String(firstCharacters(trace, maxPluginOutput))
	return out
}

func describePlugin(p raftstore.PluginResult) types.CommandPlugin {
	return types.CommandPlugin{
		Name: &p.Name, Status: types.CommandPluginStatus(p.Status), StatusDetails: &p.StatusDetails, ResponseCode: int32(p.ResponseCode),
		ResponseStartDateTime: optionalTime(p.StartedAt), ResponseFinishDateTime: optionalTime(p.FinishedAt),
		Output: aws.String(pluginOutput(p.Stdout, p.Stderr)), StandardOutputUrl: aws.String(""), StandardErrorUrl: aws.String(""),
		OutputS3BucketName: aws.String(""), OutputS3KeyPrefix: aws.String(""), OutputS3Region: aws.String(""),
	}
}

const (
	errorMark     = "\n----------ERROR-------\n"
	truncatedMark = "\n---Output truncated---"
	cutErrorMark  = "\n---Error truncated----"
)

// pluginOutput puts both outputs of a step into the 2,500 characters that
// CommandPlugin.Output has, as Systems Manager does: when both are long, each
// gets half.
func pluginOutput(stdout, stderr string) string {
	if stderr == "" {
		return clipped(stdout, maxPluginOutput, truncatedMark)
	}
	room := maxPluginOutput - len(errorMark)
	half := room / 2
	out, errs := len([]rune(stdout)), len([]rune(stderr))
	switch {
	case out+errs <= room:
	case out <= half:
		stderr = clipped(stderr, room-out, cutErrorMark)
	case errs <= half:
		stdout = clipped(stdout, room-errs, truncatedMark)
	default:
		stdout, stderr = clipped(stdout, half, truncatedMark), clipped(stderr, room-half, cutErrorMark)
	}
	return stdout + errorMark + stderr
}

// clipped cuts s to limit characters, the mark included where it cuts.
func clipped(s string, limit int, mark string) string {
	if len([]rune(s)) <= limit {
		return s
	}
	return firstCharacters(s, max(limit-len(mark), 0)) + mark
}

func firstCharacters(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return string(runes[:limit])
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (c *call) getCommandInvocation(in *ssm.GetCommandInvocationInput) (*ssm.GetCommandInvocationOutput, error) {
	command, state, err := c.getCommand(*in.CommandId)
	if err != nil {
		return nil, err
	}
	i, err := c.invocationOf(command, state, *in.InstanceId)
	if err != nil {
		return nil, err
	}
	step, err := chooseStep(command, aws.ToString(in.PluginName))
	if err != nil {
		return nil, err
	}
	sent, err := commandInput(command)
	if err != nil {
		return nil, err
	}
	return describeStep(command, sent, i, step), nil
}

// mayGetInvocation: root of a member sees what ran on this node.
func (c *call) mayGetInvocation(in *ssm.GetCommandInvocationInput) error {
	return c.mayRead(in.CommandId, in.InstanceId)
}

// invocationOf returns a command's invocation on a node. A node that is named in
// the request is Pending from the start, though its record comes with dispatch.
func (c *call) invocationOf(command raftstore.Command, state raftstore.CommandState, nodeID string) (raftstore.Invocation, error) {
	i, err := raftstore.GetInvocation(c, command.ID, nodeID)
	if !errors.Is(err, raftstore.ErrNotFound) {
		return i, err
	}
	in, err := commandInput(command)
	if err != nil {
		return i, err
	}
	if !state.Resolved && state.FinishedAt.IsZero() && slices.Contains(in.InstanceIds, nodeID) {
		return raftstore.Invocation{
			CommandID: command.ID, NodeID: nodeID, RequestedAt: command.RequestedAt,
			Status: string(types.CommandInvocationStatusPending), StatusDetails: string(types.CommandInvocationStatusPending),
		}, nil
	}
	return i, refuse("InvocationDoesNotExist", "The command ID and managed node ID you specified didn't match any invocations: command %s has none on %s.", command.ID, nodeID)
}

// chooseStep returns the name of the step that is asked for: the only one, or the
// one named.
func chooseStep(command raftstore.Command, plugin string) (string, error) {
	document, err := executor.ParseDocument(command.Document)
	if err != nil {
		return "", storeFault(err)
	}
	names := make([]string, len(document.Steps))
	for i, step := range document.Steps {
		names[i] = step.Name
	}
	switch {
	case plugin == "" && len(names) == 1:
		return names[0], nil
	case plugin == "":
		return "", refuse("InvalidPluginName", "The document has %d steps: give one as PluginName: %s.", len(names), strings.Join(names, ", "))
	case !slices.Contains(names, plugin):
		return "", refuse("InvalidPluginName", "The plugin name isn't valid: the document has no step %q but %s.", plugin, strings.Join(names, ", "))
	}
	return plugin, nil
}

// describeStep shows one step of an invocation.
func describeStep(command raftstore.Command, in *ssm.SendCommandInput, i raftstore.Invocation, step string) *ssm.GetCommandInvocationOutput {
	out := &ssm.GetCommandInvocationOutput{
		CommandId: &command.ID, InstanceId: &i.NodeID, Comment: text(in.Comment),
		DocumentName: &command.DocumentName, DocumentVersion: &command.DocumentVersion, PluginName: &step,
		Status: types.CommandInvocationStatus(i.Status), StatusDetails: &i.StatusDetails, ResponseCode: notEnded,
		ExecutionStartDateTime: aws.String(""), ExecutionEndDateTime: aws.String(""), ExecutionElapsedTime: aws.String(""),
		StandardOutputContent: aws.String(""), StandardErrorContent: aws.String(""),
		StandardOutputUrl: aws.String(""), StandardErrorUrl: aws.String(""),
		CloudWatchOutputConfig: &types.CloudWatchOutputConfig{CloudWatchLogGroupName: aws.String("")},
	}
	at := slices.IndexFunc(i.Plugins, func(p raftstore.PluginResult) bool { return p.Name == step })
	if at < 0 {
		if i.Terminal() {
			out.StandardErrorContent = aws.String(firstCharacters(i.Reason, maxStderr))
		}
		return out
	}
	p := i.Plugins[at]
	ended := !p.FinishedAt.IsZero()
	// With one step, the invocation knows more of it (Cancelling, Delayed); with
	// several, each stands for itself, unless all is over.
	if several := len(i.Plugins) > 1; p.Status != "" && several && (ended || !i.Terminal()) {
		out.Status, out.StatusDetails = types.CommandInvocationStatus(p.Status), &p.StatusDetails
	}
	out.StandardOutputContent = aws.String(firstCharacters(p.Stdout, maxStdout))
	out.StandardErrorContent = aws.String(firstCharacters(p.Stderr, maxStderr))
	if reason := reasonOf(i, p); reason != "" && p.Stderr == "" && i.Terminal() {
		out.StandardErrorContent = aws.String(firstCharacters(reason, maxStderr))
	}
	if !p.StartedAt.IsZero() {
		out.ExecutionStartDateTime = aws.String(isoTime(p.StartedAt))
	}
	if ended {
		out.ResponseCode = int32(p.ResponseCode)
		out.ExecutionEndDateTime = aws.String(isoTime(p.FinishedAt))
		out.ExecutionElapsedTime = aws.String(isoDuration(p.FinishedAt.Sub(p.StartedAt)))
	}
	return out
}

// reasonOf says why a step of an ended invocation ended as it did. The invocation's
// reason counts for a step among several where no other has given it, and never for
// one that was successful.
func reasonOf(i raftstore.Invocation, step raftstore.PluginResult) string {
	gave := func(p raftstore.PluginResult) bool {
		return p.Reason == i.Reason || strings.TrimSuffix(p.Stderr, "\n") == i.Reason
	}
	switch {
	case len(i.Plugins) == 1:
		return i.Reason
	case step.Reason != "" || step.Status == string(types.CommandPluginStatusSuccess):
		return step.Reason
	case slices.ContainsFunc(i.Plugins, gave):
		return ""
	}
	return i.Reason
}

// isoTime is how GetCommandInvocation writes times.
func isoTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// isoDuration is the ISO 8601 form of a duration: PT0.01S, PT1M2.5S, PT2H.
func isoDuration(d time.Duration) string {
	d = max(d, 0).Round(time.Millisecond)
	hours, rest := d/time.Hour, d%time.Hour
	minutes, rest := rest/time.Minute, rest%time.Minute
	out := "PT"
	if hours > 0 {
		out += strconv.FormatInt(int64(hours), 10) + "H"
	}
	if minutes > 0 {
		out += strconv.FormatInt(int64(minutes), 10) + "M"
	}
	if rest > 0 || out == "PT" {
		out += strconv.FormatFloat(rest.Seconds(), 'f', -1, 64) + "S"
	}
	return out
}
