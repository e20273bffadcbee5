//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPatchManagerByTheAWSCLI: every operation of patch baselines, groups, states and
// compliance, as the stock client sends and reads it.
func TestPatchManagerByTheAWSCLI(t *testing.T) {
	m := newMesh(t, 1, func(int) []string { return nil })
	n := m.nodes[0]
	m.awaitOnline(1)
	refused := func(code string, args ...string) {
		t.Helper()
		if out, err := m.aws(n, args...); err == nil || !strings.Contains(err.Error(), "("+code+")") {
			t.Errorf("aws ssm %s: %s, %v; want %s", strings.Join(args, " "), out, err, code)
		}
	}
	said := func(want string, args ...string) {
		t.Helper()
		out, err := m.aws(n, args...)
		var compact strings.Builder
		for _, field := range strings.Fields(out) {
			compact.WriteString(field)
		}
		if err != nil || !strings.Contains(compact.String(), want) {
			t.Errorf("aws ssm %s: %s, %v; want %s", strings.Join(args, " "), compact.String(), err, want)
		}
	}

	input := map[string]any{
		"Name": "site", "OperatingSystem": "DEBIAN", "Description": "of the site", "ApprovedPatches": []string{"vim"}, "RejectedPatches": []string{"nano"},
		"RejectedPatchesAction": "BLOCK", "ApprovedPatchesComplianceLevel": "HIGH", "Tags": []map[string]string{{"Key": "a", "Value": "b"}},
		"GlobalFilters": map[string]any{"PatchFilters": []map[string]any{{"Key": "PRODUCT", "Values": []string{"Debian12"}}}},
		"ApprovalRules": map[string]any{"PatchRules": []map[string]any{{
			"PatchFilterGroup": map[string]any{"PatchFilters": []map[string]any{{"Key": "PRIORITY", "Values": []string{"Required", "Important"}}}},
			"ComplianceLevel":  "CRITICAL", "ApproveUntilDate": "2026-07-07", "EnableNonSecurity": true,
		}}},
		"Sources": []map[string]any{{"Name": "site", "Products": []string{"Debian12"}, "Configuration": "deb http://mirror/debian bookworm main"}},
	}
	content, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(m.dir, "baseline.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var made struct{ BaselineId string }
	m.awsJSON(n, &made, "create-patch-baseline", "--cli-input-json", "file://"+file)
	id := made.BaselineId
	var got map[string]any
	m.awsJSON(n, &got, "get-patch-baseline", "--baseline-id", id)
	for member, sent := range input {
		if member == "Tags" {
			continue
		}
		want, _ := json.Marshal(sent)
		is, _ := json.Marshal(got[member])
		if string(want) != string(is) {
			t.Errorf("%s comes back as %s and was %s", member, is, want)
		}
	}

	said(`"Name":"renamed"`, "update-patch-baseline", "--baseline-id", id, "--name", "renamed")
	said(`"ApprovedPatches":[]`, "update-patch-baseline", "--baseline-id", id, "--name", "renamed", "--replace")
	said(`"BaselineName":"renamed"`, "describe-patch-baselines", "--filters", "Key=OWNER,Values=Self", "Key=NAME_PREFIX,Values=ren")
	said(`"Key":"a"`, "list-tags-for-resource", "--resource-type", "PatchBaseline", "--resource-id", id)
	said(id, "register-default-patch-baseline", "--baseline-id", id)
	said(id, "get-default-patch-baseline", "--operating-system", "DEBIAN")
	refused("ResourceInUseException", "delete-patch-baseline", "--baseline-id", id)
	predefined := "arn:aws:ssm:us-east-1:075727635805:patchbaseline/pb-09a5f8eb62bde80b1"
	said(predefined, "register-default-patch-baseline", "--baseline-id", predefined)
	said(`"PatchGroup":"web"`, "register-patch-baseline-for-patch-group", "--baseline-id", id, "--patch-group", "web")
	refused("AlreadyExistsException", "register-patch-baseline-for-patch-group", "--baseline-id", predefined, "--patch-group", "web")
	said(id, "get-patch-baseline-for-patch-group", "--patch-group", "web", "--operating-system", "DEBIAN")
	said(`"PatchGroup":"web"`, "describe-patch-groups")
	said(`"Instances":0`, "describe-patch-group-state", "--patch-group", "web")
	said(`"InstancePatchStates":[]`, "describe-instance-patch-states-for-patch-group", "--patch-group", "web")
	said(id, "deregister-patch-baseline-for-patch-group", "--baseline-id", id, "--patch-group", "web")
	said(`"Name":"Required"`, "describe-patch-properties", "--operating-system", "DEBIAN", "--property", "PRIORITY")
	said(`"EffectivePatches":[]`, "describe-effective-patches-for-patch-baseline", "--baseline-id", id)
	said(`"Patches":[]`, "describe-available-patches", "--filters", "Key=PRODUCT,Values=Debian12")
	said(`"InstancePatchStates":[]`, "describe-instance-patch-states", "--instance-ids", n.id)
	said(`"Patches":[]`, "describe-instance-patches", "--instance-id", n.id)
	refused("InvalidInstanceId", "describe-instance-patches", "--instance-id", "mi-0123456789abcdef0")
	said(`"SnapshotDownloadUrl":"data:`, "get-deployable-patch-snapshot-for-instance", "--instance-id", n.id, "--snapshot-id", "8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f")
	if _, err := m.aws(n, "put-compliance-items", "--resource-id", n.id, "--resource-type", "ManagedInstance", "--compliance-type", "Custom:AV",
		"--execution-summary", "ExecutionTime=2026-11-24T00:00:00Z", "--items", "Id=1,Title=pattern,Severity=HIGH,Status=NON_COMPLIANT"); err != nil {
		t.Error(err)
	}
	said(`"Title":"pattern"`, "list-compliance-items", "--resource-ids", n.id, "--resource-types", "ManagedInstance")
	said(`"NonCompliantCount":1`, "list-compliance-summaries")
	said(`"OverallSeverity":"HIGH"`, "list-resource-compliance-summaries")
	said(id, "delete-patch-baseline", "--baseline-id", id)
	refused("DoesNotExistException", "get-patch-baseline", "--baseline-id", id)
	refused("InvalidResourceId", "get-patch-baseline", "--baseline-id", "pb-0123456789012345678")
}
