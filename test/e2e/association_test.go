//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAssociationRepairs: what an association describes is there again on a node that
// was killed, changed and started, and its compliance adds up.
func TestAssociationRepairs(t *testing.T) {
	m := newMesh(t, 3, func(int) []string { return []string{"--member-only"} })
	through, target := m.nodes[1], m.nodes[2]
	file := func(n *node) string { return filepath.Join(m.dir, "state-"+n.id) }
	var made struct {
		AssociationDescription struct {
			AssociationId, AssociationVersion string
			Overview                          struct{ Status string }
		}
	}
	m.awsJSON(through, &made, "create-association", "--name", "AWS-RunShellScript", "--association-name", "state", "--targets", "Key=InstanceIds,Values=*",
		"--schedule-expression", "rate(30 minutes)", "--compliance-severity", "HIGH",
		"--parameters", `commands=["echo $AWS_SSM_INSTANCE_ID > `+m.dir+`/state-$AWS_SSM_INSTANCE_ID; [ ! -e `+m.dir+`/broken-$AWS_SSM_INSTANCE_ID ]"]`)
	id := made.AssociationDescription.AssociationId
	if made.AssociationDescription.AssociationVersion != "1" || made.AssociationDescription.Overview.Status != "Pending" {
		t.Errorf("made: %+v", made)
	}
	succeeded := func(through *node, nodes int) func() error {
		return func() error {
			var got struct {
				AssociationDescription struct {
					Overview struct {
						Status                           string
						AssociationStatusAggregatedCount map[string]int
					}
				}
			}
			m.awsJSON(through, &got, "describe-association", "--association-id", id)
			if o := got.AssociationDescription.Overview; o.Status != "Success" || o.AssociationStatusAggregatedCount["Success"] != nodes {
				return fmt.Errorf("%+v", o)
			}
			return nil
		}
	}
	m.await("the first run", succeeded(through, 3))
	for _, n := range m.nodes {
		if data, err := os.ReadFile(file(n)); err != nil || strings.TrimSpace(string(data)) != n.id {
			t.Errorf("%s: %q, %v", n.name, data, err)
		}
	}

	m.kill(target)
	if err := os.Remove(file(target)); err != nil {
		t.Fatal(err)
	}
	m.await("the mesh to miss it", func() error {
		var s struct {
			Nodes struct{ Online, ConnectionLost int }
		}
		m.json(&s, "mesh", "status")
		if s.Nodes.ConnectionLost != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	m.start(target)
	m.await("the repair", func() error { _, err := os.Stat(file(target)); return err })
	m.await("its success", succeeded(m.nodes[0], 3))
	var runs struct {
		AssociationExecutions []struct{ ExecutionId, Status, ResourceCountByStatus string }
	}
	m.awsJSON(through, &runs, "describe-association-executions", "--association-id", id)
	if len(runs.AssociationExecutions) != 2 || runs.AssociationExecutions[0].ResourceCountByStatus != "{Success=1}" || runs.AssociationExecutions[1].ResourceCountByStatus != "{Success=3}" {
		t.Errorf("executions: %+v", runs)
	}
	var on struct {
		AssociationExecutionTargets []struct{ ResourceId, Status string }
	}
	m.awsJSON(through, &on, "describe-association-execution-targets", "--association-id", id, "--execution-id", runs.AssociationExecutions[0].ExecutionId)
	if len(on.AssociationExecutionTargets) != 1 || on.AssociationExecutionTargets[0].ResourceId != target.id {
		t.Errorf("targets of the repair: %+v", on)
	}

	// Another is started anew at once: gossip never gives it up, and it has returned.
	m.kill(through)
	if err := os.Remove(file(through)); err != nil {
		t.Fatal(err)
	}
	m.start(through)
	m.await("the repair after a quick start", func() error { _, err := os.Stat(file(through)); return err })
	m.await("its success", succeeded(m.nodes[0], 3))

	// One node fails; the others do not.
	if err := os.WriteFile(filepath.Join(m.dir, "broken-"+target.id), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.aws(through, "start-associations-once", "--association-ids", id); err != nil {
		t.Fatal(err)
	}
	m.await("the compliance", func() error {
		var sum struct {
			ComplianceSummaryItems []struct {
				ComplianceType      string
				CompliantSummary    struct{ CompliantCount int }
				NonCompliantSummary struct {
					NonCompliantCount int
					SeveritySummary   struct{ HighCount int }
				}
			}
		}
		m.awsJSON(through, &sum, "list-compliance-summaries")
		if s := sum.ComplianceSummaryItems; len(s) != 1 || s[0].ComplianceType != "Association" || s[0].CompliantSummary.CompliantCount != 2 ||
			s[0].NonCompliantSummary.NonCompliantCount != 1 || s[0].NonCompliantSummary.SeveritySummary.HighCount != 1 {
			return fmt.Errorf("%+v", sum)
		}
		return nil
	})
	var stands struct {
		InstanceAssociationStatusInfos []struct{ AssociationId, Status, ErrorCode, DocumentVersion string }
	}
	m.awsJSON(through, &stands, "describe-instance-associations-status", "--instance-id", target.id)
	if s := stands.InstanceAssociationStatusInfos; len(s) != 1 || s[0].AssociationId != id || s[0].Status != "Failed" || s[0].ErrorCode != "1" || s[0].DocumentVersion != "1" {
		t.Errorf("on the node that fails: %+v", stands)
	}
}
