package patcher

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestReadZypperUpdates(t *testing.T) {
	var got []Package
	err := readZypperUpdates(strings.NewReader(`<?xml version='1.0'?>
<stream><message type="info">Loading &lt;update kind="package"&gt;</message><update-status version="0.6"><update-list>
<update kind="package" name="lib" edition="1.1-1.el9" arch="noarch" edition-old="1.0-1.el9"><summary>s</summary><source url="u" alias="lab"/></update>
<update kind="package" name="tool" edition="2:1.1-1" arch="x86_64"/>
<update kind="patch" name="SUSE-1" edition="1" arch="noarch"/>
</update-list></update-status></stream>`), func(p Package) { got = append(got, p) })
	if err != nil || !slices.Equal(got, []Package{{"lib", "noarch", "0:1.1-1.el9"}, {"tool", "x86_64", "2:1.1-1"}}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestZypperProblems(t *testing.T) {
	messages, err := readZypperErrors(strings.NewReader(`<stream>
<message type="info">Repository 'lab' is up to date.</message>
<message type="error">Repository &apos;Down One&apos; is invalid.
[down1|http://127.0.0.1:9/x] Valid metadata not found at specified URL
History:
 - Download (curl) error for &apos;http://127.0.0.1:9/x/content&apos;:
Error code: Connection failed
Error message: Failed to connect to 127.0.0.1 port 9

Please check if the URIs defined for this repository are pointing to a valid repository.
</message>
<message type="error">Skipping repository &apos;Down One&apos; because of the above error.</message>
<message type="error">Repository &apos;down2&apos; is invalid.
[down2|dir:/nosuch] Valid metadata not found at specified URL
</message>
<message type="error">Skipping repository &apos;down2&apos; because of the above error.</message>
<message type="error">Some of the repositories have not been refreshed because of an error.</message></stream>`))
	if err != nil {
		t.Fatal(err)
	}
	got := zypperProblems(messages, []zyppRepository{{"lab", "lab"}, {"down1", "Down One"}, {"down2", "down2"}})
	if want := map[string]string{"down1": "Failed to connect to 127.0.0.1 port 9", "down2": "Repository 'down2' is invalid.; [down2|dir:/nosuch] Valid metadata not found at specified URL"}; !maps.Equal(got, want) {
		t.Errorf("problems %q", got)
	}
}

const zyppRepositories = "[a]\nname = The A\nenabled=1\nbaseurl=x\n\n[b]\nenabled=0\n# [no]\n[c]\nbaseurl=y\n"

func TestZyppRepositories(t *testing.T) {
	if got := parseZyppRepositories(zyppRepositories); !slices.Equal(got, []zyppRepository{{"a", "The A"}, {"c", "c"}}) {
		t.Errorf("%v", got)
	}
	if got := withoutRepositories(zyppRepositories, []string{"a"}); got != "[b]\nenabled=0\n# [no]\n[c]\nbaseurl=y\n" {
		t.Errorf("without a: %q", got)
	}
}

func TestZyppLocks(t *testing.T) {
	locks := parseZyppLocks(`
type: package
match_type: glob
case_sensitive: on
solvable_name: held*

type: package
version: < 5
match_type: exact
case_sensitive: on
solvable_name: old

type: patch
match_type: glob
case_sensitive: on
solvable_name: SUSE-1

match_type: regex
case_sensitive: off
solvable_name: ^LIB[0-9]$

match_type: regex
solvable_name: (
`)
	for p, held := range map[Package]bool{
		{"held", "noarch", "0:1-1"}: true, {"heldemo", "x86_64", "0:1-1"}: true, {"other", "noarch", "0:1-1"}: false,
		{"old", "noarch", "0:4.9-1"}: true, {"old", "noarch", "0:5-1"}: false, {"older", "noarch", "0:1-1"}: false,
		{"SUSE-1", "noarch", "0:1-1"}: false, {"lib7", "noarch", "0:1-1"}: true, {"lib77", "noarch", "0:1-1"}: false,
	} {
		if got := locks.hold(p); got != held {
			t.Errorf("%s held: %t", p.Title(), got)
		}
	}
}

func TestWithLocksFile(t *testing.T) {
	got := withLocksFile("## note\n[main]\nlocksfile.path = /etc/zypp/locks\nsolver.onlyRequires = true\n", "/own/locks")
	if want := "[main]\nlocksfile.path = /own/locks\n## note\nsolver.onlyRequires = true\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
