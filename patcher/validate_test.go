package patcher

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestRealBaselinesAreValid(t *testing.T) {
	for name, data := range realFiles(t, "create-patch-baseline", "*.json") {
		var b Baseline
		if err := json.Unmarshal(data, &b); err != nil {
			t.Fatal(err)
		}
		if err := Validate(&b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidate(t *testing.T) {
	valid := func(os types.OperatingSystem, filters ...string) *Baseline {
		b := rules(rule(7, filters...))
		b.Name, b.OperatingSystem = "base-line_1.0", os
		return b
	}
	with := func(b *Baseline, change func(*Baseline)) *Baseline { change(b); return b }
	source := func(change func(*types.PatchSource)) *Baseline {
		s := types.PatchSource{Name: aws.String("mine"), Products: []string{"Debian12"}, Configuration: aws.String("deb http://a b c")}
		change(&s)
		return with(valid("DEBIAN"), func(b *Baseline) { b.Sources = []types.PatchSource{s} })
	}
	for _, test := range []struct {
		name string
		b    *Baseline
		want string // part of the sentence; "" where it is valid
	}{
		{"nothing but a name", &Baseline{Name: "abc"}, ""},
		{"windows by default", valid("", "MSRC_SEVERITY=Critical", "CLASSIFICATION=SecurityUpdates", "PATCH_SET=OS", "PRODUCT=WindowsServer2012R2"), ""},
		{"all of rpm", valid("ROCKY_LINUX", "PRODUCT=RockyLinux9.4,RockyLinux11.*", "CLASSIFICATION=Security,Newpackage", "SEVERITY=None,*"), ""},
		{"all of apt", valid("UBUNTU", "PRODUCT=Ubuntu22.04,Ubuntu26.04", "PRIORITY=Required", "SECTION=whatever"), ""},
		{"next products", valid("DEBIAN", "PRODUCT=Debian14"), ""},
		{"suse", valid("SUSE", "PRODUCT=Suse15.6", "CLASSIFICATION=Yast", "SEVERITY=Moderate"), ""},
		{"amazon", valid("AMAZON_LINUX_2023", "SEVERITY=Medium", "PRODUCT=AmazonLinux2023"), ""},
		{"entries of any form", with(valid("AMAZON_LINUX"), func(b *Baseline) { b.ApprovedPatches, b.RejectedPatches = []string{"test123"}, []string{"a*b*c"} }), ""},
		{"a global filter by id", with(valid("CENTOS"), func(b *Baseline) { b.GlobalFilters = group("PATCH_ID=docker-ce.x86_64") }), ""},
		{"until a date", with(valid("SUSE"), func(b *Baseline) { b.ApprovalRules = rules(until(rule(0), "2026-02-28")).ApprovalRules }), ""},
		{"360 days", with(valid("SUSE"), func(b *Baseline) { b.ApprovalRules = rules(rule(360)).ApprovalRules }), ""},
		{"a source", source(func(*types.PatchSource) {}), ""},
		{"an rpm source of many lines", with(valid("CENTOS"), func(b *Baseline) {
			b.Sources = []types.PatchSource{{Name: aws.String("mine"), Products: []string{"CentOS7.9", "*"}, Configuration: aws.String("[a]\nbaseurl=b")}}
		}), ""},

		{"no name", &Baseline{}, "'name' failed to satisfy constraint: Member must satisfy regular expression pattern"},
		{"a short name", &Baseline{Name: "ab"}, "'name'"},
		{"a name with a blank", &Baseline{Name: "a b c"}, "Value 'a b c' at 'name'"},
		{"a system", &Baseline{Name: "abc", OperatingSystem: "PLAN9"}, "Value 'PLAN9' at 'operatingSystem' failed to satisfy constraint: Member must satisfy enum value set: ["},
		{"a level", &Baseline{Name: "abc", ApprovedPatchesComplianceLevel: "BAD"}, "'approvedPatchesComplianceLevel'"},
		{"an action", &Baseline{Name: "abc", RejectedPatchesAction: "IGNORE"}, "[ALLOW_AS_DEPENDENCY, BLOCK]"},
		{"a status", &Baseline{Name: "abc", AvailableSecurityUpdatesComplianceStatus: "MAYBE"}, "'availableSecurityUpdatesComplianceStatus'"},
		{"a key of another system", valid("DEBIAN", "CLASSIFICATION=Security"), "Invalid Filter Key: CLASSIFICATION for Operating System: DEBIAN, valid keys are: PRODUCT, PRIORITY, SECTION"},
		{"a key of windows", valid("ROCKY_LINUX", "MSRC_SEVERITY=Critical"), "Invalid Filter Key: MSRC_SEVERITY"},
		{"a key that is none", valid("DEBIAN", "COLOUR=red"), "'approvalRules.patchRules.1.member.patchFilterGroup.patchFilters.1.member.key'"},
		{"a key twice", valid("DEBIAN", "PRODUCT=Debian12", "PRODUCT=Debian11"), "Duplicate Filter Key: PRODUCT"},
		{"a product of nobody", valid("AMAZON_LINUX", "PRODUCT=All"), "Invalid Filter Value: All for Key: PRODUCT, valid values are: AmazonLinux2012.03, AmazonLinux2012.09"},
		{"a product that never was", valid("AMAZON_LINUX", "PRODUCT=AmazonLinux2018.09"), "Invalid Filter Value: AmazonLinux2018.09"},
		{"a product of another system", valid("DEBIAN", "PRODUCT=Ubuntu22.04"), "Invalid Filter Value: Ubuntu22.04"},
		{"a severity of another system", valid("AMAZON_LINUX_2023", "SEVERITY=Moderate"), "valid values are: Critical, Important, Medium, Low, None"},
		{"a classification in another case", valid("ROCKY_LINUX", "CLASSIFICATION=security"), "Invalid Filter Value: security for Key: CLASSIFICATION"},
		{"a wildcard", valid("ROCKY_LINUX", "CLASSIFICATION=Sec*"), "Invalid Filter Value: Sec*"},
		{"an empty value", valid("DEBIAN", "SECTION="), "Member must have length greater than or equal to 1"},
		{"a long value", valid("DEBIAN", "SECTION="+strings.Repeat("a", 65)), "Member must have length less than or equal to 64"},
		{"21 values", valid("DEBIAN", "SECTION=a"+strings.Repeat(",a", 20)), "less than or equal to 20"},
		{"no values", with(valid("DEBIAN", "PRODUCT=*"), func(b *Baseline) { b.ApprovalRules.PatchRules[0].PatchFilterGroup.PatchFilters[0].Values = nil }), "'approvalRules.patchRules.1.member.patchFilterGroup.patchFilters.1.member.values'"},
		{"five global filters", with(valid("CENTOS"), func(b *Baseline) { b.GlobalFilters = group("PRODUCT=*", "A=*", "B=*", "C=*", "D=*") }), "less than or equal to 4"},
		{"a global filter of another system", with(valid("CENTOS"), func(b *Baseline) { b.GlobalFilters = group("PRIORITY=Required") }), "Invalid Filter Key: PRIORITY"},
		{"eleven rules", with(valid("CENTOS"), func(b *Baseline) {
			b.ApprovalRules = rules(slices.Repeat([]types.PatchRule{rule(1)}, 11)...).ApprovalRules
		}), "less than or equal to 10"},
		{"a rule without filters", with(valid("CENTOS"), func(b *Baseline) { b.ApprovalRules.PatchRules[0].PatchFilterGroup = nil }), "Value null at 'approvalRules.patchRules.1.member.patchFilterGroup'"},
		{"a rule's level", with(valid("CENTOS"), func(b *Baseline) { b.ApprovalRules.PatchRules[0].ComplianceLevel = "BAD" }), "'approvalRules.patchRules.1.member.complianceLevel'"},
		{"both delay and date", with(valid("CENTOS"), func(b *Baseline) { b.ApprovalRules.PatchRules[0].ApproveUntilDate = aws.String("2026-01-01") }), "cannot both be specified"},
		{"neither delay nor date", with(valid("UBUNTU"), func(b *Baseline) { b.ApprovalRules.PatchRules[0].ApproveAfterDays = nil }), "must specify ApproveAfterDays or ApproveUntilDate"},
		{"361 days", with(valid("SUSE"), func(b *Baseline) { b.ApprovalRules = rules(rule(361)).ApprovalRules }), "Member must have value less than or equal to 360"},
		{"-1 days", with(valid("SUSE"), func(b *Baseline) { b.ApprovalRules = rules(rule(-1)).ApprovalRules }), "Member must have value greater than or equal to 0"},
		{"a date that is none", with(valid("SUSE"), func(b *Baseline) { b.ApprovalRules = rules(until(rule(0), "2026-02-30")).ApprovalRules }), "Invalid ApproveUntilDate: 2026-02-30"},
		{"a date with time", with(valid("SUSE"), func(b *Baseline) { b.ApprovalRules = rules(until(rule(0), "2026-02-01T00:00")).ApprovalRules }), "Invalid ApproveUntilDate"},
		{"51 approved", with(valid("SUSE"), func(b *Baseline) { b.ApprovedPatches = slices.Repeat([]string{"a"}, 51) }), "'approvedPatches'"},
		{"an empty entry", with(valid("SUSE"), func(b *Baseline) { b.RejectedPatches = []string{"a", ""} }), "'rejectedPatches.2.member'"},
		{"a long entry", with(valid("SUSE"), func(b *Baseline) { b.RejectedPatches = []string{strings.Repeat("a", 101)} }), "less than or equal to 100"},
		{"a source of windows", with(valid("WINDOWS"), func(b *Baseline) { b.Sources = []types.PatchSource{{}} }), "Sources are not supported for Operating System: WINDOWS"},
		{"a source without a name", source(func(s *types.PatchSource) { s.Name = nil }), "Value null at 'sources.1.member.name'"},
		{"a source with a short name", source(func(s *types.PatchSource) { s.Name = aws.String("ab") }), "'sources.1.member.name'"},
		{"a source without products", source(func(s *types.PatchSource) { s.Products = nil }), "'sources.1.member.products'"},
		{"a source of another product", source(func(s *types.PatchSource) { s.Products = []string{"Ubuntu22.04"} }), "Invalid Filter Value: Ubuntu22.04"},
		{"a source without configuration", source(func(s *types.PatchSource) { s.Configuration = nil }), "Value null at 'sources.1.member.configuration'"},
		{"a source of 1025 characters", source(func(s *types.PatchSource) { s.Configuration = aws.String(strings.Repeat("x", 1025)) }), "between 1 and 1024"},
		{"an apt source of two lines", source(func(s *types.PatchSource) { s.Configuration = aws.String("deb a b c\ndeb d e f") }), "must be a single line"},
		{"two sources of one name", with(source(func(*types.PatchSource) {}), func(b *Baseline) { b.Sources = append(b.Sources, b.Sources[0]) }), "Duplicate source: mine"},
		{"21 sources", with(source(func(*types.PatchSource) {}), func(b *Baseline) { b.Sources = slices.Repeat(b.Sources, 21) }), "less than or equal to 20"},
	} {
		err := Validate(test.b)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrInvalidBaseline) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	secret := source(func(s *types.PatchSource) { s.Configuration = aws.String("secret\n" + strings.Repeat("x", 2000)) })
	if err := Validate(secret); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a source's text is in the message: %v", err)
	}
}
