package patcher

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRPMCatalog(t *testing.T) {
	have := func(name, arch, version string) Installed {
		return Installed{Package: Package{Name: name, Arch: arch, Version: version}}
	}
	installed := []Installed{
		have("grown", "noarch", "0:1-1"), have("kernel", "x86_64", "0:5-1"), have("kernel", "x86_64", "0:6-1"),
		have("lib", "i686", "0:1-1"), have("lib", "x86_64", "0:2-1"), have("noted", "x86_64", "0:1-1"), have("shrunk", "x86_64", "0:1-1"),
	}
	c := newRPMCatalog(installed, "x86_64")
	for _, o := range []struct {
		repository string
		Package
	}{
		{"a", Package{"kernel", "x86_64", "0:5-1"}},   // installed, though not the newest
		{"a", Package{"kernel", "x86_64", "0:5.5-1"}}, // older than the newest installed one
		{"a", Package{"kernel", "x86_64", "0:7-1"}},
		{"b", Package{"kernel", "x86_64", "0:7-1"}},
		{"b", Package{"kernel", "x86_64", "0:7-1"}},
		{"a", Package{"lib", "i686", "0:2-1"}},   // an upgrade of the old i686 one
		{"a", Package{"lib", "x86_64", "0:2-1"}}, // installed
		{"a", Package{"lib", "aarch64", "0:9-1"}},
		{"a", Package{"grown", "x86_64", "0:2-1"}},  // from noarch
		{"a", Package{"grown", "i686", "0:2-1"}},    // not of this machine
		{"a", Package{"shrunk", "noarch", "0:2-1"}}, // to noarch
		{"a", Package{"noted", "x86_64", "0:3-1"}},
		{"a", Package{"noted", "x86_64", "0:5-1"}},
		{"a", Package{"new", "x86_64", "0:1-1"}},
		{"b", Package{"new", "x86_64", "0:2-1"}},
	} {
		c.offer(o.repository, offered{Package: o.Package})
	}
	of := func(version string) []Package { return []Package{{"noted", "x86_64", version}} }
	c.notice(Notice{ID: "own"}, of("0:1-1"))
	c.notice(Notice{ID: "past"}, of("0:0.5-1"))
	c.notice(Notice{ID: "between"}, of("0:2-1"))
	c.notice(Notice{ID: "three", CVEs: []string{"CVE-1"}}, of("0:3-1"))
	c.notice(Notice{ID: "three", CVEs: []string{"CVE-1", "CVE-2"}, Severity: "Low", Reboot: true, Updated: time.Unix(1, 0)}, of("0:3-1"))
	c.notice(Notice{ID: "beyond"}, of("0:6-1"))
	var got []string
	for _, candidate := range c.close() {
		line := candidate.Title() + " for " + candidate.Replaces
		for _, o := range candidate.Origins {
			line += " " + o.Repository
		}
		for _, n := range candidate.Notices {
			line += " " + n.ID + n.Severity + strings.Join(n.CVEs, "+")
		}
		got = append(got, line)
	}
	want := []string{
		"grown.x86_64:0:2-1 for 0:1-1 a", "kernel.x86_64:0:7-1 for 0:6-1 a b", "lib.i686:0:2-1 for 0:1-1 a",
		"noted.x86_64:0:3-1 for 0:1-1 a between threeLowCVE-1+CVE-2", "noted.x86_64:0:5-1 for 0:1-1 a", "shrunk.noarch:0:2-1 for 0:1-1 a",
	}
	if !slices.Equal(got, want) {
		t.Errorf("candidates\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(c.lacking) != 1 {
		t.Errorf("lacking: %v", c.lacking)
	}
	if len(installed[1].Origins) != 1 || len(installed[2].Origins) != 0 || len(installed[5].Notices) != 1 || installed[5].Notices[0].ID != "own" {
		t.Errorf("installed: %+v", installed)
	}
	if got := c.suggested(); len(got) != 1 || got[Package{"noted", "x86_64", "0:3-1"}] != "three" {
		t.Errorf("a reboot is suggested for %v", got)
	}
}

func TestReadInstalled(t *testing.T) {
	got, err := readInstalled(strings.NewReader("zlib\tx86_64\t0\t1.2\t1.el9\t1700000000\t1690000000\nkernel\tx86_64\t(none)\t5.14.0\t13.el9\t1700000001\t0\n" +
		"gpg-pubkey\t(none)\t0\tabc\tdef\t1700000000\t0\nkernel\tx86_64\t0\t5.14.0\t9.el9\t1700000002\t0\n"))
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, p := range got {
		titles = append(titles, p.Title())
	}
	if want := []string{"kernel.x86_64:0:5.14.0-9.el9", "kernel.x86_64:0:5.14.0-13.el9", "zlib.x86_64:0:1.2-1.el9"}; !slices.Equal(titles, want) {
		t.Errorf("%v, want %v", titles, want)
	}
	if p := got[2]; !p.InstalledAt.Equal(time.Unix(1700000000, 0)) || !p.Built.Equal(time.Unix(1690000000, 0)) {
		t.Errorf("%+v", p)
	}
	for _, text := range []string{"", "a\tb\n", "\tx86_64\t0\t1\t1\t1\t1\n", "gpg-pubkey\t(none)\t0\tabc\tdef\t1\t0\n"} {
		if _, err := readInstalled(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if found := duplicates(got); len(found) != 1 || found[0].older.Version != "0:5.14.0-9.el9" || found[0].newer.Version != "0:5.14.0-13.el9" {
		t.Errorf("duplicates: %+v", found)
	}
}

func TestSmaller(t *testing.T) {
	p := []Package{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	for _, c := range []struct {
		left     []Package
		progress bool
		want     []int
	}{{nil, true, nil}, {p, true, []int{3}}, {p, false, []int{1, 2}}, {p[:1], true, []int{1}}} {
		var got []int
		for _, part := range smaller(c.left, c.progress) {
			got = append(got, len(part))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d left, progress %t: parts of %v, want %v", len(c.left), c.progress, got, c.want)
		}
	}
}
