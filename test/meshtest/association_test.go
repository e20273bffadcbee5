package meshtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/test/meshtest"
)

// TestAssociationFollowsNodes: real agents, one association. It runs where the tag is,
// where the tag comes, where a node with the tag joins, and for all under a new leader;
// on each node once for each of these.
func TestAssociationFollowsNodes(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 3, meshtest.Tags(roles)) // node 2 is db
	leader := m.Leader()
	runs := filepath.Join(t.TempDir(), "runs")
	through := m.Nodes[0]
	made, err := through.Client().CreateAssociation(t.Context(), &ssm.CreateAssociationInput{
		Name: aws.String("AWS-RunShellScript"), Targets: byTag("role", "db"), ScheduleExpression: aws.String("rate(30 minutes)"),
		Parameters: map[string][]string{"commands": {"echo $AWS_SSM_INSTANCE_ID >> " + runs}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := made.AssociationDescription.AssociationId
	times := func(n *meshtest.Node) int {
		data, err := os.ReadFile(runs)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(data), n.ID)
	}
	ran := func(n *meshtest.Node, want int) {
		t.Helper()
		m.Await(fmt.Sprintf("run %d on %s", want, n.Name), func() error {
			if got := times(n); got != want {
				return fmt.Errorf("it ran %d times", got)
			}
			out, err := through.Client().DescribeInstanceAssociationsStatus(t.Context(), &ssm.DescribeInstanceAssociationsStatusInput{InstanceId: &n.ID})
			if err != nil {
				return err
			}
			if s := out.InstanceAssociationStatusInfos; len(s) != 1 || *s[0].Status != "Success" || *s[0].AssociationId != *id {
				return fmt.Errorf("it stands as %+v", s)
			}
			return nil
		})
	}
	ran(m.Nodes[1], 1)

	tag := func(kind string) {
		t.Helper()
		_, err := through.Client().AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{
			ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &m.Nodes[2].ID, Tags: []types.Tag{{Key: aws.String("role"), Value: &kind}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tag("db")
	ran(m.Nodes[2], 1)
	late := m.Add()
	late.Join(m.Token(meshapi.CreateActivationInput{MemberOnly: true}), map[string]string{"role": "db"})
	late.Start()
	ran(late, 1)

	// The tag goes: the node is forgotten.
	tag("web")
	m.Await("the node to be forgotten", func() error {
		out, err := through.Client().DescribeInstanceAssociationsStatus(t.Context(), &ssm.DescribeInstanceAssociationsStatusInput{InstanceId: &m.Nodes[2].ID})
		if err == nil && len(out.InstanceAssociationStatusInfos) != 0 {
			err = fmt.Errorf("it stands as %+v", out.InstanceAssociationStatusInfos)
		}
		return err
	})

	// A document that was not run by its last leader is by the next.
	m.AwaitVoters(3)
	leader.Stop()
	for through = m.Nodes[0]; through == leader; {
		through = m.Nodes[1]
	}
	m.Await("the next leader", func() error {
		_, err := through.Client().StartAssociationsOnce(t.Context(), &ssm.StartAssociationsOnceInput{AssociationIds: []string{*id}})
		return err
	})
	ran(late, 2)
	leader.Start()
	m.AwaitOnline(4)
	ran(late, 2)
	out, err := through.Client().DescribeAssociationExecutions(t.Context(), &ssm.DescribeAssociationExecutionsInput{AssociationId: id})
	if err != nil || len(out.AssociationExecutions) < 4 {
		t.Errorf("executions: %+v, %v", out, err)
	}
	if got := times(m.Nodes[2]); got != 1 {
		t.Errorf("the node without the tag ran it %d times", got)
	}
}
