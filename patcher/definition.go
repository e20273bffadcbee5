package patcher

import (
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

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
