package api

import (
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// maxPatchGroups is how many groups a baseline may be registered for.
const maxPatchGroups = 1000

func (c *call) registerPatchBaselineForPatchGroup(in *ssm.RegisterPatchBaselineForPatchGroupInput) (*ssm.RegisterPatchBaselineForPatchGroupOutput, error) {
	b, err := c.findBaseline(aws.ToString(in.BaselineId))
	if err != nil {
		return nil, err
	}
	name := aws.ToString(in.PatchGroup)
	group, err := raftstore.GetPatchGroup(c, b.os(), name)
	switch {
	case errors.Is(err, raftstore.ErrNotFound):
		groups, err := raftstore.PatchGroupsOf(c, b.os(), b.BaselineId)
		if err != nil {
			return nil, err
		}
		if len(groups) >= maxPatchGroups {
			return nil, refuse(codeResourceLimit, "A patch baseline has at most %d patch groups.", maxPatchGroups)
		}
		c.touch(b)
		c.txn.PutPatchGroup(raftstore.PatchGroup{OperatingSystem: b.os(), Name: name, BaselineID: b.BaselineId, RegisteredAt: c.now})
		c.resource = b.BaselineId
	case err != nil:
		return nil, err
	case group.BaselineID != b.BaselineId:
		return nil, refuse(codeAlreadyExists, "The patch group %q already has a patch baseline for %s: %s. Deregister it first.", name, b.OperatingSystem, group.BaselineID)
	}
	return &ssm.RegisterPatchBaselineForPatchGroupOutput{BaselineId: aws.String(b.BaselineId), PatchGroup: &name}, nil
}

func (c *call) deregisterPatchBaselineForPatchGroup(in *ssm.DeregisterPatchBaselineForPatchGroupInput) (*ssm.DeregisterPatchBaselineForPatchGroupOutput, error) {
	b, err := c.findBaseline(aws.ToString(in.BaselineId))
	if err != nil {
		return nil, err
	}
	name := aws.ToString(in.PatchGroup)
	group, err := raftstore.GetPatchGroup(c, b.os(), name)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	if err == nil && group.BaselineID == b.BaselineId {
		c.txn.DeletePatchGroup(group)
		c.resource = b.BaselineId
	}
	return &ssm.DeregisterPatchBaselineForPatchGroupOutput{BaselineId: aws.String(b.BaselineId), PatchGroup: &name}, nil
}

func (c *call) getPatchBaselineForPatchGroup(in *ssm.GetPatchBaselineForPatchGroupInput) (*ssm.GetPatchBaselineForPatchGroupOutput, error) {
	os := windowsUnless(in.OperatingSystem)
	id, err := raftstore.PatchBaselineFor(c, string(os), aws.ToString(in.PatchGroup))
	if err == nil && id == "" {
		id, err = c.defaultBaseline(os)
	}
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, refuse(codeDoesNotExist, "There is no default patch baseline for %s: register one.", os)
	}
	return &ssm.GetPatchBaselineForPatchGroupOutput{BaselineId: &id, PatchGroup: in.PatchGroup, OperatingSystem: os}, nil
}

func (c *call) describePatchGroups(in *ssm.DescribePatchGroupsInput) (*ssm.DescribePatchGroupsOutput, error) {
	filters, err := orchestratorFilters(in.Filters, "NAME_PREFIX", "OPERATING_SYSTEM")
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribePatchGroupsOutput{Mappings: []types.PatchGroupPatchBaselineMapping{}}
	next := ""
	defaults := map[types.OperatingSystem]string{}
	var failed error
	err = raftstore.ScanPatchGroups(c, start, func(position string, g raftstore.PatchGroup) bool {
		if !fits(filters["NAME_PREFIX"], func(v string) bool { return strings.HasPrefix(g.Name, v) }) ||
			!fits(filters["OPERATING_SYSTEM"], func(v string) bool { return v == g.OperatingSystem }) {
			return true
		}
		if len(out.Mappings) == pageSize(in.MaxResults) {
			next = position
			return false
		}
		var b *oneBaseline
		if b, failed = c.findBaseline(g.BaselineID); failed != nil {
			return false
		}
		identity, err := c.identify(b, defaults)
		out.Mappings = append(out.Mappings, types.PatchGroupPatchBaselineMapping{PatchGroup: aws.String(g.Name), BaselineIdentity: &identity})
		failed = err
		return err == nil
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (c *call) describePatchGroupState(in *ssm.DescribePatchGroupStateInput) (*ssm.DescribePatchGroupStateOutput, error) {
	var with struct {
		installed, other, pending, rejected, missing, failed, notApplicable, critical, security, rest, all int32
	}
	add := func(n *int32, count int) {
		if count > 0 {
			*n++
		}
	}
	var failed error
	err := raftstore.ScanNodes(c, "", func(n raftstore.Node) bool {
		if raftstore.PatchGroupOf(n.Tags) != aws.ToString(in.PatchGroup) {
			return true
		}
		with.all++
		state, err := raftstore.GetPatchState(c, n.ID)
		if err != nil {
			if !errors.Is(err, raftstore.ErrNotFound) {
				failed = err
			}
			return failed == nil
		}
		counts := state.Counts
		add(&with.installed, counts.Installed)
		add(&with.other, counts.InstalledOther)
		add(&with.pending, counts.InstalledPendingReboot)
		add(&with.rejected, counts.InstalledRejected)
		add(&with.missing, counts.Missing)
		add(&with.failed, counts.Failed)
		add(&with.notApplicable, counts.NotApplicable)
		add(&with.critical, counts.CriticalNonCompliant)
		add(&with.security, counts.SecurityNonCompliant)
		add(&with.rest, counts.OtherNonCompliant)
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	return &ssm.DescribePatchGroupStateOutput{
		Instances: with.all, InstancesWithInstalledPatches: with.installed, InstancesWithInstalledOtherPatches: with.other,
		InstancesWithInstalledPendingRebootPatches: &with.pending, InstancesWithInstalledRejectedPatches: &with.rejected,
		InstancesWithMissingPatches: with.missing, InstancesWithFailedPatches: with.failed, InstancesWithNotApplicablePatches: with.notApplicable,
		InstancesWithUnreportedNotApplicablePatches: aws.Int32(0), InstancesWithCriticalNonCompliantPatches: &with.critical,
		InstancesWithSecurityNonCompliantPatches: &with.security, InstancesWithOtherNonCompliantPatches: &with.rest,
		InstancesWithAvailableSecurityUpdates: aws.Int32(0),
	}, nil
}
