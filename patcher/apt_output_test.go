package patcher

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestAptPlan(t *testing.T) {
	const text = `Reading package lists...
The following packages have unmet dependencies:
 brokendep : Depends: nowhere (>= 2) but it is not installable
             Depends: other but it is not going to be installed
E: Unable to correct problems, you have held broken packages.
Inst libdemo [1.0] (1.1 Debian-Security:12/oldstable-security [all])
Inst newdemo (1.1 Debian:12/oldstable [all])
Inst libc6:i386 [2.36-9] (2.36-9+deb12u7 Debian:12.7/stable, Debian-Security:12/stable-security [i386]) [libc6:amd64 on libc6:i386]
Inst local [1] (2 localhost [amd64])
Remv old [1]
Conf libdemo (1.1 Debian-Security:12/oldstable-security [all])
`
	var r planReader
	for line := range strings.Lines(text) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	want := []aptStep{
		{Package{"libdemo", "all", "1.1"}, "1.0"}, {Package{"newdemo", "all", "1.1"}, ""},
		{Package{"libc6", "i386", "2.36-9+deb12u7"}, "2.36-9"}, {Package{"local", "amd64", "2"}, "1"},
	}
	if !slices.Equal(r.plan.Install, want) || !slices.Equal(r.plan.Remove, []string{"old"}) {
		t.Errorf("the plan is %+v", r.plan)
	}
	const reason = "brokendep : Depends: nowhere (>= 2) but it is not installable; Depends: other but it is not going to be installed"
	if got := r.plan.reason(); got != reason {
		t.Errorf("the reason is %q", got)
	}
}

func TestAptPlanThatRemoves(t *testing.T) {
	const text = `The following packages will be REMOVED:
  other another:i386*
  third
The following packages will be upgraded:
  conflicting
1 upgraded, 0 newly installed, 3 to remove and 9 not upgraded.
E: Packages need to be removed but remove is disabled.
`
	var r planReader
	for line := range strings.Lines(text) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	r.line("Remv third [1]")
	if got := r.plan.reason(); got != "it needs these packages to be removed: other, another:i386, third" {
		t.Errorf("the reason is %q", got)
	}
}

func TestAptPolicy(t *testing.T) {
	const text = `bash:
  Installed: 5.2
  Candidate: 5.2.1
  Version table:
     5.2.1 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
 *** 5.2 100
        100 /var/lib/dpkg/status
libc6:i386:
  Installed: 1
  Candidate: (none)
  Version table:
     2 -10 (phased 20%)
        500 http://x y/main i386 Packages
`
	r := policyReader{chosen: map[string]string{}, priority: map[string]string{}}
	for line := range strings.Lines(text) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	if want := map[string]string{"bash": "5.2.1", "libc6:i386": "(none)"}; !maps.Equal(r.chosen, want) {
		t.Errorf("chosen are %v", r.chosen)
	}
	if want := map[string]string{"bash 5.2.1": "500", "bash 5.2": "100", "libc6:i386 2": "-10"}; !maps.Equal(r.priority, want) {
		t.Errorf("priorities are %v", r.priority)
	}
}

func TestAptSourceNames(t *testing.T) {
	for address, want := range map[string]string{
		"http://deb.debian.org/debian/dists/bookworm/InRelease":        "http://deb.debian.org/debian bookworm",
		"http://deb.debian.org/debian/dists/bookworm/":                 "http://deb.debian.org/debian bookworm",
		"https://user:secret@example.org/x/dists/stable/updates/":      "https://example.org/x stable/updates",
		"file:/srv/flat/./InRelease":                                   "file:/srv/flat/.",
		"file:/srv/flat/./":                                            "file:/srv/flat/.",
		"copy:/media/cdrom/dists/bookworm/InRelease":                   "copy:/media/cdrom bookworm",
		"mirror+file:/etc/apt/mirrors/debian/dists/bookworm/InRelease": "mirror+file:/etc/apt/mirrors/debian bookworm",
	} {
		if got := sourceName(address); got != want {
			t.Errorf("%s is named %q, want %q", address, got, want)
		}
	}
}

func TestRefreshProblems(t *testing.T) {
	const text = `Hit:1 http://a/debian stable InRelease
Err:2 http://b/debian stable InRelease
  Could not connect to b:80
Err:3 http://c/debian stable/main amd64 Packages
  404  Not Found [IP: 1.2.3.4 80]
W: Failed to fetch http://b/debian/dists/stable/InRelease  Could not connect to b:80
W: http://a/debian/dists/stable/InRelease: Key is stored in legacy trusted.gpg keyring (/etc/apt/trusted.gpg), see the DEPRECATION section in apt-key(8) for details.
E: Release file for http://d/debian/dists/stable/InRelease is expired (invalid since 2d 1h). Updates for this repository will not be applied.
W: An error occurred during the signature verification. The repository is not updated and the previous index files will be used. GPG error: http://u:p@e/debian stable InRelease: The following signatures were invalid
W: Some index files failed to download. They have been ignored, or old ones used instead.
W: Download is performed unsandboxed as root as file '/x' couldn't be accessed by user '_apt'. - pkgAcquire::Run (13: Permission denied)
`
	var r refreshProblems
	for line := range strings.Lines(text) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	for name, want := range map[string]string{
		"http://a/debian stable": "", "http://ab/debian stable": "", "http://b/debian stable-security": "",
		"http://b/debian stable": "Could not connect", "http://c/debian stable": "404 Not Found", "http://d/debian stable": "expired",
		"http://e/debian stable": "signatures were invalid",
	} {
		got := r.of(name)
		if want == "" && got != "" || !strings.Contains(got, want) || strings.Contains(got, "u:p") {
			t.Errorf("the problem of %s is %q, want %q", name, got, want)
		}
	}
}

func TestDpkgErrors(t *testing.T) {
	const text = `Setting up brokendemo (1.1) ...
brokendemo: cannot configure
dpkg: error processing package brokendemo (--configure):
 installed brokendemo package post-installation script subprocess returned error exit status 1
dpkg: dependency problems prevent configuration of depdemo:
 depdemo depends on brokendemo; however:
  Package brokendemo is not configured yet.

dpkg: error processing package depdemo:i386 (--configure):
 dependency problems - leaving unconfigured
Unpacking 0ad (2) over (1) ...
dpkg: error processing archive /tmp/apt-dpkg-install-AbC/07-0ad_1%3a2_all.deb (--unpack):
 new 0ad package pre-installation script subprocess returned error exit status 1
dpkg: error processing archive /var/cache/apt/archives/0x_2_all.deb (--unpack):
 cannot copy extracted data: No space left on device
Configuration file '/etc/confdemo.conf'
 ==> Modified (by you or by a script) since installation.
 ==> Package distributor has shipped an updated version.
 ==> Keeping old config file as default.
Errors were encountered while processing:
 brokendemo
`
	r := dpkgReader{reasons: map[string]string{}}
	for line := range strings.Lines(text) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	for p, want := range map[Package]string{
		{Name: "brokendemo", Arch: "all"}: "installed brokendemo package post-installation script subprocess returned error exit status 1 (brokendemo: cannot configure)",
		{Name: "depdemo", Arch: "i386"}:   "dependency problems - leaving unconfigured (Package brokendemo is not configured yet.)",
		{Name: "depdemo", Arch: "amd64"}:  "",
		{Name: "0ad", Arch: "all"}:        "new 0ad package pre-installation script subprocess returned error exit status 1",
		{Name: "0x", Arch: "all"}:         "cannot copy extracted data: No space left on device",
	} {
		if got := r.reason(p); got != want {
			t.Errorf("the reason of %s is %q, want %q", p.ID(), got, want)
		}
	}
	if !slices.Equal(r.kept, []string{"/etc/confdemo.conf"}) {
		t.Errorf("kept are %q", r.kept)
	}
}

func TestFetchErrors(t *testing.T) {
	r := fetchReader{reasons: map[string]string{}}
	r.line("E: Failed to fetch http://u:p@x/pool/a_1%3a2_all.deb  404  Not Found [IP: 127.0.0.1 80]")
	r.line("E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?")
	if got := r.reasons["a"]; !strings.Contains(got, "404 Not Found") || strings.Contains(got, "u:p") {
		t.Errorf("the reason is %q", got)
	}
	if len(r.other) != 1 {
		t.Errorf("others are %q", r.other)
	}
}

func TestBlockedPatterns(t *testing.T) {
	for name, want := range map[string]string{"bash": "bash", "libstdc++6": "libstdc++6", "python3.11": "python3.11", "bash.amd64": "bash:amd64", "tzdata.all": "tzdata", "linux-image-6.1.0-18-amd64": "linux-image-6.1.0-18-amd64"} {
		if got := blockedPattern(name, "amd64"); got != want {
			t.Errorf("%s becomes %q, want %q", name, got, want)
		}
	}
}

// FuzzAptOutput holds all readers of apt's and dpkg's output to do without a panic,
// and steps to have names.
func FuzzAptOutput(f *testing.F) {
	f.Add("Inst a [1] (2 b:1/c [all])\nE: no\nThe following packages have unmet dependencies:\n a : Depends: b\n")
	f.Add("a:\n  Candidate: 1\n  Version table:\n *** 1 500\n")
	f.Add("dpkg: error processing archive /x/a_1_all.deb (--unpack):\n no\nErr:1 http://x y InRelease\n  no\n")
	f.Add("'http://x/dists/y/InRelease' x_InRelease 0\nE: Failed to fetch http://x/a_1_all.deb  404\n")
	f.Fuzz(func(t *testing.T, text string) {
		var plan planReader
		var problems refreshProblems
		policy := policyReader{chosen: map[string]string{}, priority: map[string]string{}}
		dpkg := dpkgReader{reasons: map[string]string{}}
		fetch := fetchReader{reasons: map[string]string{}}
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			plan.line(line)
			problems.line(line)
			policy.line(line)
			dpkg.line(line)
			fetch.line(line)
			if address, _, ok := printedRelease(line); ok {
				problems.of(sourceName(address))
				siteHost(address)
			}
		}
		plan.plan.reason()
		for _, step := range plan.plan.Install {
			if step.Name == "" && !strings.Contains(text, "Inst :") || step.Version == "" {
				t.Errorf("step %+v", step)
			}
		}
		stanzas(strings.NewReader(text), func(s stanza) error {
			readTarget(s)
			return nil
		})
	})
}
