package main

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

func patchNode(id, name, group, status string, age time.Duration, missing int) meshapi.NodePatchStatus {
	n := meshapi.NodePatchStatus{NodeId: id, Name: name, PatchGroup: group, Status: status, Platform: "Debian GNU/Linux 12", OperatingSystem: "DEBIAN"}
	if age >= 0 {
		n.OperationEndTime, n.AgeSeconds = aws.Time(testNow.Add(-age)), int64(age/time.Second)
		n.Operation, n.BaselineId, n.CommandId = "Scan", "pb-0123456789abcdef0", "c1"
		n.MetadataTime = n.OperationEndTime
	}
	if missing > 0 {
		n.Counts = meshapi.PatchCounts{Installed: 5, InstalledOther: 300, Missing: missing, SecurityNonCompliant: missing, CriticalNonCompliant: 1}
		n.NonCompliant = meshapi.PatchLevels{Critical: 1, High: missing - 1}
		n.Reason, n.OverallSeverity = "2 missing", "CRITICAL"
	}
	return n
}

func patchMesh(t *testing.T) *fakeMesh {
	m := threeNodes(t)
	nodes := []meshapi.NodePatchStatus{
		patchNode(web1, "web-1", "web", "COMPLIANT", time.Hour, 0), patchNode(web2, "web-2", "web", "NON_COMPLIANT", 26*time.Hour, 2),
		patchNode(db1, "=db-1", "", "STALE", 9*24*time.Hour, 0), patchNode("mi-0123456789abcdef4", "new", "", "UNKNOWN", -1, 0),
	}
	nodes[2].Reason, nodes[3].Reason = "its last operation was 9 days ago", "it was never scanned"
	m.on("Mesh.DescribePatchStatus", func(body []byte) (any, error) { // two pages
		out := &meshapi.DescribePatchStatusOutput{Now: testNow, StaleAfterSeconds: 7 * 24 * 3600}
		if out.Nodes, out.NextToken = nodes[:3], "next"; strings.Contains(string(body), "next") {
			out.Nodes, out.NextToken = nodes[3:], ""
		}
		return out, nil
	})
	m.on("Mesh.GetPatchReport", func(body []byte) (any, error) {
		var in meshapi.GetPatchReportInput
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		out := &meshapi.GetPatchReportOutput{Now: testNow, Patches: []meshapi.PatchDetail{}}
		for _, n := range nodes {
			if n.NodeId == in.NodeId {
				out.Node = n
			}
		}
		if in.NodeId == web2 {
			out.Patches = []meshapi.PatchDetail{
				{Title: "openssl.amd64:3.0.17-1", KBId: "openssl.amd64", State: "MISSING", Classification: "Security", ComplianceLevel: "CRITICAL", Security: true,
					Replaces: "3.0.11-1", CVEIds: []string{"CVE-2026-1"}, AdvisoryIds: []string{"DSA-1"}, Reason: "approved by rule 1 (*)"},
				{Title: "libssl3.amd64:3.0.17-1", KBId: "libssl3.amd64", State: "MISSING", ComplianceLevel: "HIGH", Reason: "approved by rule 1 (*)\x1b[31m"},
				{Title: "nginx.amd64:1.25-1", KBId: "nginx.amd64", State: "MISSING", ComplianceLevel: "HIGH", Held: true, Reason: "approved by rule 1 (*); held by apt-mark, so it is not installed"},
				{Title: "bash.amd64:5.2-1", KBId: "bash.amd64", State: "INSTALLED_OTHER", InstalledTime: aws.Time(testNow.Add(-time.Hour)), Reason: "not for security"},
			}
			out.Pending = []meshapi.PendingPatch{{Title: "vim.amd64:2:9.1-1", Reason: "rule 1 approves it later", ApprovalDate: aws.Time(testNow.Add(48 * time.Hour)), CVEIds: []string{"CVE-2026-9"}, AdvisoryIds: []string{"DSA-9"}}}
			out.Sources = []meshapi.PatchSource{{Name: "main", FetchedAt: aws.Time(testNow.Add(-26 * time.Hour))}, {Name: "security", Problem: "503"}}
			out.Gaps = []string{"the source security could not be refreshed: 503"}
		}
		return out, nil
	})
	identity := types.PatchBaselineIdentity{BaselineId: aws.String("pb-0123456789abcdef0"), BaselineName: aws.String("site"), OperatingSystem: types.OperatingSystemDebian, DefaultBaseline: true}
	m.always("DescribePatchBaselines", &ssm.DescribePatchBaselinesOutput{BaselineIdentities: []types.PatchBaselineIdentity{identity}})
	m.always("DescribePatchGroups", &ssm.DescribePatchGroupsOutput{Mappings: []types.PatchGroupPatchBaselineMapping{{PatchGroup: aws.String("web"), BaselineIdentity: &identity}}})
	m.always("DescribePatchGroupState", &ssm.DescribePatchGroupStateOutput{Instances: 2, InstancesWithMissingPatches: 1})
	m.always("GetPatchBaseline", &ssm.GetPatchBaselineOutput{
		BaselineId: identity.BaselineId, Name: aws.String("site"), OperatingSystem: types.OperatingSystemDebian, ApprovedPatches: []string{"vim", "nano"},
		ApprovedPatchesComplianceLevel: "HIGH", RejectedPatches: []string{"emacs"}, RejectedPatchesAction: types.PatchActionBlock, PatchGroups: []string{"web"},
		ApprovalRules: &types.PatchRuleGroup{PatchRules: []types.PatchRule{{
			PatchFilterGroup: &types.PatchFilterGroup{PatchFilters: []types.PatchFilter{{Key: "PRIORITY", Values: []string{"Required", "Important"}}}},
			ApproveAfterDays: aws.Int32(7), ComplianceLevel: "HIGH",
		}}},
	})
	m.always("CreatePatchBaseline", &ssm.CreatePatchBaselineOutput{BaselineId: identity.BaselineId})
	m.always("UpdatePatchBaseline", &ssm.UpdatePatchBaselineOutput{BaselineId: identity.BaselineId})
	m.always("RegisterPatchBaselineForPatchGroup", &ssm.RegisterPatchBaselineForPatchGroupOutput{})
	m.always("AddTagsToResource", &ssm.AddTagsToResourceOutput{})
	m.always("RemoveTagsFromResource", &ssm.RemoveTagsFromResourceOutput{})
	m.always("ListTagsForResource", &ssm.ListTagsForResourceOutput{TagList: []types.Tag{{Key: aws.String("Patch Group"), Value: aws.String("old")}}})
	return m
}

func TestPatchCommands(t *testing.T) {
	m := patchMesh(t)
	for name, line := range map[string]string{
		"patch-status":           "patch status",
		"patch-status-csv":       "patch status -o csv",
		"patch-status-json":      "patch status -o json --group web",
		"patch-show":             "patch show web-2 --all",
		"patch-explain":          "patch explain web-2 CVE-2026-1",
		"patch-explain-pending":  "patch explain web-2 vim",
		"patch-explain-wait":     "patch explain web-2 cve-2026-9",
		"patch-explain-nothing":  "patch explain web-2 emacs",
		"patch-explain-unknown":  "patch explain mi-0123456789abcdef4 vim",
		"patch-plan":             "patch plan",
		"patch-plan-json":        "patch plan web-2 -o json",
		"patch-group-list":       "patch-group list",
		"patch-group-show":       "patch-group show web",
		"patch-group-set":        "patch-group set web web-1 --baseline site",
		"baseline-list":          "baseline list",
		"baseline-show":          "baseline show site",
		"baseline-create":        "baseline create --name site --os DEBIAN --filter PRIORITY=Required,Important --approve-after-days 7 --level HIGH --rejected emacs --block",
		"baseline-show-nobody":   "baseline show nobody",
		"baseline-update-nobody": "baseline update pb-0123456789abcdef0 --name other",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, m.run(strings.Fields(line)...)) })
	}
	for operation, want := range map[string]string{
		"CreatePatchBaseline":                `"ApprovalRules":{"PatchRules":[{"PatchFilterGroup":{"PatchFilters":[{"Key":"PRIORITY","Values":["Required","Important"]}]},"ApproveAfterDays":7,"ComplianceLevel":"HIGH"}]}`,
		"UpdatePatchBaseline":                `"Name":"other"`,
		"RegisterPatchBaselineForPatchGroup": `"PatchGroup":"web"`,
		"AddTagsToResource":                  `"Key":"PatchGroup"`,
		"RemoveTagsFromResource":             `"TagKeys":["Patch Group"]`,
	} {
		calls := m.called(operation)
		if len(calls) == 0 || !sameMembers(calls[0].Body, want) {
			t.Errorf("%s was asked %+v, want one with %s", operation, calls, want)
		}
	}
	for _, line := range []string{"node list -o csv", "baseline create --name x --approve-after-days 3", "baseline create --os DEBIAN", "patch plan web-1 --group web", "patch-group set web", "patch scan"} {
		if r := m.run(strings.Fields(line)...); r.code != exitUsage {
			t.Errorf("%s: %+v", line, r)
		}
	}
}

// sameMembers compares without regard to the order of members.
func sameMembers(body, part string) bool {
	var all, want map[string]any
	if json.Unmarshal([]byte(body), &all) != nil {
		return false
	}
	if json.Unmarshal([]byte("{"+part+"}"), &want) != nil {
		return strings.Contains(body, part)
	}
	for key, value := range want {
		a, _ := json.Marshal(all[key])
		b, _ := json.Marshal(value)
		if string(a) != string(b) && !strings.Contains(body, part) {
			return false
		}
	}
	return true
}

func TestPatchRunParameters(t *testing.T) {
	p := patchRunOptions{noReboot: true, snapshot: "s", overrideList: "https://x/list", baselineOverride: "https://x/b"}
	got := strings.Join(p.parameters("Install"), " ")
	if want := "Operation=Install RebootOption=NoReboot SnapshotId=s InstallOverrideList=https://x/list BaselineOverride=https://x/b"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := strings.Join((patchRunOptions{}).parameters("Scan"), " "); got != "Operation=Scan" {
		t.Error(got)
	}
}

// The groups add up to the fleet, and the states of each to its nodes.
func TestPatchSummaryAddsUp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		status := &meshapi.DescribePatchStatusOutput{Now: testNow}
		for range random.IntN(200) {
			state := []string{"COMPLIANT", "NON_COMPLIANT", "STALE", "UNKNOWN"}[random.IntN(4)]
			n := patchNode(web1, "n", []string{"", "a", "b"}[random.IntN(3)], state, time.Duration(random.IntN(100)-1)*time.Hour, 0)
			if state == "NON_COMPLIANT" {
				n.NonCompliant, n.OverallSeverity = meshapi.PatchLevels{High: 1 + random.IntN(3)}, "HIGH"
				n.Counts.Missing = n.NonCompliant.High
			}
			status.Nodes = append(status.Nodes, n)
		}
		s := summarizePatches(status)
		var sum patchTotal
		for _, g := range s.PatchGroups {
			sum.Nodes, sum.Compliant, sum.NonCompliant = sum.Nodes+g.Nodes, sum.Compliant+g.Compliant, sum.NonCompliant+g.NonCompliant
			sum.Stale, sum.Unknown, sum.NodesWithMissing = sum.Stale+g.Stale, sum.Unknown+g.Unknown, sum.NodesWithMissing+g.NodesWithMissing
			if g.OldestOperation != nil && (sum.OldestOperation == nil || g.OldestOperation.Before(*sum.OldestOperation)) {
				sum.OldestOperation, sum.OldestAgeSeconds = g.OldestOperation, g.OldestAgeSeconds
			}
		}
		f := s.Fleet
		if (sum.OldestOperation == nil) != (f.OldestOperation == nil) || sum.OldestOperation != nil && !sum.OldestOperation.Equal(*f.OldestOperation) {
			t.Fatalf("the oldest scan of the groups is of %v and of the fleet of %v", sum.OldestOperation, f.OldestOperation)
		}
		sum.CompliantPercent, sum.OldestOperation = f.CompliantPercent, f.OldestOperation
		if sum != f {
			t.Fatalf("the groups come to %+v and the fleet to %+v", sum, f)
		}
		if f.Compliant+f.NonCompliant+f.Stale+f.Unknown != f.Nodes || f.Nodes != len(status.Nodes) || s.NonCompliantNodes["HIGH"] != f.NonCompliant {
			t.Fatalf("%+v of %d nodes", f, len(status.Nodes))
		}
		if f.Nodes > 0 && f.CompliantPercent > 100*float64(f.Compliant)/float64(f.Nodes)+1e-9 {
			t.Fatalf("%d of %d are %g %%", f.Compliant, f.Nodes, f.CompliantPercent)
		}
	}
}

func TestPercentIsNeverRoundedUpToAll(t *testing.T) {
	for p, want := range map[float64]string{0: "0%", 100: "100%", 99.99: "99.9%", 33.333: "33.3%", 50: "50%"} {
		if got := percent(p); got != want {
			t.Errorf("%g is %s, want %s", p, got, want)
		}
	}
}
