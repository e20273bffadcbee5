package meshtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/test/meshtest"
)

// TestRetryWhereThereWasNoSuccess: the mesh's own target runs a command again on
// exactly the nodes that failed, were removed, or never began, and says no where
// there is nothing to do again.
func TestRetryWhereThereWasNoSuccess(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4)
	leader := m.Leader()
	removed := m.Nodes[3]
	if removed == leader {
		removed = m.Nodes[2]
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`case $AWS_SSM_INSTANCE_ID in %s) exit 0;; esac; test ! -e %s`, leader.ID, broken)
	all := []types.Target{{Key: aws.String("InstanceIds"), Values: []string{"*"}}}
	first := send(t, leader, ssm.SendCommandInput{Targets: all, MaxErrors: aws.String("100%")}, script)
	if done := awaitDone(t, m, leader, first); done.ErrorCount != 3 {
		t.Fatalf("%d of 4 nodes failed, want 3", done.ErrorCount)
	}
	if _, err := leader.Client().DeregisterManagedInstance(t.Context(), &ssm.DeregisterManagedInstanceInput{InstanceId: &removed.ID}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	again := func(id string) []types.Target {
		return []types.Target{{Key: aws.String("mesh:unsuccessful"), Values: []string{id}}}
	}
	second := send(t, leader, ssm.SendCommandInput{Targets: again(first), MaxErrors: aws.String("100%")}, script)
	awaitDone(t, m, leader, second)
	out, err := leader.Client().ListCommandInvocations(t.Context(), &ssm.ListCommandInvocationsInput{CommandId: &second})
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, i := range out.CommandInvocations {
		got = append(got, *i.InstanceId+" "+*i.StatusDetails)
	}
	for _, n := range m.Nodes {
		switch n {
		case leader:
		case removed:
			want = append(want, n.ID+" Undeliverable")
		default:
			want = append(want, n.ID+" Success")
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it ran as %q, want %q", got, want)
	}

	third := send(t, leader, ssm.SendCommandInput{InstanceIds: []string{leader.ID}}, "true")
	awaitDone(t, m, leader, third)
	for id, want := range map[string]string{
		third:                                  "there is nothing to do again",
		"00000000-0000-4000-8000-000000000000": "there is no command",
	} {
		_, err := leader.Client().SendCommand(t.Context(), &ssm.SendCommandInput{DocumentName: aws.String("AWS-RunShellScript"), Parameters: map[string][]string{"commands": {"true"}}, Targets: again(id)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("again %s: %v, want %q", id, err, want)
		}
	}
}
