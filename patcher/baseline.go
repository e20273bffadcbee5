package patcher

import (
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Baseline is a patch baseline as GetPatchBaseline, BaselineOverride and the files
// of AWS write it in JSON; the members have SSM's names and meaning.
type Baseline struct {
	BaselineId                               string
	Name                                     string                      `json:",omitempty"`
	OperatingSystem                          types.OperatingSystem       `json:",omitempty"`
	GlobalFilters                            *types.PatchFilterGroup     `json:",omitempty"`
	ApprovalRules                            *types.PatchRuleGroup       `json:",omitempty"`
	ApprovedPatches                          []string                    `json:",omitempty"`
	ApprovedPatchesComplianceLevel           types.PatchComplianceLevel  `json:",omitempty"`
	ApprovedPatchesEnableNonSecurity         bool                        `json:",omitempty"`
	RejectedPatches                          []string                    `json:",omitempty"`
	RejectedPatchesAction                    types.PatchAction           `json:",omitempty"`
	Sources                                  []types.PatchSource         `json:",omitempty"`
	AvailableSecurityUpdatesComplianceStatus types.PatchComplianceStatus `json:",omitempty"`
}
