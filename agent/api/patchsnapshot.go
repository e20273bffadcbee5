package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// snapshotURL begins a SnapshotDownloadUrl: it holds the snapshot itself, since there
// is no other place to load it from.
const snapshotURL = "data:application/json;base64,"

// getDeployablePatchSnapshotForInstance shows the baseline that a run with a snapshot
// id has for a node, or would freeze for it now.
func (c *call) getDeployablePatchSnapshotForInstance(in *ssm.GetDeployablePatchSnapshotForInstanceInput) (*ssm.GetDeployablePatchSnapshotForInstanceOutput, error) {
	node, err := raftstore.GetNode(c, aws.ToString(in.InstanceId))
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidInstance, "%s is not enrolled in this mesh.", aws.ToString(in.InstanceId))
	}
	if err != nil {
		return nil, err
	}
	os := patcher.OperatingSystemOf(node.PlatformName, node.PlatformVersion)
	if os == "" {
		return nil, refuse(codeUnsupportedOS, "There are no patch baselines for %s %s.", node.PlatformName, node.PlatformVersion)
	}
	content, err := c.deployable(in, os, raftstore.PatchGroupOf(node.Tags))
	if err != nil {
		return nil, err
	}
	product := fmt.Sprintf("%s %s", node.PlatformName, node.PlatformVersion)
	if state, err := c.patchState(node.ID); err != nil {
		return nil, err
	} else if state != nil {
		product = cmp.Or(state.Product, product)
	}
	return &ssm.GetDeployablePatchSnapshotForInstanceOutput{
		InstanceId: in.InstanceId, SnapshotId: in.SnapshotId, Product: &product,
		SnapshotDownloadUrl: aws.String(snapshotURL + base64.StdEncoding.EncodeToString(content)),
	}, nil
}

// deployable is the baseline as JSON.
func (c *call) deployable(in *ssm.GetDeployablePatchSnapshotForInstanceInput, os patcher.OperatingSystem, group string) ([]byte, error) {
	if o := in.BaselineOverride; o != nil {
		b := patcher.Baseline{
			OperatingSystem: o.OperatingSystem, GlobalFilters: o.GlobalFilters, ApprovalRules: o.ApprovalRules, ApprovedPatches: o.ApprovedPatches,
			ApprovedPatchesComplianceLevel: o.ApprovedPatchesComplianceLevel, ApprovedPatchesEnableNonSecurity: o.ApprovedPatchesEnableNonSecurity,
			RejectedPatches: o.RejectedPatches, RejectedPatchesAction: o.RejectedPatchesAction, Sources: o.Sources,
			AvailableSecurityUpdatesComplianceStatus: o.AvailableSecurityUpdatesComplianceStatus,
		}
		if b.OperatingSystem != types.OperatingSystem(os) {
			return nil, refuse(codeUnsupportedOS, "The baseline override is for %s and the node is %s.", o.OperatingSystem, os)
		}
		named := b
		named.Name = overriddenBaseline // an override needs none
		if err := patcher.Validate(&named); err != nil {
			return nil, refuse(codeValidation, "%s", err)
		}
		return json.Marshal(b.WithDefaults())
	}
	snapshot, err := raftstore.GetPatchSnapshot(c, aws.ToString(in.SnapshotId), string(os), group)
	if err == nil {
		return snapshot.Baseline, nil
	}
	if !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	id, err := raftstore.PatchBaselineFor(c, string(os), group)
	if err == nil && id == "" {
		id, err = c.defaultBaseline(types.OperatingSystem(os))
	}
	if err != nil {
		return nil, err
	}
	b, err := c.findBaseline(id)
	if err != nil {
		return nil, err
	}
	return json.Marshal(b.Baseline)
}
