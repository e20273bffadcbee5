package patcher

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestFilter(t *testing.T) {
	n := Notice{ID: "RHSA-2026:1", Type: "security", Severity: "IMPORTANT", CVEs: []string{"CVE-2026-1"}, Bugzillas: []string{"7"}}
	rpm := &subject{Package: parsePackage("bash.x86_64:1:5.1-2.el9"), notices: []Notice{n}, origins: []Origin{{Repository: "baseos"}}}
	bare := &subject{Package: parsePackage("own.noarch:0:1-1")}
	deb := &subject{Package: parsePackage("libc6.amd64:2.36-9+deb12u7"), priority: "required", section: "libs", origins: []Origin{secSuite}}
	for _, test := range []struct {
		s        *subject
		platform Platform
		filter   string
		want     bool
	}{
		{rpm, rocky, "PRODUCT=RockyLinux9.4", true},
		{rpm, rocky, "PRODUCT=RockyLinux9", false},
		{rpm, rocky, "PRODUCT=RockyLinux9.*", true},
		{rpm, rocky, "PRODUCT=RockyLinux8.*", false},
		{rpm, rocky, "PRODUCT=Rocky*", false},
		{rpm, rocky, "PRODUCT=RockyLinux8.4,RockyLinux9.4", true},
		{rpm, rocky, "PRODUCT=*", true},
		{rpm, Platform{}, "PRODUCT=*", true},
		{rpm, Platform{}, "PRODUCT=RockyLinux9.4", false},
		{rpm, rocky, "CLASSIFICATION=Security", true},
		{rpm, rocky, "CLASSIFICATION=Bugfix,Enhancement", false},
		{rpm, rocky, "SEVERITY=Important", true},
		{rpm, rocky, "SEVERITY=Critical", false},
		{rpm, rocky, "ADVISORY_ID=RHSA-2026:1", true},
		{rpm, rocky, "CVE_ID=CVE-2026-1", true},
		{rpm, rocky, "BUGZILLA_ID=8", false},
		{rpm, rocky, "BUGZILLA_ID=7", true},
		{rpm, rocky, "NAME=bash", true},
		{rpm, rocky, "NAME=Bash", false},
		{rpm, rocky, "ARCH=x86_64", true},
		{rpm, rocky, "EPOCH=1", true},
		{rpm, rocky, "VERSION=5.1", true},
		{rpm, rocky, "RELEASE=2.el9", true},
		{rpm, rocky, "REPOSITORY=baseos", true},
		{rpm, rocky, "REPOSITORY=appstream", false},
		{rpm, rocky, "PATCH_ID=bash.x86_64", true},
		{rpm, rocky, "PATCH_ID=RHSA-2026:1", true},
		{rpm, rocky, "SECURITY=True", true},
		{rpm, rocky, "PATCH_SET=OS", true},
		{rpm, rocky, "PATCH_SET=APPLICATION", false},
		{rpm, rocky, "PRODUCT_FAMILY=Windows", false},
		{bare, rocky, "CLASSIFICATION=*", true},
		{bare, rocky, "CLASSIFICATION=Security", false},
		{bare, rocky, "SEVERITY=None", false}, // no notice is no severity None
		{bare, rocky, "EPOCH=0", true},
		{bare, rocky, "SECURITY=false", true},
		{bare, rocky, "ADVISORY_ID=X", false},
		{deb, bookworm, "PRIORITY=Required", true},
		{deb, bookworm, "PRIORITY=Important,Standard", false},
		{deb, bookworm, "SECTION=libs", true},
		{deb, bookworm, "SECTION=Libs", true},
		{deb, bookworm, "SECTION=admin", false},
		{deb, bookworm, "CLASSIFICATION=Security", true},
		{deb, bookworm, "REPOSITORY=stable-security", true},
		{deb, bookworm, "VERSION=2.36", true},
		{deb, bookworm, "RELEASE=9+deb12u7", true},
		{deb, bookworm, "EPOCH=0", true},
		{deb, bookworm, "SEVERITY=Important", false},
	} {
		f := familyOf(test.platform.OperatingSystem, "")
		view := test.s.views(test.platform, f)[0]
		if got := view.matches(group(test.filter).PatchFilters[0]); got != test.want {
			t.Errorf("%s of %s: %v, want %v", test.filter, test.s.Title(), got, test.want)
		}
	}
	if (filterView{subject: bare}).mismatch(nil) != nil {
		t.Error("no filter is a mismatch")
	}
}

func TestSeverity(t *testing.T) {
	for _, test := range []struct {
		os              OperatingSystem
		published, want string
	}{
		{"ROCKY_LINUX", "Important", "Important"}, {"ROCKY_LINUX", "", "None"}, {"ROCKY_LINUX", "none", "None"}, {"AMAZON_LINUX_2", "", ""},
		{"AMAZON_LINUX_2023", "medium", "Medium"}, {"AMAZON_LINUX_2023", "Moderate", "Moderate"}, {"SUSE", "critical", "Critical"},
		{"SUSE", "unspecified", "Unspecified"}, {"", " LOW ", "Low"},
	} {
		if got := severity(test.os, &Notice{Severity: test.published}); got != test.want {
			t.Errorf("severity %q on %s is %q, want %q", test.published, test.os, got, test.want)
		}
	}
	for published, want := range map[string]string{"security": "Security", "bugfix": "Bugfix", "enhancement": "Enhancement", "newpackage": "Newpackage",
		"recommended": "Recommended", "optional": "Optional", "feature": "Feature", "document": "Document", "yast": "Yast", "": ""} {
		if got := classification(&Notice{Type: published}); got != want {
			t.Errorf("classification of %q is %q, want %q", published, got, want)
		}
	}
}

// TestSecurityOrigin: the archives that are for security by their Release files.
func TestSecurityOrigin(t *testing.T) {
	for _, test := range []struct {
		o    Origin
		want bool
	}{
		{secSuite, true},
		{Origin{Label: "Debian-Security", Suite: "oldoldstable", Codename: "buster"}, true}, // before Debian 11: buster/updates
		{Origin{Label: "Ubuntu", Suite: "noble-security"}, true},
		{Origin{Label: "UbuntuESMApps", Suite: "jammy-apps-security"}, true},
		{Origin{Label: "Mirror", Codename: "bookworm-security"}, true},
		{mainSuite, false},
		{Origin{Label: "Ubuntu", Suite: "noble-updates"}, false},
		{Origin{Label: "Debian Backports", Suite: "stable-backports"}, false},
		{Origin{Label: "Raspbian", Suite: "stable"}, false},
		{Origin{}, false},
	} {
		if got := offeredForSecurity([]Origin{test.o}); got != test.want {
			t.Errorf("%+v: %v", test.o, got)
		}
	}
}

func TestProperties(t *testing.T) {
	for _, os := range types.OperatingSystem("").Values() {
		names := Properties(os)
		if len(names) < 2 {
			t.Errorf("%s has the properties %v", os, names)
		}
		keys := FilterKeys(os)
		for _, p := range names {
			found := false
			for _, k := range keys {
				found = found || string(k) == string(p)
			}
			if !found {
				t.Errorf("%s has the property %s and no such filter", os, p)
			}
			for _, v := range PropertyValues(os, p, "") {
				if !knownValue(os, p, v) {
					t.Errorf("%s: the value %s of %s is refused in a filter", os, v, p)
				}
			}
		}
	}
	PropertyValues(types.OperatingSystemDebian, types.PatchPropertyPatchPriority, "")[0] = "changed"
	if v := PropertyValues(types.OperatingSystemDebian, types.PatchPropertyPatchPriority, "")[0]; v != "Required" {
		t.Errorf("a caller changed a value: %s", v)
	}
	if v := PropertyValues(types.OperatingSystemWindows, types.PatchPropertyProduct, types.PatchSetApplication); len(v) == 0 || v[0] == "Windows7" {
		t.Errorf("applications: %v", v)
	}
	if v := PropertyValues(types.OperatingSystemDebian, types.PatchPropertyPatchSeverity, ""); len(v) != 0 {
		t.Errorf("Debian has severities: %v", v)
	}
}
