package leader

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// snapshotKept is how long a snapshot stays, at least: Systems Manager's three days.
const snapshotKept = 72 * time.Hour

// maxFirstSeen is how many entries of the ledger travel with a job: a fleet that is
// patched has hundreds of versions on offer at a time.
const maxFirstSeen = 4_000

// patchRun is what the leader knows of a run of AWS-RunPatchBaseline; the node reads
// the other parameters of its step.
type patchRun struct {
	// SnapshotID is the parameter's; without one it is the command's id: all nodes of
	// a run get the same baseline, however long the run takes.
	SnapshotID string
	// Overridden: the node is given another baseline by BaselineOverride, which may
	// have delays.
	Overridden bool
	// ForAssociation: patch groups do not count; BaselineTags names the baseline's tag.
	ForAssociation bool
	BaselineTags   string
	// ExpiresAt is the command's.
	ExpiresAt time.Time
}

// freezing finds the baselines for the nodes of one run, on one moment of the store.
// What it freezes is written by put, in the commit of the starts.
type freezing struct {
	r     raftstore.Reader
	run   patchRun
	now   time.Time
	fresh []raftstore.PatchSnapshot
}

func newFreezing(r raftstore.Reader, run patchRun, now time.Time) *freezing {
	return &freezing{r: r, run: run, now: now}
}

// freezeBaseline is the order for one node. problem is a sentence on why the node
// cannot get one; then nothing is frozen.
func (f *freezing) freezeBaseline(node raftstore.Node) (order patcher.Order, problem string, err error) {
	os := patcher.OperatingSystemOf(node.PlatformName, node.PlatformVersion)
	if os == "" {
		return order, fmt.Sprintf("there are no patch baselines for %s %s", node.PlatformName, node.PlatformVersion), nil
	}
	group := raftstore.PatchGroupOf(node.Tags)
	if f.run.ForAssociation {
		group = ""
	}
	snapshot, problem, err := f.snapshot(os, group)
	if err != nil || problem != "" {
		return order, problem, err
	}
	order = patcher.Order{SnapshotId: snapshot.ID, PatchGroup: group, Now: snapshot.FrozenAt}
	if err := json.Unmarshal(snapshot.Baseline, &order.Baseline); err != nil {
		return order, "", fmt.Errorf("read the frozen baseline %s of %s: %w", snapshot.BaselineID, snapshot.ID, err)
	}
	if order.FirstSeen, err = snapshot.FirstSeen(); err == nil && order.FirstSeen == nil && f.needsLedger(&order.Baseline) {
		order.FirstSeen, err = raftstore.PatchesFirstSeen(f.r, string(os), maxFirstSeen)
	}
	return order, "", err
}

// put adds what was frozen to the commit of the starts.
func (f *freezing) put(t *raftstore.Txn) {
	for _, s := range f.fresh {
		t.PutNewPatchSnapshot(s)
	}
}

// snapshot is what the run has frozen for an operating system and a group, or freezes
// now.
func (f *freezing) snapshot(os patcher.OperatingSystem, group string) (raftstore.PatchSnapshot, string, error) {
	snapshot, found, err := f.frozen(os, group)
	if err != nil || found {
		return snapshot, "", err
	}
	snapshot, problem, err := f.freeze(os, group)
	if err == nil && problem == "" {
		f.fresh = append(f.fresh, snapshot)
	}
	return snapshot, problem, err
}

func (f *freezing) frozen(os patcher.OperatingSystem, group string) (raftstore.PatchSnapshot, bool, error) {
	for _, s := range f.fresh {
		if s.OperatingSystem == string(os) && s.PatchGroup == group {
			return s, true, nil
		}
	}
	s, err := raftstore.GetPatchSnapshot(f.r, f.run.SnapshotID, string(os), group)
	if errors.Is(err, raftstore.ErrNotFound) {
		return s, false, nil
	}
	return s, err == nil, err
}

// freeze makes the snapshot of a group. What the run has frozen of the same baseline
// for another group counts.
func (f *freezing) freeze(os patcher.OperatingSystem, group string) (s raftstore.PatchSnapshot, problem string, err error) {
	id, problem, err := taggedBaseline(f.r, string(os), f.run.BaselineTags)
	if err != nil || problem != "" {
		return s, problem, err
	}
	if id == "" {
		if id, err = raftstore.PatchBaselineFor(f.r, string(os), group); err != nil {
			return s, "", err
		}
	}
	if id == "" {
		predefined, ok := patcher.PredefinedDefault(types.OperatingSystem(os))
		if !ok {
			return s, fmt.Sprintf("there is no default patch baseline for %s: register one", os), nil
		}
		id = predefined.BaselineId
	}
	s = raftstore.PatchSnapshot{
		ID: f.run.SnapshotID, OperatingSystem: string(os), PatchGroup: group, BaselineID: id,
		FrozenAt: f.now, KeepUntil: latest(f.now.Add(snapshotKept), f.run.ExpiresAt),
	}
	var same *raftstore.PatchSnapshot
	err = raftstore.ScanPatchSnapshots(f.r, s.ID, s.OperatingSystem, func(other raftstore.PatchSnapshot) bool {
		if other.BaselineID == id {
			same = &other
		}
		return same == nil
	})
	if err != nil {
		return s, "", err
	}
	if same != nil {
		s.Baseline, s.Ledger, s.FrozenAt = same.Baseline, same.Ledger, same.FrozenAt
		return s, "", nil
	}
	b, problem, err := readBaseline(f.r, id)
	if err != nil || problem != "" {
		return s, problem, err
	}
	if s.Baseline, err = json.Marshal(b); err != nil {
		return s, "", fmt.Errorf("freeze the baseline %s: %w", id, err)
	}
	if !f.needsLedger(&b) {
		return s, "", nil
	}
	seen, err := raftstore.PatchesFirstSeen(f.r, string(os), maxFirstSeen)
	if err != nil {
		return s, "", err
	}
	return s, "", s.SetFirstSeen(seen)
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// readBaseline is a baseline as it is now, predefined or of the mesh's own.
func readBaseline(r raftstore.Reader, id string) (b patcher.Baseline, problem string, err error) {
	if predefined, ok := patcher.PredefinedByID(id); ok {
		return predefined.Baseline.WithDefaults(), "", nil
	}
	record, err := raftstore.GetPatchBaseline(r, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return b, fmt.Sprintf("the patch baseline %s is gone", id), nil
	}
	if err != nil {
		return b, "", err
	}
	if b, err = patcher.ParseDefinition(record.Definition); err != nil {
		return b, "", fmt.Errorf("read the patch baseline %s: %w", id, err)
	}
	b.BaselineId, b.Name, b.OperatingSystem = record.ID, record.Name, types.OperatingSystem(record.OperatingSystem)
	return b.WithDefaults(), "", nil
}

// needsLedger: the delays of a baseline count from when the mesh first saw a version,
// as those of the apt families, whose archives give no dates, unless it is predefined;
// one that comes with the request the leader does not see. A version that is not in
// the ledger counts as seen now, so old ones are in it too.
func (f *freezing) needsLedger(b *patcher.Baseline) bool {
	switch b.OperatingSystem {
	case types.OperatingSystemDebian, types.OperatingSystemUbuntu, types.OperatingSystemRaspbian:
	default:
		return false
	}
	_, predefined := patcher.PredefinedByID(b.BaselineId)
	return f.run.Overridden || !predefined && delays(b)
}

// delays: a rule of the baseline looks at dates.
func delays(b *patcher.Baseline) bool {
	return b.ApprovalRules != nil && slices.ContainsFunc(b.ApprovalRules.PatchRules, func(rule types.PatchRule) bool {
		return aws.ToInt32(rule.ApproveAfterDays) > 0 || strings.TrimSpace(aws.ToString(rule.ApproveUntilDate)) != ""
	})
}
