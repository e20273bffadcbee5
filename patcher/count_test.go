package patcher

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestCount(t *testing.T) {
	const (
		installed = types.PatchComplianceDataStateInstalled
		other     = types.PatchComplianceDataStateInstalledOther
		pending   = types.PatchComplianceDataStateInstalledPendingReboot
		rejected  = types.PatchComplianceDataStateInstalledRejected
		missing   = types.PatchComplianceDataStateMissing
		failed    = types.PatchComplianceDataStateFailed
		available = types.PatchComplianceDataStateAvailableSecurityUpdate
	)
	p := func(state types.PatchComplianceDataState, level types.PatchComplianceLevel, security bool) Patch {
		return Patch{State: state, ComplianceLevel: level, Security: security}
	}
	for _, test := range []struct {
		name      string
		patches   []Patch
		want      Counts
		compliant bool
		severity  types.PatchComplianceLevel
	}{
		{"nothing", nil, Counts{NotApplicable: 3}, true, "UNSPECIFIED"},
		{"all compliant", []Patch{p(installed, "CRITICAL", true), p(other, "UNSPECIFIED", true), p(available, "HIGH", true)},
			Counts{Installed: 1, InstalledOther: 1, AvailableSecurityUpdate: 1, NotApplicable: 3}, true, "UNSPECIFIED"},
		{"missing: critical, security, both, neither", []Patch{p(missing, "CRITICAL", false), p(missing, "LOW", true), p(missing, "CRITICAL", true), p(missing, "HIGH", false)},
			Counts{Missing: 4, CriticalNonCompliant: 2, SecurityNonCompliant: 2, OtherNonCompliant: 1, NotApplicable: 3}, false, "CRITICAL"},
		{"each state that is not compliant", []Patch{p(failed, "CRITICAL", false), p(rejected, "CRITICAL", false), p(pending, "CRITICAL", false), p(missing, "LOW", false)},
			Counts{Failed: 1, InstalledRejected: 1, InstalledPendingReboot: 1, Missing: 1, CriticalNonCompliant: 3, OtherNonCompliant: 1, NotApplicable: 3}, false, "LOW"},
		{"nothing missing", []Patch{p(failed, "MEDIUM", false), p(pending, "INFORMATIONAL", false)},
			Counts{Failed: 1, InstalledPendingReboot: 1, OtherNonCompliant: 2, NotApplicable: 3}, false, "MEDIUM"},
		{"missing without a level", []Patch{p(missing, "UNSPECIFIED", false), p(failed, "HIGH", false)},
			Counts{Missing: 1, Failed: 1, OtherNonCompliant: 2, NotApplicable: 3}, false, "UNSPECIFIED"},
	} {
		got := Count(test.patches, 3)
		if got != test.want || got.Compliant() != test.compliant {
			t.Errorf("%s: got %+v, compliant %v", test.name, got, got.Compliant())
		}
		if s := OverallSeverity(test.patches); s != test.severity {
			t.Errorf("%s: severity %s, want %s", test.name, s, test.severity)
		}
	}
	for state, want := range map[types.PatchComplianceDataState]bool{installed: true, other: true, available: true, pending: false,
		rejected: false, missing: false, failed: false, types.PatchComplianceDataStateNotApplicable: true} {
		if CompliantState(state) != want {
			t.Errorf("%s: compliant %v", state, !want)
		}
		if c := Count([]Patch{{State: state}}, 0); c.Compliant() != want {
			t.Errorf("a node with %s: compliant %v", state, !want)
		}
	}
}
