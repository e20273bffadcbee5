package patcher

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestReadRepomd(t *testing.T) {
	head, err := readRepomd(strings.NewReader(`<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>1700000000</revision>
  <data type="primary"><location href="repodata/abc-primary.xml.gz"/><timestamp>1700000100</timestamp></data>
  <data type='updateinfo'><checksum type="sha256">f</checksum><location href='repodata/def-updateinfo.xml.xz'/><timestamp>1700000050.5</timestamp></data>
  <data type="odd"><location href="../../../etc/passwd"/></data>
</repomd>`))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Unix(1700000100, 0).UTC(); !head.made.Equal(want) {
		t.Errorf("made at %s, want %s", head.made, want)
	}
	want := map[string]string{"primary": "repodata/abc-primary.xml.gz", "updateinfo": "repodata/def-updateinfo.xml.xz", "odd": "etc/passwd"}
	if !maps.Equal(head.files, want) {
		t.Errorf("files %v, want %v", head.files, want)
	}
	for _, text := range []string{"", "<repomd/>", "<repomd><data type='primary'><location"} {
		if _, err := readRepomd(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

const primarySample = `<?xml version="1.0" encoding="UTF-8"?>
<!-- a > comment --><metadata xmlns="http://linux.duke.edu/metadata/common" packages="4">
<package type="rpm">
  <name>lib&amp;c</name><arch>x86_64</arch><version epoch="2" ver="1.0~rc1" rel="3.el9"/>
  <summary>a <![CDATA[<name>not me</name>]]> b</summary>
  <time file="1700000009" build="1700000001"/>
  <format><rpm:license>MIT</rpm:license><rpm:vendor>V &amp; W</rpm:vendor><rpm:provides><rpm:entry name="other" ver="9" rel="9"/></rpm:provides><name>inner</name><version ver="9"/><file>/a>b</file></format>
</package>
<package type="rpm"><name>source</name><arch>src</arch><version epoch="0" ver="1" rel="1"/></package>
<package type="rpm">
  <name>second</name>
  <arch>noarch</arch>
  <version rel='1' ver="2"/>
</package>
<package type="rpm"><arch>noarch</arch><version epoch="0" ver="1" rel="1"/></package>
</metadata>`

func TestReadPrimary(t *testing.T) {
	var got []offered
	if err := readPrimary(strings.NewReader(primarySample), func(o offered) { got = append(got, o) }); err != nil {
		t.Fatal(err)
	}
	want := []offered{
		{Package{"lib&c", "x86_64", "2:1.0~rc1-3.el9"}, time.Unix(1700000001, 0).UTC(), "V & W"},
		{Package{"second", "noarch", "0:2-1"}, time.Time{}, ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for cut := range len(primarySample) - len("</metadata>") {
		if cut <= strings.Index(primarySample, "<package") {
			continue
		}
		// What is cut within a package is an error, and never a package of half its fields.
		var seen []offered
		err := readPrimary(strings.NewReader(primarySample[:cut]), func(o offered) { seen = append(seen, o) })
		if within := strings.Count(primarySample[:cut], "<package ") > strings.Count(primarySample[:cut], "</package>"); within && err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
		if len(seen) > len(want) || !slices.Equal(seen, want[:len(seen)]) {
			t.Errorf("cut at %d: %v", cut, seen)
		}
	}
}

const updateinfoSample = `<updates>
<update from="x" status="stable" type="Security" version="1.4">
  <id>RHSA-2026:0001</id><title>Important: a &quot;fix&quot;</title><rights>r</rights>
  <issued date="2026-01-10 00:00:00"/><updated date="2026-01-12 10:11:12 UTC"/>
  <severity>Important</severity>
  <description>text with <![CDATA[<id>none</id>]]></description>
  <references>
    <reference href="h" id="CVE-2026-1" type="cve" title="CVE-2026-1"/><reference href="h" id="CVE-2026-1" type="CVE"/>
    <reference href="h" id="12345" type="bugzilla"/><reference href="h" id="RHSA-2026:0001" type="self"/>
  </references>
  <pkglist><collection short="c"><name>c</name><module name="m" stream="1"/>
    <package name="wanted" version="1.1" release="2" epoch="1" arch="x86_64" src="wanted.src.rpm"><filename>f</filename><reboot_suggested>True</reboot_suggested></package>
    <package name="wanted" version="1.1" release="2" epoch="1" arch="src"><filename>f</filename></package>
    <package name="other" version="1" release="1" arch="noarch"/>
  </collection></pkglist>
</update>
<update type="bugfix"><id>RHBA-2</id><issued date="1767225600"/><pkglist><collection><package name="other" version="1" release="1" arch="noarch"/></collection></pkglist></update>
<update type="recommended"><id>SUSE-3</id><issued date="1767225600"/><severity/><pkglist><collection><package name="wanted" version="3" release="1" epoch="0" arch="noarch"><reboot_suggested>false</reboot_suggested></package></collection></pkglist></update>
</updates>`

func TestReadUpdateinfo(t *testing.T) {
	type told struct {
		notice   Notice
		packages []Package
	}
	var got []told
	count, err := readUpdateinfo(strings.NewReader(updateinfoSample), func(name string) bool { return name == "wanted" }, func(n Notice, p []Package) { got = append(got, told{n, p}) })
	if err != nil || count != 3 {
		t.Fatalf("%d notices, %v", count, err)
	}
	if len(got) != 2 {
		t.Fatalf("told %+v", got)
	}
	first := got[0].notice
	if first.ID != "RHSA-2026:0001" || first.Title != `Important: a "fix"` || first.Type != "security" || first.Severity != "Important" || !first.Reboot ||
		!slices.Equal(first.CVEs, []string{"CVE-2026-1"}) || !slices.Equal(first.Bugzillas, []string{"12345"}) ||
		!first.Issued.Equal(time.Date(2026, 1, 10, 0, 0, 0, 0, time.UTC)) || !first.Updated.Equal(time.Date(2026, 1, 12, 10, 11, 12, 0, time.UTC)) {
		t.Errorf("the first is %+v", first)
	}
	if !slices.Equal(got[0].packages, []Package{{"wanted", "x86_64", "1:1.1-2"}}) {
		t.Errorf("the first lists %v", got[0].packages)
	}
	second := got[1].notice
	if second.ID != "SUSE-3" || second.Type != "recommended" || second.Severity != "" || second.Reboot || !second.Issued.Equal(time.Unix(1767225600, 0)) || !second.Updated.IsZero() {
		t.Errorf("the second is %+v", second)
	}
}

func TestParseNEVRA(t *testing.T) {
	for text, want := range map[string]Package{
		"bash-5.1.8-6.el9.x86_64":                     {"bash", "x86_64", "0:5.1.8-6.el9"},
		"java-1.8.0-openjdk-1:1.8.0.412-1.el9.x86_64": {"java-1.8.0-openjdk", "x86_64", "1:1.8.0.412-1.el9"},
		"32:bind-libs-9.11-1.el7.noarch":              {"bind-libs", "noarch", "32:9.11-1.el7"},
	} {
		if got, ok := parseNEVRA(text); !ok || got != want {
			t.Errorf("%s is %+v, %t", text, got, ok)
		}
	}
	for _, text := range []string{"", "bash", "bash.x86_64", "bash-1.x86_64", "-1-1.noarch", "a--1.noarch", "a-1-.noarch"} {
		if got, ok := parseNEVRA(text); ok {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// FuzzTags reads what encoding/xml reads too, and finds the same tags.
func FuzzTags(f *testing.F) {
	f.Add([]byte(primarySample))
	f.Add([]byte(updateinfoSample))
	f.Add([]byte(`<a b='1>2'/><c>&#x41;&lt;</c>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var mine []string
		tags := newTags(bytes.NewReader(data))
		err := tags.next()
		for ; err == nil; err = tags.next() {
			tags.attribute("name")
			if tags.end {
				mine = append(mine, "/"+string(tags.name))
				continue
			}
			mine = append(mine, string(tags.name))
			if tags.empty {
				mine = append(mine, "/"+string(tags.name))
			}
		}
		strict := xml.NewDecoder(bytes.NewReader(data))
		strict.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
		var theirs []string
		for {
			token, failed := strict.RawToken()
			if errors.Is(failed, io.EOF) {
				break
			}
			if failed != nil {
				return // no XML: that it is read without a panic is enough
			}
			switch token := token.(type) {
			case xml.StartElement:
				theirs = append(theirs, qualified(token.Name))
			case xml.EndElement:
				theirs = append(theirs, "/"+qualified(token.Name))
			case xml.Directive:
				return // a document type may hold anything
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("XML is refused: %v", err)
		}
		if !slices.Equal(mine, theirs) {
			t.Errorf("read %q, want %q", mine, theirs)
		}
	})
}

func qualified(name xml.Name) string {
	if name.Space != "" {
		return name.Space + ":" + name.Local
	}
	return name.Local
}

// FuzzRepodata has no bytes that make the readers of metadata panic.
func FuzzRepodata(f *testing.F) {
	f.Add([]byte(primarySample))
	f.Add([]byte(updateinfoSample))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = readRepomd(bytes.NewReader(data))
		_ = readPrimary(bytes.NewReader(data), func(o offered) {
			if o.Name == "" || o.Arch == "" || o.Version == "" {
				t.Errorf("half a package: %+v", o)
			}
		})
		_, _ = readUpdateinfo(bytes.NewReader(data), func(string) bool { return true }, func(n Notice, p []Package) {
			if n.ID == "" || len(p) == 0 {
				t.Errorf("half a notice: %+v", n)
			}
		})
		_ = readZypperUpdates(bytes.NewReader(data), func(Package) {})
		_, _ = readZypperErrors(bytes.NewReader(data))
	})
}
