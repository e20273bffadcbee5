package patcher

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestPredefined(t *testing.T) {
	all := Predefined()
	if len(all) != 17 {
		t.Errorf("%d predefined baselines", len(all))
	}
	defaults := make(map[types.OperatingSystem]int)
	ids := make(map[string]bool)
	for _, b := range all {
		if err := Validate(&b.Baseline); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		if b.Description == "" || ids[b.BaselineId] {
			t.Errorf("%s: description %q, id %s", b.Name, b.Description, b.BaselineId)
		}
		ids[b.BaselineId] = true
		if b.Default {
			defaults[b.OperatingSystem]++
		}
		for _, id := range []string{b.BaselineId, b.BaselineId[strings.LastIndexByte(b.BaselineId, '/')+1:]} {
			if found, ok := PredefinedByID(id); !ok || found.Name != b.Name {
				t.Errorf("%s is not found by %s", b.Name, id)
			}
		}
	}
	for _, os := range types.OperatingSystem("").Values() {
		if b, ok := PredefinedDefault(os); !ok || b.OperatingSystem != os || defaults[os] != 1 {
			t.Errorf("%s has %d defaults", os, defaults[os])
		}
	}
	for _, id := range []string{"", "pb-", "pb-0123456789abcdef0", "/", "arn:aws:ssm:us-east-1:1:patchbaseline/", "09a5f8eb62bde80b1"} {
		if _, ok := PredefinedByID(id); ok {
			t.Errorf("%q finds a predefined baseline", id)
		}
	}
	all[0].ApprovalRules.PatchRules[0].PatchFilterGroup.PatchFilters[0].Values[0] = "changed"
	if Predefined()[0].ApprovalRules.PatchRules[0].PatchFilterGroup.PatchFilters[0].Values[0] == "changed" {
		t.Error("a caller changed a predefined baseline")
	}
}

// TestPredefinedEqualAWS compares everything but dates and descriptions.
func TestPredefinedEqualAWS(t *testing.T) {
	files := realFiles(t, "aws-default-baselines", "*.json")
	if len(files) == 0 {
		return
	}
	own := make(map[string]PredefinedBaseline)
	for _, b := range Predefined() {
		own[b.Name] = b
	}
	if len(files) != len(own) {
		t.Errorf("AWS has %d baselines, we have %d", len(files), len(own))
	}
	for file, data := range files {
		var aws map[string]any
		if err := json.Unmarshal(data, &aws); err != nil {
			t.Fatal(err)
		}
		name, _ := aws["Name"].(string)
		b, ok := own[name]
		if !ok {
			t.Errorf("%s: there is no %s", file, name)
			continue
		}
		if groups, ok := aws["PatchGroups"].([]any); !ok || len(groups) != 0 {
			t.Errorf("%s has patch groups", file)
		}
		for _, not := range []string{"CreatedDate", "ModifiedDate", "Description", "PatchGroups"} {
			delete(aws, not)
		}
		if got := wire(t, b.Baseline); !reflect.DeepEqual(got, aws) {
			t.Errorf("%s:\n got %v\nwant %v", file, got, aws)
		}
	}
}

// wire is a baseline as the API writes it: without what is nil, with empty lists.
func wire(t *testing.T, b Baseline) map[string]any {
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"ApprovedPatches", "RejectedPatches", "Sources"} {
		if m[list] == nil {
			m[list] = []any{}
		}
	}
	if m["ApprovedPatchesEnableNonSecurity"] == nil {
		m["ApprovedPatchesEnableNonSecurity"] = false
	}
	for _, rule := range m["ApprovalRules"].(map[string]any)["PatchRules"].([]any) {
		for k, v := range rule.(map[string]any) {
			if v == nil {
				delete(rule.(map[string]any), k)
			}
		}
	}
	return m
}
