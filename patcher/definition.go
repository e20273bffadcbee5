package patcher

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/awsjson"
)

// ParseDefinition reads the members that CreatePatchBaseline has for a baseline, as
// they came over the wire. Name and OperatingSystem may be missing.
func ParseDefinition(definition []byte) (Baseline, error) {
	var in ssm.CreatePatchBaselineInput
	if err := awsjson.Unmarshal(definition, &in); err != nil {
		return Baseline{}, err
	}
	return Baseline{
		Name: aws.ToString(in.Name), OperatingSystem: in.OperatingSystem, GlobalFilters: in.GlobalFilters, ApprovalRules: in.ApprovalRules,
		ApprovedPatches: in.ApprovedPatches, ApprovedPatchesComplianceLevel: in.ApprovedPatchesComplianceLevel,
		ApprovedPatchesEnableNonSecurity: aws.ToBool(in.ApprovedPatchesEnableNonSecurity), RejectedPatches: in.RejectedPatches,
		RejectedPatchesAction: in.RejectedPatchesAction, Sources: in.Sources,
		AvailableSecurityUpdatesComplianceStatus: in.AvailableSecurityUpdatesComplianceStatus,
	}, nil
}

// WithDefaults is the baseline with what Systems Manager puts where nothing is said.
func (b Baseline) WithDefaults() Baseline {
	if b.ApprovedPatchesComplianceLevel == "" {
		b.ApprovedPatchesComplianceLevel = types.PatchComplianceLevelUnspecified
	}
	if b.RejectedPatchesAction == "" {
		b.RejectedPatchesAction = types.PatchActionAllowAsDependency
	}
	if b.ApprovalRules != nil {
		rules := make([]types.PatchRule, len(b.ApprovalRules.PatchRules))
		copy(rules, b.ApprovalRules.PatchRules)
		for i := range rules {
			if rules[i].ComplianceLevel == "" {
				rules[i].ComplianceLevel = types.PatchComplianceLevelUnspecified
			}
			if rules[i].EnableNonSecurity == nil {
				rules[i].EnableNonSecurity = new(bool)
			}
		}
		b.ApprovalRules = &types.PatchRuleGroup{PatchRules: rules}
	}
	return b
}
