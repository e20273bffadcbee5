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
	// ledgers are what was first seen when, by operating system and product.
	ledgers map[string]map[string]time.Time
}

func newFreezing(r raftstore.Reader, run patchRun, now time.Time) *freezing {
	return &freezing{r: r, run: run, now: now, ledgers: map[string]map[string]time.Time{}}
}

// freezeBaseline is the order for one node. problem is a sentence on why the node
// cannot get one; then nothing is frozen.
func (f *freezing) freezeBaseline(node raftstore.Node) (order patcher.Order, problem string, err error) {
	os := patcher.OperatingSystemOf(node.PlatformName, node.PlatformVersion)
	if os == "" {
		return order, fmt.Sprintf("there are no patch baselines for %s %s", node.PlatformName, node.PlatformVersion), nil
	}
	group := raftstore.PatchGroupOf(node.Tags)
	order = patcher.Order{SnapshotId: f.run.SnapshotID, PatchGroup: group}
	if order.Baseline, order.Now, problem, err = f.baseline(os, group); err != nil || problem != "" {
		return order, problem, err
	}
	order.FirstSeen, err = f.firstSeen(&order.Baseline, node)
	return order, "", err
}

// put adds what was frozen to the commit of the starts.
func (f *freezing) put(t *raftstore.Txn) {
	for _, s := range f.fresh {
		t.PutNewPatchSnapshot(s)
	}
}

// baseline is the one that the run has frozen for an operating system and a group, or
// freezes now. at is when.
func (f *freezing) baseline(os patcher.OperatingSystem, group string) (b patcher.Baseline, at time.Time, problem string, err error) {
	snapshot, found, err := f.frozen(os, group)
	if err != nil {
		return b, f.now, "", err
	}
	if !found {
		if snapshot, problem, err = f.freeze(os, group); err != nil || problem != "" {
			return b, f.now, problem, err
		}
		f.fresh = append(f.fresh, snapshot)
	}
	if err := json.Unmarshal(snapshot.Baseline, &b); err != nil {
		return b, f.now, "", fmt.Errorf("read the frozen baseline %s of %s: %w", snapshot.BaselineID, snapshot.ID, err)
	}
	return b, snapshot.FrozenAt, "", nil
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
	id, err := raftstore.PatchBaselineFor(f.r, string(os), group)
	if err != nil {
		return s, "", err
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
		s.Baseline, s.FrozenAt = slices.Clone(same.Baseline), same.FrozenAt
		return s, "", nil
	}
	b, problem, err := readBaseline(f.r, id)
	if err != nil || problem != "" {
		return s, problem, err
	}
	if s.Baseline, err = json.Marshal(b); err != nil {
		return s, "", fmt.Errorf("freeze the baseline %s: %w", id, err)
	}
	return s, "", nil
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

// firstSeen is what a baseline's delays need of the ledger: of the apt families,
// whose archives give no dates, and of baselines that are not predefined, or that the
// leader does not see. A version
// that is not in it counts as seen now, so old ones are in it too.
func (f *freezing) firstSeen(b *patcher.Baseline, node raftstore.Node) (map[string]time.Time, error) {
	switch b.OperatingSystem {
	case types.OperatingSystemDebian, types.OperatingSystemUbuntu, types.OperatingSystemRaspbian:
	default:
		return nil, nil
	}
	if _, predefined := patcher.PredefinedByID(b.BaselineId); !f.run.Overridden && (predefined || !delays(b)) {
		return nil, nil
	}
	product := ""
	state, err := raftstore.GetPatchState(f.r, node.ID)
	if err == nil {
		product = state.Product
	} else if !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	position := string(b.OperatingSystem) + "/" + product
	ledger, known := f.ledgers[position]
	if !known {
		if ledger, err = raftstore.PatchesFirstSeen(f.r, string(b.OperatingSystem), product, maxFirstSeen); err != nil {
			return nil, err
		}
		f.ledgers[position] = ledger
	}
	return ledger, nil
}

// delays: a rule of the baseline looks at dates.
func delays(b *patcher.Baseline) bool {
	return b.ApprovalRules != nil && slices.ContainsFunc(b.ApprovalRules.PatchRules, func(rule types.PatchRule) bool {
		return aws.ToInt32(rule.ApproveAfterDays) > 0 || strings.TrimSpace(aws.ToString(rule.ApproveUntilDate)) != ""
	})
}
