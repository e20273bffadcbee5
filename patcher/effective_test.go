package patcher

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// An offer is judged as a scan judges it, with the day of its approval.
func TestEffective(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	offer := func(name, kind, severity string, updated time.Time) Offer {
		return Offer{Candidate: Candidate{
			Package: Package{Name: name, Arch: "x86_64", Version: "0:1-1.el9"},
			Notices: []Notice{{ID: "RHSA-1", Type: kind, Severity: severity, Updated: updated}},
		}, Security: kind == "security"}
	}
	filter := func(key types.PatchFilterKey, values ...string) types.PatchFilter {
		return types.PatchFilter{Key: key, Values: values}
	}
	b := &Baseline{
		OperatingSystem: types.OperatingSystemRockyLinux,
		ApprovalRules: &types.PatchRuleGroup{PatchRules: []types.PatchRule{{
			PatchFilterGroup: &types.PatchFilterGroup{PatchFilters: []types.PatchFilter{filter(types.PatchFilterKeyClassification, "Security")}},
			ComplianceLevel:  types.PatchComplianceLevelHigh, ApproveAfterDays: aws.Int32(7),
		}}},
		ApprovedPatches: []string{"listed-1-1.el9.x86_64"}, ApprovedPatchesComplianceLevel: types.PatchComplianceLevelLow,
		RejectedPatches: []string{"bad*"},
	}
	offers := []Offer{
		offer("old", "security", "Important", ago(10)), offer("young", "security", "Important", ago(2)), offer("fix", "bugfix", "", ago(10)),
		offer("listed", "bugfix", "", ago(1)), offer("bad", "security", "Critical", ago(10)),
	}
	want := []Effect{
		{Status: types.PatchDeploymentStatusApproved, Level: types.PatchComplianceLevelHigh, Date: ago(3)},
		{Status: types.PatchDeploymentStatusPendingApproval, Level: types.PatchComplianceLevelHigh, Date: now.AddDate(0, 0, 5)},
		{},
		{Status: types.PatchDeploymentStatusExplicitApproved, Level: types.PatchComplianceLevelLow},
		{Status: types.PatchDeploymentStatusExplicitRejected, Level: types.PatchComplianceLevelUnspecified},
	}
	platform := Platform{OperatingSystem: "ROCKY_LINUX", Product: "RockyLinux9.4"}
	for i, got := range Effective(b, platform, offers, EvaluateOptions{Now: now}) {
		if got.Status != want[i].Status || got.Level != want[i].Level || !got.Date.Equal(want[i].Date) {
			t.Errorf("%s: %+v, want %+v", offers[i].Name, got, want[i])
		}
	}
}

func TestDescribeOffer(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	rpm := Offer{Candidate: Candidate{
		Package: Package{Name: "kernel", Arch: "x86_64", Version: "2:5.14.0-503.el9"}, Origins: []Origin{{Repository: "baseos"}},
		Notices: []Notice{{ID: "B", Type: "bugfix", Issued: at}, {ID: "S", Type: "security", Severity: "Moderate", Updated: at}},
	}, Security: true}
	if d := rpm.Describe("ROCKY_LINUX"); d.Classification != "Security" || d.Severity != "Moderate" || d.Epoch != "2" || d.Version != "5.14.0" ||
		d.Release != "503.el9" || d.Repository != "baseos" || d.Notice.ID != "S" || !d.Released.Equal(at) {
		t.Errorf("rpm: %+v", d)
	}
	deb := Offer{Candidate: Candidate{
		Package: Package{Name: "vim", Arch: "amd64", Version: "2:9.0.1378-2+deb12u2"}, Origins: []Origin{{Vendor: "Debian", Suite: "stable-security", Codename: "bookworm-security"}},
	}, Security: true}
	if d := deb.Describe("DEBIAN"); d.Classification != "Security" || d.Severity != "" || d.Epoch != "2" || d.Version != "9.0.1378" || d.Release != "2+deb12u2" ||
		d.Repository != "stable-security" || d.Vendor != "Debian" || d.Notice != nil || !d.Released.IsZero() {
		t.Errorf("deb: %+v", d)
	}
}

func TestParseDefinition(t *testing.T) {
	t.Parallel()
	b, err := ParseDefinition([]byte(`{"ApprovedPatches":["vim"],"ApprovalRules":{"PatchRules":[{"PatchFilterGroup":{"PatchFilters":[]},"ApproveAfterDays":3}]},"Newer":1}`))
	if err != nil {
		t.Fatal(err)
	}
	b = b.WithDefaults()
	rule := b.ApprovalRules.PatchRules[0]
	if b.ApprovedPatches[0] != "vim" || b.ApprovedPatchesComplianceLevel != "UNSPECIFIED" || b.RejectedPatchesAction != "ALLOW_AS_DEPENDENCY" ||
		rule.ComplianceLevel != "UNSPECIFIED" || rule.EnableNonSecurity == nil || *rule.ApproveAfterDays != 3 {
		t.Errorf("%+v", b)
	}
	if _, err := ParseDefinition([]byte(`{"ApprovedPatches":1}`)); err == nil {
		t.Error("a number is a list")
	}
}
