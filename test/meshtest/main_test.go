package meshtest_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"fleetmesh/test/meshtest"
)

func TestMain(m *testing.M) { meshtest.Main(m) }

// send asks node to run a script on what in names, and returns the command's id.
func send(t *testing.T, node *meshtest.Node, in ssm.SendCommandInput, script ...string) string {
	t.Helper()
	in.DocumentName = aws.String("AWS-RunShellScript")
	if in.Parameters == nil {
		in.Parameters = map[string][]string{}
	}
	in.Parameters["commands"] = script
	out, err := node.Client().SendCommand(t.Context(), &in)
	if err != nil {
		t.Fatalf("SendCommand through %s: %v", node.Name, err)
	}
	return *out.Command.CommandId
}

func byTag(key string, values ...string) []types.Target {
	return []types.Target{{Key: aws.String("tag:" + key), Values: values}}
}

// command reads a command through node.
func command(t *testing.T, node *meshtest.Node, id string) (types.Command, error) {
	out, err := node.Client().ListCommands(t.Context(), &ssm.ListCommandsInput{CommandId: &id})
	if err != nil {
		return types.Command{}, err
	}
	if len(out.Commands) != 1 {
		return types.Command{}, fmt.Errorf("%d commands with id %s", len(out.Commands), id)
	}
	return out.Commands[0], nil
}

// awaitDone waits until the command is terminal and returns it.
func awaitDone(t *testing.T, m *meshtest.Mesh, node *meshtest.Node, id string) types.Command {
	t.Helper()
	var done types.Command
	m.Await("command "+id+" to end", func() error {
		c, err := command(t, node, id)
		if err != nil {
			return err
		}
		switch c.Status {
		case types.CommandStatusPending, types.CommandStatusInProgress, types.CommandStatusCancelling:
			return fmt.Errorf("it is %s (%s), %d of %d", c.Status, *c.StatusDetails, c.CompletedCount, c.TargetCount)
		}
		done = c
		return nil
	})
	return done
}

func invocation(t *testing.T, through *meshtest.Node, id, nodeID string) (*ssm.GetCommandInvocationOutput, error) {
	return through.Client().GetCommandInvocation(t.Context(), &ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: &nodeID})
}

// awaitInvocation waits until a node's invocation has a status.
func awaitInvocation(t *testing.T, m *meshtest.Mesh, through *meshtest.Node, id, nodeID string, want types.CommandInvocationStatus) *ssm.GetCommandInvocationOutput {
	t.Helper()
	var got *ssm.GetCommandInvocationOutput
	m.Await(fmt.Sprintf("%s on %s to be %s", id, nodeID, want), func() error {
		var err error
		got, err = invocation(t, through, id, nodeID)
		if err == nil && got.Status != want {
			err = fmt.Errorf("it is %s (%s)", got.Status, aws.ToString(got.StatusDetails))
		}
		return err
	})
	return got
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// within fails the test when fn takes longer than limit: for promises such as "a
// write without a leader is refused within seconds".
func within(t *testing.T, limit time.Duration, what string, fn func()) {
	t.Helper()
	start := time.Now()
	fn()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %s, want at most %s", what, took.Round(time.Millisecond), limit)
	}
}

var errStillServed = errors.New("it is still served")

var discard = slog.New(slog.DiscardHandler)
