package leader

import (
	"strings"
	"testing"
	"time"

	"fleetmesh/raftstore"
)

func TestTaggedBaseline(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for _, b := range []raftstore.PatchBaseline{
		{ID: "pb-00000000000000001", OperatingSystem: "DEBIAN", Tags: map[string]string{"team": "a"}},
		{ID: "pb-00000000000000002", OperatingSystem: "DEBIAN", Tags: map[string]string{"team": "b"}},
		{ID: "pb-00000000000000003", OperatingSystem: "UBUNTU", Tags: map[string]string{"team": "a"}},
	} {
		b.Definition = []byte(`{}`)
		var txn raftstore.Txn
		txn.PutPatchBaseline(b)
		m.must(txn)
	}
	for text, want := range map[string]string{
		"":                     "",
		"Key=team,Values=a":    "pb-00000000000000001",
		"Key=team,Value=b":     "pb-00000000000000002",
		"Key=team,Values=c,a":  "pb-00000000000000001",
		"Key=team,Values=c":    "",
		"Key=other,Values=a":   "",
		"Key=team,Values=a,b":  "2 patch baselines for DEBIAN have the tag",
		"team=a":               "cannot be read",
		"Key=,Values=a":        "cannot be read",
		"Key=team,Tag=a":       "cannot be read",
		"Key=team,Values=":     "",
		"Key=team Values=team": "cannot be read",
	} {
		id, problem, err := taggedBaseline(m, "DEBIAN", text)
		if err != nil || (id != want && (problem == "" || !strings.Contains(problem, want))) || want == "" && (id != "" || problem != "") {
			t.Errorf("%q: %q, %q, %v", text, id, problem, err)
		}
	}
	// A run of an association has the tagged baseline, whatever the node's patch group.
	node := raftstore.Node{PlatformName: "Debian GNU/Linux", PlatformVersion: "12", Tags: map[string]string{"Patch Group": "web"}}
	for _, run := range []patchRun{
		{SnapshotID: "one", ForAssociation: true, BaselineTags: "Key=team,Values=b"},
		{SnapshotID: "two", ForAssociation: true, BaselineTags: "Key=team,Values=none"},
	} {
		order, problem, err := newFreezing(m, run, time.Now()).freezeBaseline(node)
		if err != nil || problem != "" || order.PatchGroup != "" || run.SnapshotID == "one" != (order.Baseline.BaselineId == "pb-00000000000000002") {
			t.Errorf("%+v: baseline %s, group %q, %q, %v", run, order.Baseline.BaselineId, order.PatchGroup, problem, err)
		}
	}
	if _, problem, err := newFreezing(m, patchRun{SnapshotID: "three", ForAssociation: true, BaselineTags: "Key=team,Values=a,b"}, time.Now()).freezeBaseline(node); err != nil || problem == "" {
		t.Errorf("with two baselines: %q, %v", problem, err)
	}
}
