package meshtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"fleetmesh/agent/meshapi"
	"fleetmesh/test/meshtest"
)

// TestMinorityRefusesWrites: without a majority a write is refused within
// seconds, and members and status are still told on the socket.
func TestMinorityRefusesWrites(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	m.AwaitVoters(3)
	m.Nodes[1].Stop()
	m.Nodes[2].Stop()
	for _, n := range []*meshtest.Node{m.Nodes[0], m.Nodes[3]} {
		m.Await(n.Name+" to refuse a write", func() error {
			var failed error
			within(t, 15*time.Second, "a refusal without a leader", func() {
				_, failed = n.Client().SendCommand(t.Context(), &ssm.SendCommandInput{
					DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{n.ID}, Parameters: map[string][]string{"commands": {"true"}},
				})
			})
			var api smithy.APIError
			if !errors.As(failed, &api) || api.ErrorCode() != "ServiceUnavailable" {
				return fmt.Errorf("got %v", failed)
			}
			return nil
		})
		status, err := n.Socket().Status(t.Context(), &meshapi.StatusInput{})
		if err != nil {
			t.Fatalf("status on the socket of %s: %v", n.Name, err)
		}
		if status.Source != "gossip" || status.Leader != "" || len(status.Advice) == 0 {
			t.Errorf("%s: source %q, leader %q, advice %q", n.Name, status.Source, status.Leader, status.Advice)
		}
		members, err := n.Socket().Members(t.Context(), &meshapi.MembersInput{})
		if err != nil || len(members.Members) != 4 {
			t.Errorf("members on the socket of %s: %v, %v", n.Name, members, err)
		}
	}
	m.Nodes[1].Start()
	m.Nodes[2].Start()
	m.AwaitOnline(4)
	id := send(t, m.Leader(), ssm.SendCommandInput{InstanceIds: []string{m.Nodes[3].ID}}, "echo back")
	if done := awaitDone(t, m, m.Nodes[3], id); done.Status != types.CommandStatusSuccess {
		t.Errorf("after the majority came back: %s", done.Status)
	}
}

// TestRestartOfAll: all at once and one by one, by itself, with nothing lost.
func TestRestartOfAll(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 3)
	m.AwaitVoters(3)
	id := send(t, m.Nodes[2], ssm.SendCommandInput{InstanceIds: []string{m.Nodes[0].ID}}, "echo kept")
	awaitDone(t, m, m.Nodes[2], id)

	for _, n := range m.Nodes {
		n.Stop()
	}
	for _, n := range m.Nodes {
		n.Start()
	}
	m.AwaitOnline(3)
	for _, n := range m.Nodes {
		n.Stop()
		n.Start()
		m.AwaitOnline(3)
	}
	for _, n := range m.Nodes {
		if c, err := command(t, n, id); err != nil || c.Status != types.CommandStatusSuccess {
			t.Errorf("through %s: %v, %v", n.Name, c.Status, err)
		}
	}
	m.AwaitVoters(3)
}

// TestGrowth: with two nodes the second stands by; with three, three vote.
func TestGrowth(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 2)
	m.Await("the second node to stand by", func() error {
		status, err := m.Nodes[0].Status()
		if err == nil && (len(status.Voters) != 1 || len(status.StandBys) != 1) {
			err = fmt.Errorf("voters %v, stand-bys %v", status.Voters, status.StandBys)
		}
		if err == nil && len(status.Advice) == 0 {
			err = errors.New("nothing is said about the mesh having two nodes")
		}
		return err
	})
	third := m.Add()
	third.Join(m.Token(meshapi.CreateActivationInput{}), nil)
	third.Start()
	if status := m.AwaitVoters(3); status.FailureTolerance != 1 {
		t.Errorf("tolerance %d, want 1", status.FailureTolerance)
	}
}

// TestLeaderStops: the next write is accepted by another leader; a command that
// ran meanwhile ends as it should.
func TestLeaderStops(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 3)
	m.AwaitVoters(3)
	leader := m.Leader()
	var other *meshtest.Node
	for _, n := range m.Nodes {
		if n != leader {
			other = n
		}
	}
	id := send(t, other, ssm.SendCommandInput{InstanceIds: []string{other.ID}}, "sleep 2", "echo survived")
	leader.Stop()
	m.Await("a write through the next leader", func() error {
		_, err := other.Client().AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{
			ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &other.ID,
			Tags: []types.Tag{{Key: aws.String("after"), Value: aws.String("failover")}},
		})
		return err
	})
	if done := awaitDone(t, m, other, id); done.Status != types.CommandStatusSuccess {
		t.Errorf("the command ended %s (%s)", done.Status, *done.StatusDetails)
	}
}
