package leader

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

const patchDocument = `{"schemaVersion":"2.2","mainSteps":[{"name":"p","action":"mesh:runPatchBaseline","inputs":{"operation":"Scan"}}]}`

// debians is a store with Debian nodes; the first has a patch group.
func debians(t *testing.T, n int) *memory {
	t.Helper()
	m := newMemory()
	m.term = 1
	var birth raftstore.Txn
	birth.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	for i := range n {
		node := raftstore.Node{ID: fmt.Sprintf("mi-%04d", i), Name: fmt.Sprint(i), PublicKey: fmt.Sprint(i), PlatformType: "Linux", PlatformName: "Debian GNU/Linux", PlatformVersion: "12"}
		if i == 0 {
			node.Tags = map[string]string{"Patch Group": "first"}
		}
		birth.PutNode(node)
	}
	m.must(birth)
	return m
}

func putBaseline(t *testing.T, m *memory, rejected string) {
	t.Helper()
	b := raftstore.PatchBaseline{ID: "pb-0123456789abcdef0", Name: "ours", OperatingSystem: "DEBIAN", Definition: json.RawMessage(`{"RejectedPatches":["` + rejected + `"]}`)}
	if was, err := raftstore.GetPatchBaseline(m, b.ID); err == nil {
		b.Meta = was.Meta
	}
	var txn raftstore.Txn
	txn.PutPatchBaseline(b)
	if b.ModifyIndex == 0 {
		txn.PutDefaultPatchBaseline(raftstore.DefaultPatchBaseline{OperatingSystem: "DEBIAN", BaselineID: b.ID})
	}
	m.must(txn)
}

func orderOf(t *testing.T, job peer.Job) patcher.Order {
	t.Helper()
	if job.PatchProblem != "" {
		t.Fatal(job.PatchProblem)
	}
	var order patcher.Order
	if err := json.Unmarshal(job.Patch, &order); err != nil {
		t.Fatal(err)
	}
	return order
}

func TestAllNodesOfARunGetOneBaseline(t *testing.T) {
	m := debians(t, 3)
	putBaseline(t, m, "before")
	store := &replica{memory: m, term: 1}
	ordered := func(command, node string, parameters map[string][]string) patcher.Order {
		jobs := []peer.Job{{CommandID: command, NodeID: node, Document: json.RawMessage(patchDocument), Parameters: parameters, ExpiresWithin: time.Hour}}
		if err := orderPatches(context.Background(), store, jobs, noon); err != nil {
			t.Fatal(err)
		}
		return orderOf(t, jobs[0])
	}
	snapshot := map[string][]string{"SnapshotId": {"12345678-1234-1234-1234-123456789012"}}
	if got := ordered("c1", "mi-0001", nil); got.Baseline.RejectedPatches[0] != "before" || got.SnapshotId != "c1" || got.Baseline.BaselineId != "pb-0123456789abcdef0" {
		t.Fatalf("the first node got %+v", got)
	}
	ordered("c2", "mi-0001", snapshot)
	putBaseline(t, m, "after")
	if got := ordered("c1", "mi-0002", nil); got.Baseline.RejectedPatches[0] != "before" || !got.Now.Equal(noon) {
		t.Errorf("a later node of the same run got %+v", got.Baseline)
	}
	if got := ordered("c1", "mi-0000", nil); got.Baseline.RejectedPatches[0] != "before" || got.PatchGroup != "first" {
		t.Errorf("a node of another group got %+v in group %q", got.Baseline, got.PatchGroup)
	}
	if got := ordered("c3", "mi-0001", nil); got.Baseline.RejectedPatches[0] != "after" {
		t.Errorf("another run got %+v", got.Baseline)
	}
	if got := ordered("c4", "mi-0002", snapshot); got.Baseline.RejectedPatches[0] != "before" {
		t.Errorf("a run of the same snapshot got %+v", got.Baseline)
	}
}

func TestOnlyJobsThatPatchGetABaseline(t *testing.T) {
	m := debians(t, 1)
	jobs := []peer.Job{
		{CommandID: "plain", NodeID: "mi-0000", Document: json.RawMessage(`{"schemaVersion":"2.2","mainSteps":[]}`)},
		{CommandID: "nested", NodeID: "mi-0000", Document: json.RawMessage(`{}`), Nested: map[string]raftstore.NestedDocument{"x": {Content: json.RawMessage(patchDocument)}}},
	}
	if err := orderPatches(context.Background(), &replica{memory: m, term: 1}, jobs, noon); err != nil {
		t.Fatal(err)
	}
	if jobs[0].Patch != nil || jobs[0].PatchProblem != "" {
		t.Errorf("a job that does not patch got %s", jobs[0].Patch)
	}
	if got := orderOf(t, jobs[1]); got.Baseline.Name != "AWS-DebianDefaultPatchBaseline" {
		t.Errorf("a document that runs one that patches got %q", got.Baseline.Name)
	}
}

func TestJobsThatNeedABaselineWaitForTheStore(t *testing.T) {
	m := debians(t, 1)
	jobs := []peer.Job{{CommandID: "c", NodeID: "mi-0000", Document: json.RawMessage(patchDocument)}}
	err := orderPatches(context.Background(), &replica{memory: m, term: 9}, jobs, noon)
	if outcomeOf(err) != hadNoEffect {
		t.Errorf("a deposed leader is told %v, which does not mean that nothing was sent", err)
	}
}

func TestFindingsAreKeptOnce(t *testing.T) {
	m := debians(t, 2)
	var txn raftstore.Txn
	txn.PutInvocation(raftstore.Invocation{CommandID: "c", NodeID: "mi-0000"})
	m.must(txn)
	store := &replica{memory: m, term: 1}
	finding := func(missing int, ended time.Time) []peer.JobReport {
		r := patcher.Report{
			Operation: types.PatchOperationTypeScan, Platform: patcher.Platform{OperatingSystem: "DEBIAN", Product: "Debian12"}, StartedAt: ended, EndedAt: ended,
			Sources: []patcher.Source{{Name: "main", Fetched: ended}},
		}
		for i := range missing {
			r.Patches = append(r.Patches, patcher.Patch{Title: fmt.Sprintf("p%d.amd64:2", i), KBId: fmt.Sprintf("p%d.amd64", i), State: types.PatchComplianceDataStateMissing, Reason: "approved"})
			r.Offers = append(r.Offers, patcher.Offer{Candidate: patcher.Candidate{Package: patcher.Package{Name: fmt.Sprintf("p%d", i), Arch: "amd64", Version: "2"}}})
		}
		data, err := patcher.EncodeReport(&r, executor.MaxReport)
		if err != nil {
			t.Fatal(err)
		}
		return []peer.JobReport{{CommandID: "c", Findings: map[string][]byte{"p": data}}}
	}
	keep := func(node string, reports []peer.JobReport) {
		t.Helper()
		if err := keepFindings(context.Background(), store, node, reports, noon); err != nil {
			t.Fatal(err)
		}
	}
	missing := func(node string) int {
		state, err := raftstore.GetPatchState(m, node)
		if err != nil {
			return -1
		}
		return state.Counts.Missing
	}
	first := finding(3, noon.Add(-time.Hour))
	var group sync.WaitGroup
	group.Go(func() { keep("mi-0000", first) })
	group.Wait()
	if got := missing("mi-0000"); got != 3 {
		t.Fatalf("%d patches are missing, want 3", got)
	}
	index := m.index
	keep("mi-0000", first)
	if m.index != index {
		t.Error("a report that comes again is written again")
	}
	keep("mi-0000", finding(1, noon.Add(-time.Minute)))
	keep("mi-0000", first)
	if got := missing("mi-0000"); got != 1 {
		t.Errorf("%d patches are missing after an old report came late, want 1", got)
	}
	keep("mi-0001", first)
	if got := missing("mi-0001"); got != -1 {
		t.Error("a node that was not asked changed what is known of it")
	}
	bad := []peer.JobReport{{CommandID: "c", Findings: map[string][]byte{"p": []byte("nonsense")}}}
	if err := keepFindings(context.Background(), store, "mi-0000", bad, noon); outcomeOf(err) != isMalformed {
		t.Errorf("nonsense is answered with %v", err)
	}
}
