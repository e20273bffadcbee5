package patcher

import (
	"strings"
	"testing"
)

func TestListEntry(t *testing.T) {
	rpmSubject := &subject{Package: parsePackage("bash.x86_64:0:5.1-2.el9"), notices: []Notice{
		{ID: "RHSA-2026:0864", CVEs: []string{"CVE-2026-1234567"}, Bugzillas: []string{"1234567"}}, {ID: "ALAS2023-2026-123"}}}
	epochSubject := &subject{Package: parsePackage("NetworkManager.x86_64:1:1.10.2-14.el7_5")}
	aptSubject := &subject{Package: parsePackage("libc6.amd64:2.36-9+deb12u7")}
	suseSubject := &subject{Package: parsePackage("libfoo1.x86_64:0:1.2-150600.1.1"), notices: []Notice{{ID: "SUSE-SLE-Module-Basesystem-15-SP6-2026-123"}}}
	for _, test := range []struct {
		entry              string
		family             family
		s                  *subject
		approved, rejected bool
	}{
		{"1234567", yumFamily, rpmSubject, true, false},
		{"123456", yumFamily, rpmSubject, false, false},
		{"CVE-2026-1234567", yumFamily, rpmSubject, true, false},
		{"cve-2026-1234567", yumFamily, rpmSubject, true, false},
		{"CVE-2026-123456", yumFamily, rpmSubject, false, false},
		{"RHSA-2026:0864", yumFamily, rpmSubject, true, false},
		{"RHSA-2026:086", yumFamily, rpmSubject, false, false},
		{"ALAS2023-2026-123", yumFamily, rpmSubject, true, false},
		{"ALAS2023-2026-*", yumFamily, rpmSubject, false, false},
		{"bash-5.1-2.el9.x86_64", yumFamily, rpmSubject, true, true},
		{"bash-0:5.1-2.el9.x86_64", yumFamily, rpmSubject, true, true},
		{"0:bash-5.1-2.el9.x86_64", yumFamily, rpmSubject, true, true},
		{"bash-5.1-2.el9.i686", yumFamily, rpmSubject, false, false},
		{"bash-5.1-2.el9", yumFamily, rpmSubject, false, false},
		{"bash-*.x86_64", yumFamily, rpmSubject, true, true},
		{"bash*", yumFamily, rpmSubject, true, true},
		{"*.x86_64", yumFamily, rpmSubject, true, true},
		{"*", yumFamily, rpmSubject, true, true},
		{"bash-*-2.el9.x86_64", yumFamily, rpmSubject, true, true},
		{"b*-5*", yumFamily, rpmSubject, false, false}, // one wildcard
		{"bas?-5.1-2.el9.x86_64", yumFamily, rpmSubject, false, false},
		{"BASH*", yumFamily, rpmSubject, false, false},
		{"bash", yumFamily, rpmSubject, true, true},
		{"bash.x86_64", yumFamily, rpmSubject, true, true},
		{" bash ", yumFamily, rpmSubject, true, true},
		{"bash-doc", yumFamily, rpmSubject, false, false},
		{"", yumFamily, rpmSubject, false, false},
		{"NetworkManager-1.10.2-14.el7_5.x86_64", yumFamily, epochSubject, true, true},
		{"NetworkManager-1:1.10.2-14.el7_5.x86_64", yumFamily, epochSubject, true, true},
		{"1:NetworkManager-1.10.2-14.el7_5.x86_64", yumFamily, epochSubject, true, true},
		{"NetworkManager-2:1.10.2-14.el7_5.x86_64", yumFamily, epochSubject, false, false},

		{"libc6", aptFamily, aptSubject, true, true},
		{"libc6.amd64", aptFamily, aptSubject, false, false},
		{"libc6:amd64", aptFamily, aptSubject, false, false},
		{"libc6=2.36-9+deb12u7", aptFamily, aptSubject, false, false},
		{"libc*", aptFamily, aptSubject, false, false},
		{"*", aptFamily, aptSubject, false, false},
		{"libc", aptFamily, aptSubject, false, false},
		{"CVE-2026-1", aptFamily, aptSubject, false, false},

		{"SUSE-SLE-Module-Basesystem-15-SP6-2026-123", zypperFamily, suseSubject, true, true},
		{"SUSE-SLE-*-2026-123", zypperFamily, suseSubject, true, true},
		{"SUSE-SLE-Module-Basesystem-15-SP6-2026-12", zypperFamily, suseSubject, false, false},
		{"libfoo1-1.2-150600.1.1.x86_64.rpm", zypperFamily, suseSubject, true, true},
		{"libfoo1-1.2-150600.1.1.x86_64", zypperFamily, suseSubject, true, true},
		{"libfoo1-*.rpm", zypperFamily, suseSubject, true, true},
		{"libfoo1-*.x86_64.*", zypperFamily, suseSubject, false, false},
		{"libfoo", zypperFamily, suseSubject, false, false},

		{"KB123456", otherFamily, rpmSubject, false, false},
	} {
		for _, rejected := range []bool{false, true} {
			want := test.approved
			if rejected {
				want = test.rejected
			}
			if _, got := parseEntry(test.family, rejected, test.entry).names(test.family, rejected, test.s); got != want {
				t.Errorf("%q (rejected: %v) names %s: %v, want %v", test.entry, rejected, test.s.Title(), got, want)
			}
		}
	}
}

func TestGlobMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "abc", true},
		{"a*", "a", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false}, {"a*a", "a", false}, {"a*a", "aa", true},
		{"a*b*c", "aXbYc", true}, {"a*b*c", "acb", false}, {"*b*b*", "abab", true}, {"*b*b*", "ab", false}, {"**", "x", true},
		{"*ab*ab", "abab", true}, {"*ab*ab", "ab", false},
	} {
		if got := globMatch(test.pattern, test.s); got != test.want {
			t.Errorf("globMatch(%q, %q) = %v", test.pattern, test.s, got)
		}
	}
}

// FuzzListEntry: an entry of any text names or does not, without panic; an exact name
// names its package; and what rejects without a wildcard names nothing but versions of
// the package or patch that it spells.
func FuzzListEntry(f *testing.F) {
	for _, seed := range []string{"1234567", "CVE-2026-1", "RHSA-2026:0864", "bash-5.1-2.el9.x86_64", "ba*", "*", "a*b*", "libfoo1-1.2-1.x86_64.rpm", ":-*", "0:"} {
		f.Add(seed, "bash", "0:5.1-2.el9")
	}
	f.Fuzz(func(t *testing.T, entry, name, version string) {
		s := &subject{Package: Package{Name: name, Arch: "x86_64", Version: version}, notices: []Notice{{ID: "RHSA-2026:1"}}}
		for _, family := range []family{otherFamily, aptFamily, yumFamily, zypperFamily} {
			for _, rejected := range []bool{false, true} {
				_, named := parseEntry(family, rejected, entry).names(family, rejected, s)
				text := strings.TrimSpace(entry)
				if named && rejected && !strings.Contains(text, "*") && !strings.Contains(text, name) && text != "RHSA-2026:1" {
					t.Errorf("%q rejects %s", entry, s.Title())
				}
				if named && strings.Count(text, "*") > 1 {
					t.Errorf("%q has more than one wildcard and names %s", entry, s.Title())
				}
			}
		}
	})
}
