package api

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/executor"
	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

const (
	// defaultDelivery is TimeoutSeconds where the client says nothing.
	defaultDelivery = 3600
	// maxDocumentSize bounds a document together with its parameters, in bytes.
	maxDocumentSize = 64 << 10
	// maxSendBody bounds the request itself, in bytes: it is kept, and answered with
	// its parameters, in one transaction (raftstore.MaxTxnSize). Only parameters of
	// many escaped characters come near it.
	maxSendBody = 96 << 10

	defaultMaxConcurrency = "50"
	defaultMaxErrors      = "0"
)

// sendCommand stores a command that composeCommand has made; agent/leader does the
// rest.
func (c *call) sendCommand(in *ssm.SendCommandInput) (*ssm.SendCommandOutput, error) {
	command, state, err := c.composeCommand(in, uuid.NewString())
	if err != nil {
		return nil, err
	}
	c.txn.PutNewCommand(command, state)
	c.resource = command.ID
	described, err := describeCommand(command, state)
	if err != nil {
		return nil, err
	}
	return &ssm.SendCommandOutput{Command: described}, nil
}

// command is what SendCommand needs of a document: its content as a command
// carries it, and that parsed.
func (d *oneDocument) command() (json.RawMessage, *executor.Document, error) {
	if d.head.Type != string(types.DocumentTypeCommand) {
		return nil, nil, refuse(codeInvalidDocument, "The document %s is of type %s: SendCommand runs documents of type Command.", d.head.Name, d.head.Type)
	}
	content, err := runnable(d.content, d.format())
	if err != nil {
		return nil, nil, err
	}
	parsed, err := executor.ParseDocument(content)
	if err != nil {
		return nil, nil, refuse(codeInvalidDocument, "Version %d of the document %s cannot be run by this version of the mesh: %s", d.version.Number, d.head.Name, err)
	}
	return content, parsed, nil
}

// checkDocumentHash holds a client to the document that it has seen.
func checkDocumentHash(in *ssm.SendCommandInput, content []byte) error {
	given := aws.ToString(in.DocumentHash)
	if given == "" {
		return nil
	}
	var have string
	switch in.DocumentHashType {
	case types.DocumentHashTypeSha1:
		sum := sha1.Sum(content)
		have = hex.EncodeToString(sum[:])
	default:
		sum := sha256.Sum256(content)
		have = hex.EncodeToString(sum[:])
	}
	if !strings.EqualFold(given, have) {
		return refuse(codeInvalidDocument, "The hash of the document is %s, not %s: it is not the document that you have seen.", have, given)
	}
	return nil
}

// checkUnsupported refuses what the mesh does not do yet: to ignore it would be
// to lose somebody's output, notification or alarm.
func checkUnsupported(in *ssm.SendCommandInput) error {
	switch {
	case aws.ToString(in.OutputS3BucketName) != "" || aws.ToString(in.OutputS3KeyPrefix) != "":
		return refuse("InvalidOutputFolder", "Output to S3 is not supported: the whole output stays on the node that made it; `meshctl command output` reads it through any node. Leave out OutputS3BucketName and OutputS3KeyPrefix.")
	case aws.ToString(in.ServiceRoleArn) != "":
		return refuse("InvalidRole", "The mesh has no roles and sends no notifications. Leave out ServiceRoleArn.")
	case asksForNotification(in.NotificationConfig):
		return refuse("InvalidNotificationConfig", "The mesh sends no notifications. Leave out NotificationConfig.")
	case in.CloudWatchOutputConfig != nil && in.CloudWatchOutputConfig.CloudWatchOutputEnabled:
		return refuse(codeValidation, "Output to CloudWatch is not supported: the whole output stays on the node that made it; `meshctl command output` reads it through any node. Leave out CloudWatchOutputConfig.")
	case in.AlarmConfiguration != nil:
		return refuse(codeValidation, "The mesh knows no CloudWatch alarms. Leave out AlarmConfiguration.")
	}
	return nil
}

func asksForNotification(n *types.NotificationConfig) bool {
	return n != nil && (aws.ToString(n.NotificationArn) != "" || len(n.NotificationEvents) > 0 || n.NotificationType != "")
}

// commandSize is what the limit of a document counts.
func commandSize(content []byte, parameters map[string][]string) int {
	size := len(content)
	for name, values := range parameters {
		size += len(name)
		for _, value := range values {
			size += len(value)
		}
	}
	return size
}

// checkNodes checks who is to run the command, as far as it is known by now: tags
// are resolved at dispatch.
func (c *call) checkNodes(in *ssm.SendCommandInput, platforms []string) error {
	switch {
	case len(in.InstanceIds) > 0 && len(in.Targets) > 0:
		return refuse(codeValidation, "InstanceIds and Targets exclude each other: give one of them.")
	case len(in.InstanceIds) == 0 && len(in.Targets) == 0:
		return refuse(codeValidation, "The command has no targets: give InstanceIds or Targets.")
	}
	if err := checkDistinct(in.InstanceIds); err != nil {
		return err
	}
	named, err := checkTargets(in.Targets)
	if err != nil {
		return err
	}
	if err := c.checkUnsuccessful(in.Targets); err != nil {
		return err
	}
	var unknown, unfit []string
	for _, id := range slices.Concat(in.InstanceIds, named) {
		node, err := raftstore.GetNode(c, id)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
			unknown = append(unknown, id)
		case err != nil:
			return err
		case len(platforms) > 0 && !slices.Contains(platforms, node.PlatformType):
			unfit = append(unfit, id+" ("+node.PlatformType+")")
		}
	}
	if len(unknown) > 0 {
		return refuse(codeInvalidInstance, "Not enrolled in this mesh: %s.", strings.Join(unknown, ", "))
	}
	if len(unfit) > 0 {
		return refuse("UnsupportedPlatformType", "The document runs on %s, not on: %s.", strings.Join(platforms, ", "), strings.Join(unfit, ", "))
	}
	return nil
}

// maySendCommand: root of a member may run on this node and nowhere else.
func (c *call) maySendCommand(in *ssm.SendCommandInput) error {
	if len(in.Targets) == 0 && len(in.InstanceIds) == 1 && in.InstanceIds[0] == c.who.node {
		return nil
	}
	return c.denied()
}

// describeCommand shows a command as it stands.
func describeCommand(command raftstore.Command, state raftstore.CommandState) (*types.Command, error) {
	in, err := commandInput(command)
	if err != nil {
		return nil, err
	}
	targets := state.TargetCount
	if !state.Resolved {
		targets = len(in.InstanceIds)
	}
	out := &types.Command{
		CommandId: &command.ID, DocumentName: &command.DocumentName, DocumentVersion: &command.DocumentVersion,
		Comment: text(in.Comment), Parameters: in.Parameters, InstanceIds: list(in.InstanceIds), Targets: list(in.Targets),
		RequestedDateTime: &command.RequestedAt, ExpiresAfter: &command.ExpiresAt,
		Status: types.CommandStatus(state.Status), StatusDetails: &state.StatusDetails,
		MaxConcurrency: in.MaxConcurrency, MaxErrors: in.MaxErrors, TimeoutSeconds: in.TimeoutSeconds,
		TargetCount: int32(targets), CompletedCount: int32(state.CompletedCount),
		ErrorCount: int32(state.ErrorCount), DeliveryTimedOutCount: int32(state.DeliveryTimedOutCount),
		OutputS3BucketName: aws.String(""), OutputS3KeyPrefix: aws.String(""), ServiceRole: aws.String(""),
		NotificationConfig:     &types.NotificationConfig{NotificationArn: aws.String(""), NotificationEvents: []types.NotificationEvent{}},
		CloudWatchOutputConfig: &types.CloudWatchOutputConfig{CloudWatchLogGroupName: aws.String("")},
	}
	if out.MaxConcurrency == nil {
		out.MaxConcurrency = aws.String(defaultMaxConcurrency)
	}
	if out.MaxErrors == nil {
		out.MaxErrors = aws.String(defaultMaxErrors)
	}
	if out.TimeoutSeconds == nil {
		out.TimeoutSeconds = aws.Int32(defaultDelivery)
	}
	return out, nil
}

func commandInput(command raftstore.Command) (*ssm.SendCommandInput, error) {
	in := new(ssm.SendCommandInput)
	if err := awsjson.Unmarshal(command.Input, in); err != nil {
		return nil, fmt.Errorf("read the input of command %s: %w", command.ID, storeFault(err))
	}
	return in, nil
}

// getCommand returns a command and where it stands.
func (c *call) getCommand(id string) (raftstore.Command, raftstore.CommandState, error) {
	command, err := raftstore.GetCommand(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return command, raftstore.CommandState{}, refuse(codeInvalidCommand, "The specified command ID isn't valid: there is no command %s.", id)
	}
	if err != nil {
		return command, raftstore.CommandState{}, err
	}
	state, err := raftstore.GetCommandState(c, id)
	if err != nil {
		return command, state, fmt.Errorf("read the state of command %s: %w", id, err)
	}
	return command, state, nil
}

// kept reports whether a command that an index names is still there: when an old
// one is deleted, its invocations follow a little later.
func (c *call) kept(id string) bool {
	_, err := raftstore.GetCommandState(c, id)
	return !errors.Is(err, raftstore.ErrNotFound)
}

// maxExamined bounds how many commands one page of a list looks at: filters that
// fit few commands give short pages, not long waits.
const maxExamined = 1000

func (c *call) listCommands(in *ssm.ListCommandsInput) (*ssm.ListCommandsOutput, error) {
	filter, err := parseCommandFilters(in.Filters, commandStatuses, true)
	if err != nil {
		return nil, err
	}
	if in.InstanceId != nil && filter.status == string(types.CommandStatusPending) {
		return nil, refuse(codeInvalidFilterKey, "InstanceId and the status Pending exclude each other: such a command has not reached the node.")
	}
	out := &ssm.ListCommandsOutput{Commands: []types.Command{}}
	add := func(id string) error {
		if in.InstanceId != nil && !c.kept(id) {
			return nil
		}
		command, state, err := c.getCommand(id)
		if err != nil || !filter.matchesCommand(command.RequestedAt, command.DocumentName, state.Status, state.StatusDetails, !state.FinishedAt.IsZero()) {
			return err
		}
		described, err := describeCommand(command, state)
		if err == nil {
			out.Commands = append(out.Commands, *described)
		}
		return err
	}
	if in.CommandId != nil {
		if in.InstanceId != nil {
			if _, err := raftstore.GetInvocation(c, *in.CommandId, *in.InstanceId); errors.Is(err, raftstore.ErrNotFound) {
				return out, c.checkNodeOf(*in.CommandId, *in.InstanceId)
			} else if err != nil {
				return nil, err
			}
		}
		return out, add(*in.CommandId)
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	limit, examined, next := pageSize(in.MaxResults), 0, ""
	var failed error
	visit := func(position, id string) bool {
		if len(out.Commands) == limit || examined == maxExamined {
			next = position
			return false
		}
		examined++
		failed = add(id)
		return failed == nil
	}
	if in.InstanceId != nil {
		if err := c.checkKnownNode(*in.InstanceId); err != nil {
			return nil, err
		}
		raftstore.ScanNodeInvocations(c, *in.InstanceId, start, visit)
	} else {
		raftstore.ScanCommands(c, start, visit)
	}
	if failed != nil {
		return nil, failed
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// mayListCommands: root of a member sees what ran on this node.
func (c *call) mayListCommands(in *ssm.ListCommandsInput) error {
	return c.mayRead(in.CommandId, in.InstanceId)
}

// mayRead lets root of a member read about this node, and about commands that
// are for this node alone.
func (c *call) mayRead(commandID, nodeID *string) error {
	switch {
	case nodeID != nil && *nodeID == c.who.node:
		return nil
	case nodeID != nil || commandID == nil:
		return c.denied()
	}
	command, err := raftstore.GetCommand(c, *commandID)
	if errors.Is(err, raftstore.ErrNotFound) {
		return c.denied()
	}
	if err != nil {
		return err
	}
	in, err := commandInput(command)
	if err != nil {
		return err
	}
	if len(in.Targets) > 0 || len(in.InstanceIds) != 1 || in.InstanceIds[0] != c.who.node {
		return c.denied()
	}
	return nil
}

// checkKnownNode refuses a node that is not enrolled and never ran anything.
func (c *call) checkKnownNode(nodeID string) error {
	_, err := raftstore.GetNode(c, nodeID)
	if !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	known := false
	raftstore.ScanNodeInvocations(c, nodeID, "", func(string, string) bool {
		known = true
		return false
	})
	if !known {
		return refuse(codeInvalidInstance, "%s is not enrolled in this mesh.", nodeID)
	}
	return nil
}

// checkNodeOf explains why a command has no invocation on a node: nil when it
// may just not have one yet.
func (c *call) checkNodeOf(commandID, nodeID string) error {
	if _, _, err := c.getCommand(commandID); err != nil {
		return err
	}
	return c.checkKnownNode(nodeID)
}

func (c *call) cancelCommand(in *ssm.CancelCommandInput) (*ssm.CancelCommandOutput, error) {
	id := *in.CommandId
	command, state, err := c.getCommand(id)
	if err != nil {
		return nil, err
	}
	if err := checkDistinct(in.InstanceIds); err != nil {
		return nil, err
	}
	if err := c.checkPartOf(command, state, in.InstanceIds); err != nil {
		return nil, err
	}
	_, activeIndex, active := c.Get(raftstore.ActiveCommandPrefix + id)
	if !active {
		return &ssm.CancelCommandOutput{}, nil // it has ended: there is nothing to cancel
	}
	request, err := raftstore.GetCommandCancel(c, id)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	request.CommandID, request.RequestedAt, request.Caller = id, c.now, c.who.name
	request.All = request.All || len(in.InstanceIds) == 0
	request.NodeIDs = slices.Compact(slices.Sorted(slices.Values(slices.Concat(request.NodeIDs, in.InstanceIds))))
	c.txn.Require(raftstore.ActiveCommandPrefix+id, activeIndex)
	c.txn.PutCommandCancel(request)
	c.resource = id
	return &ssm.CancelCommandOutput{}, nil
}

// checkPartOf refuses nodes that a command is not for.
func (c *call) checkPartOf(command raftstore.Command, state raftstore.CommandState, nodeIDs []string) error {
	in, err := commandInput(command)
	if err != nil {
		return err
	}
	var strangers []string
	for _, id := range nodeIDs {
		if slices.Contains(in.InstanceIds, id) {
			continue
		}
		_, err := raftstore.GetInvocation(c, command.ID, id)
		if errors.Is(err, raftstore.ErrNotFound) && !state.Resolved && len(in.Targets) > 0 {
			_, err = raftstore.GetNode(c, id) // its tags may yet make it a target
		}
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
			strangers = append(strangers, id)
		case err != nil:
			return err
		}
	}
	if len(strangers) > 0 {
		return refuse(codeInvalidInstance, "Not a target of command %s: %s.", command.ID, strings.Join(strangers, ", "))
	}
	return nil
}

// mayCancelCommand: root of a member may end what runs on this node.
func (c *call) mayCancelCommand(in *ssm.CancelCommandInput) error {
	if len(in.InstanceIds) == 1 && in.InstanceIds[0] == c.who.node {
		return nil
	}
	if len(in.InstanceIds) > 0 {
		return c.denied()
	}
	return c.mayRead(in.CommandId, nil)
}
