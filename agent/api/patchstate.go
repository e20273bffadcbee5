package api

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// overriddenBaseline stands where the baseline came with the request and has no id.
const overriddenBaseline = "patch-baseline-override"

// describePatchState is a state as Systems Manager shows it.
func describePatchState(s raftstore.PatchState) types.InstancePatchState {
	count := func(n int) *int32 { return aws.Int32(int32(n)) }
	n := s.Counts
	return types.InstancePatchState{
		InstanceId: aws.String(s.NodeID), PatchGroup: aws.String(s.PatchGroup), BaselineId: aws.String(cmp.Or(s.BaselineID, overriddenBaseline)),
		SnapshotId: optional(s.SnapshotID), InstallOverrideList: optional(s.OverrideName),
		InstalledCount: int32(n.Installed), InstalledOtherCount: int32(n.InstalledOther),
		InstalledPendingRebootCount: count(n.InstalledPendingReboot), InstalledRejectedCount: count(n.InstalledRejected),
		MissingCount: int32(n.Missing), FailedCount: int32(n.Failed), NotApplicableCount: int32(n.NotApplicable), UnreportedNotApplicableCount: count(0),
		AvailableSecurityUpdateCount: count(0), CriticalNonCompliantCount: count(n.CriticalNonCompliant),
		SecurityNonCompliantCount: count(n.SecurityNonCompliant), OtherNonCompliantCount: count(n.OtherNonCompliant),
		OperationStartTime: aws.Time(s.StartedAt), OperationEndTime: aws.Time(s.EndedAt), Operation: types.PatchOperationType(s.Operation),
		LastNoRebootInstallOperationTime: optionalTime(s.NoRebootInstallAt), RebootOption: types.RebootOption(s.RebootOption),
	}
}

// patchState is what an enrolled node has told, nil where it has told nothing.
func (c *call) patchState(nodeID string) (*raftstore.PatchState, error) {
	s, err := raftstore.GetPatchState(c, nodeID)
	if errors.Is(err, raftstore.ErrNotFound) || err == nil && !s.Known() {
		return nil, nil
	}
	return &s, err
}

func (c *call) describeInstancePatchStates(in *ssm.DescribeInstancePatchStatesInput) (*ssm.DescribeInstancePatchStatesOutput, error) {
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	ids := slices.Clone(in.InstanceIds)
	slices.Sort(ids)
	out := &ssm.DescribeInstancePatchStatesOutput{InstancePatchStates: []types.InstancePatchState{}}
	for _, id := range slices.Compact(ids) {
		if id < start {
			continue
		}
		if _, err := raftstore.GetNode(c, id); errors.Is(err, raftstore.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		state, err := c.patchState(id)
		if err != nil {
			return nil, err
		}
		if state == nil {
			continue
		}
		if len(out.InstancePatchStates) == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, id)
			return out, err
		}
		out.InstancePatchStates = append(out.InstancePatchStates, describePatchState(*state))
	}
	return out, nil
}

func (c *call) describeInstancePatchStatesForPatchGroup(in *ssm.DescribeInstancePatchStatesForPatchGroupInput) (*ssm.DescribeInstancePatchStatesForPatchGroupOutput, error) {
	for _, f := range in.Filters {
		if err := checkStateFilter(f); err != nil {
			return nil, err
		}
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeInstancePatchStatesForPatchGroupOutput{InstancePatchStates: []types.InstancePatchState{}}
	next := ""
	var failed error
	err = raftstore.ScanNodes(c, start, func(n raftstore.Node) bool {
		if raftstore.PatchGroupOf(n.Tags) != aws.ToString(in.PatchGroup) {
			return true
		}
		state, err := c.patchState(n.ID)
		if err != nil {
			failed = err
			return false
		}
		if state == nil {
			return true
		}
		shown := describePatchState(*state)
		if slices.ContainsFunc(in.Filters, func(f types.InstancePatchStateFilter) bool { return !stateFits(f, &shown) }) {
			return true
		}
		if len(out.InstancePatchStates) == pageSize(in.MaxResults) {
			next = n.ID
			return false
		}
		out.InstancePatchStates = append(out.InstancePatchStates, shown)
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// stateCounters are the counters that filters may ask for.
var stateCounters = map[string]func(*types.InstancePatchState) int32{
	"InstalledCount":               func(s *types.InstancePatchState) int32 { return s.InstalledCount },
	"InstalledOtherCount":          func(s *types.InstancePatchState) int32 { return s.InstalledOtherCount },
	"InstalledPendingRebootCount":  func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.InstalledPendingRebootCount) },
	"InstalledRejectedCount":       func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.InstalledRejectedCount) },
	"MissingCount":                 func(s *types.InstancePatchState) int32 { return s.MissingCount },
	"FailedCount":                  func(s *types.InstancePatchState) int32 { return s.FailedCount },
	"UnreportedNotApplicableCount": func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.UnreportedNotApplicableCount) },
	"NotApplicableCount":           func(s *types.InstancePatchState) int32 { return s.NotApplicableCount },
	"AvailableSecurityUpdateCount": func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.AvailableSecurityUpdateCount) },
	"CriticalNonCompliantCount":    func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.CriticalNonCompliantCount) },
	"SecurityNonCompliantCount":    func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.SecurityNonCompliantCount) },
	"OtherNonCompliantCount":       func(s *types.InstancePatchState) int32 { return aws.ToInt32(s.OtherNonCompliantCount) },
}

func checkStateFilter(f types.InstancePatchStateFilter) error {
	key := aws.ToString(f.Key)
	if stateCounters[key] == nil {
		return refuse(codeInvalidFilter, "The filter key %q isn't valid: use a counter, as MissingCount or InstalledPendingRebootCount.", key)
	}
	if len(f.Values) != 1 {
		return refuse(codeInvalidFilter, "The filter %s has one value.", key)
	}
	if n, err := strconv.Atoi(f.Values[0]); err != nil || n < 0 {
		return refuse(codeInvalidFilter, "The filter %s has a number of 0 or more as its value, not %q.", key, f.Values[0])
	}
	return nil
}

func stateFits(f types.InstancePatchStateFilter, s *types.InstancePatchState) bool {
	have := int(stateCounters[aws.ToString(f.Key)](s))
	want, _ := strconv.Atoi(f.Values[0])
	switch f.Type {
	case types.InstancePatchStateOperatorTypeNotEqual:
		return have != want
	case types.InstancePatchStateOperatorTypeLessThan:
		return have < want
	case types.InstancePatchStateOperatorTypeGreaterThan:
		return have > want
	}
	return have == want
}

// patchFilterKeys are the filters of DescribeInstancePatches.
var patchFilterKeys = []string{"Classification", "KBId", "Severity", "State"}

func (c *call) describeInstancePatches(in *ssm.DescribeInstancePatchesInput) (*ssm.DescribeInstancePatchesOutput, error) {
	id := aws.ToString(in.InstanceId)
	if err := c.checkEnrolled([]string{id}); err != nil {
		return nil, err
	}
	filters := map[string][]string{}
	for _, f := range in.Filters {
		key := aws.ToString(f.Key)
		if !slices.Contains(patchFilterKeys, key) || len(f.Values) == 0 {
			return nil, refuse(codeInvalidFilter, "The filter %q isn't valid: use %s, with values.", key, strings.Join(patchFilterKeys, ", "))
		}
		filters[key] = append(filters[key], f.Values...)
	}
	for _, v := range filters["State"] {
		if !slices.ContainsFunc(types.PatchComplianceDataState("").Values(), func(s types.PatchComplianceDataState) bool { return sameState(v, string(s)) }) {
			return nil, refuse(codeInvalidFilter, "The filter State has no value %q: use Installed, InstalledOther, InstalledPendingReboot, InstalledRejected, Missing, Failed or NotApplicable.", v)
		}
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	list, err := raftstore.GetPatchList(c, id)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	position := func(p *raftstore.PatchEntry) string { return p.Title + "\x00" + p.State }
	slices.SortFunc(list.Patches, func(a, b raftstore.PatchEntry) int { return strings.Compare(position(&a), position(&b)) })
	out := &ssm.DescribeInstancePatchesOutput{Patches: []types.PatchComplianceData{}}
	for i := range list.Patches {
		p := &list.Patches[i]
		if position(p) < start || !entryFits(filters, p) {
			continue
		}
		if len(out.Patches) == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, position(p))
			return out, err
		}
		out.Patches = append(out.Patches, describePatch(p))
	}
	return out, nil
}

func entryFits(filters map[string][]string, p *raftstore.PatchEntry) bool {
	return fits(filters["Classification"], func(v string) bool { return v == p.Classification }) &&
		fits(filters["KBId"], func(v string) bool { return v == p.KBID }) &&
		fits(filters["Severity"], func(v string) bool { return v == p.Severity }) &&
		fits(filters["State"], func(v string) bool { return sameState(v, p.State) })
}

// sameState: filters write InstalledOther what answers write INSTALLED_OTHER.
func sameState(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "_", ""), strings.ReplaceAll(b, "_", ""))
}

// describePatch is a patch as Systems Manager shows it: what a baseline says nothing
// of has neither classification nor severity, and what is not installed was so at the
// beginning of time.
func describePatch(p *raftstore.PatchEntry) types.PatchComplianceData {
	state := types.PatchComplianceDataState(p.State)
	data := types.PatchComplianceData{
		Title: &p.Title, KBId: &p.KBID, Classification: &p.Classification, Severity: &p.Severity, State: state, InstalledTime: &p.InstalledAt,
	}
	if p.InstalledAt.IsZero() {
		data.InstalledTime = aws.Time(time.Unix(0, 0).UTC())
	}
	switch state {
	case types.PatchComplianceDataStateInstalledOther, types.PatchComplianceDataStateNotApplicable:
		data.Classification, data.Severity = aws.String(""), aws.String("")
	case types.PatchComplianceDataStateMissing, types.PatchComplianceDataStateFailed:
		if len(p.CVEs) > 0 {
			data.CVEIds = aws.String(strings.Join(p.CVEs, ","))
		}
	}
	return data
}
