package patcher

import (
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Counts are the counters of InstancePatchState.
type Counts struct {
	Installed, InstalledOther, InstalledPendingReboot, InstalledRejected int
	Missing, Failed, NotApplicable, AvailableSecurityUpdate              int
	// Of what is not compliant: of level CRITICAL; for security; neither. A patch may be
	// both of the first two.
	CriticalNonCompliant, SecurityNonCompliant, OtherNonCompliant int
}

// Count counts the patches of a report and the packages that it only numbers.
func Count(patches []Patch, notApplicable int) Counts {
	c := Counts{NotApplicable: notApplicable}
	for i := range patches {
		p := &patches[i]
		switch p.State {
		case types.PatchComplianceDataStateInstalled:
			c.Installed++
		case types.PatchComplianceDataStateInstalledOther:
			c.InstalledOther++
		case types.PatchComplianceDataStateInstalledPendingReboot:
			c.InstalledPendingReboot++
		case types.PatchComplianceDataStateInstalledRejected:
			c.InstalledRejected++
		case types.PatchComplianceDataStateMissing:
			c.Missing++
		case types.PatchComplianceDataStateFailed:
			c.Failed++
		case types.PatchComplianceDataStateNotApplicable:
			c.NotApplicable++
		case types.PatchComplianceDataStateAvailableSecurityUpdate:
			c.AvailableSecurityUpdate++
		}
		if CompliantState(p.State) {
			continue
		}
		critical := p.ComplianceLevel == types.PatchComplianceLevelCritical
		if critical {
			c.CriticalNonCompliant++
		}
		if p.Security {
			c.SecurityNonCompliant++
		}
		if !critical && !p.Security {
			c.OtherNonCompliant++
		}
	}
	return c
}

// CompliantState tells whether a patch in this state leaves its node compliant. A
// security update that is only available does on Linux, where there is no such state.
func CompliantState(s types.PatchComplianceDataState) bool {
	switch s {
	case types.PatchComplianceDataStateMissing, types.PatchComplianceDataStateFailed,
		types.PatchComplianceDataStateInstalledRejected, types.PatchComplianceDataStateInstalledPendingReboot:
		return false
	}
	return true
}

// Compliant tells whether the node of these counters is.
func (c Counts) Compliant() bool {
	return c.Missing == 0 && c.Failed == 0 && c.InstalledRejected == 0 && c.InstalledPendingReboot == 0
}

// OverallSeverity is the gravest compliance level of what is missing, or, where
// nothing is, of what else is not compliant; UNSPECIFIED of a compliant node.
func OverallSeverity(patches []Patch) types.PatchComplianceLevel {
	missing, other := types.PatchComplianceLevelUnspecified, types.PatchComplianceLevelUnspecified
	any := false
	for i := range patches {
		p := &patches[i]
		switch {
		case p.State == types.PatchComplianceDataStateMissing:
			any = true
			missing = graver(missing, p.ComplianceLevel)
		case !CompliantState(p.State):
			other = graver(other, p.ComplianceLevel)
		}
	}
	if any {
		return missing
	}
	return other
}

func graver(a, b types.PatchComplianceLevel) types.PatchComplianceLevel {
	if levelRank(b) > levelRank(a) {
		return b
	}
	return a
}
