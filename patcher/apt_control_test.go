package patcher

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestStanzas(t *testing.T) {
	long := "Package: " + strings.Repeat("x", 700<<10)
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"none", "", nil},
		{"only blank lines", "\n\n\n", nil},
		{"one without an end", "Package: a", []string{"Package: a"}},
		{"blank lines around", "\n\nPackage: a\n\n\n\nPackage: b\n\n", []string{"Package: a\n", "Package: b\n"}},
		{"longer than the buffer", long + "\n\nPackage: b\n", []string{long + "\n", "Package: b\n"}},
	} {
		for kind, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "data with its end": iotest.DataErrReader} {
			var got []string
			err := stanzas(wrap(strings.NewReader(c.text)), func(s stanza) error {
				got = append(got, string(s))
				return nil
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%s, %s: %d paragraphs, %v; want %d", c.name, kind, len(got), err, len(c.want))
			}
		}
	}
	if err := stanzas(strings.NewReader(strings.Repeat("x", stanzaLimit+1)), func(stanza) error { return nil }); err == nil {
		t.Error("a paragraph without end is read")
	}
	if err := stanzas(iotest.ErrReader(io.ErrUnexpectedEOF), func(stanza) error { return nil }); err == nil {
		t.Error("a file that cannot be read is read")
	}
}

func TestFields(t *testing.T) {
	s := stanza("Package: a\nversion:1:2-3 \nDescription: one\n Section: not this one\nSection: contrib/net\nEmpty:\n")
	for name, want := range map[string]string{"Package": "a", "Version": "1:2-3", "Section": "contrib/net", "Empty": "", "Pack": "", "Nothing": ""} {
		if got := s.text(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	const text = `Package: libc6
Status: install ok installed
Priority: optional
Section: libs
Architecture: i386
Version: 2.36-9

Package: held
Status: hold ok installed
Section: contrib/net
Architecture: all
Version: 1:1.0

Package: half
Status: install reinstreq half-installed
Architecture: amd64
Version: 1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: strange
Version: 1
`
	var got []debStatus
	if err := readStatus(strings.NewReader(text), func(d debStatus) { got = append(got, d) }); err != nil {
		t.Fatal(err)
	}
	want := []debStatus{
		{Package{"libc6", "i386", "2.36-9"}, "install", "ok", "installed", "libs", "optional"},
		{Package{"held", "all", "1:1.0"}, "hold", "ok", "installed", "net", ""},
		{Package{"half", "amd64", "1"}, "install", "reinstreq", "half-installed", "", ""},
		{Package{"gone", "amd64", "1"}, "deinstall", "ok", "config-files", "", ""},
	}
	if !slices.Equal(got, want) {
		t.Errorf("read %+v", got)
	}
	for i, c := range []struct {
		present bool
		broken  string
	}{{true, ""}, {true, ""}, {true, "half-installed, reinst-required"}, {false, ""}} {
		if got[i].present() != c.present || got[i].broken() != c.broken {
			t.Errorf("%s: present %t, broken %q", got[i].Name, got[i].present(), got[i].broken())
		}
	}
}

func TestReleaseFiles(t *testing.T) {
	want := debRelease{
		Origin: "Debian", Label: "Debian-Security", Suite: "oldstable-security", Codename: "bookworm-security",
		Date: time.Date(2026, 11, 21, 0, 53, 2, 0, time.UTC), ValidUntil: time.Date(2026, 11, 28, 0, 53, 2, 0, time.UTC),
	}
	const head = "Origin: Debian\nLabel: Debian-Security\nSuite: oldstable-security\nCodename: bookworm-security\nDate: Sat, 21 Nov 2026 00:53:02 UTC\nValid-Until: Sat, 28 Nov 2026 00:53:02 +0000\nSHA256:\n abc 1 main/x\n"
	for name, text := range map[string]string{"plain": head, "signed": "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + head + "-----BEGIN PGP SIGNATURE-----\n"} {
		if got, err := readRelease(strings.NewReader(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got := releaseTime("Sat,  1 Nov 2026 00:53:02 GMT"); !got.Equal(time.Date(2026, 11, 1, 0, 53, 2, 0, time.UTC)) {
		t.Errorf("a day of one digit: %s", got)
	}
	if got := releaseTime("tomorrow"); !got.IsZero() {
		t.Errorf("no time is read as %s", got)
	}
}

func TestPackagesAreJoined(t *testing.T) {
	const text = `Package: here
Architecture: all
Version: 2
Section: non-free/net
Priority: optional
Phased-Update-Percentage: 30

Package: elsewhere
Architecture: i386
Version: 3

Package: here
Architecture: i386
Version: 4
`
	var got []string
	r := packagesReader{native: "amd64", others: map[uint64]struct{}{}}
	r.wanted = func(key []byte) bool { return strings.HasPrefix(string(key), "here:") }
	r.each = func(key string, o debOffer) {
		got = append(got, key+" "+o.Title()+" "+o.Section+" "+o.Priority+" "+string(rune('0'+o.Phased/10)))
	}
	for range 2 {
		if err := r.read(strings.NewReader(text), "i386"); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"here:amd64 here.all:2 net optional 3", "here:i386 here.i386:4   :"}
	if !slices.Equal(got, append(want, want...)) {
		t.Errorf("joined %q", got)
	}
	if len(r.others) != 1 {
		t.Errorf("%d others", len(r.others))
	}
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte("Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\nPackage: b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		count := 0
		err := readStatus(bytes.NewReader(data), func(d debStatus) {
			count++
			if d.Name == "" || d.State == "" {
				t.Errorf("read %+v", d)
			}
		})
		if err == nil && count > bytes.Count(data, []byte("\n\n"))+1 {
			t.Errorf("%d packages of %q", count, data)
		}
		marks := map[string]bool{}
		readAutomatic(bytes.NewReader(data), "amd64", marks)
	})
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte("Package: a\nVersion: 1\nArchitecture: all\nPhased-Update-Percentage: 10\n\nPackage: b\n"), "amd64")
	f.Fuzz(func(t *testing.T, data []byte, arch string) {
		r := packagesReader{native: "amd64", others: map[uint64]struct{}{}, wanted: func([]byte) bool { return true }}
		r.each = func(_ string, o debOffer) {
			if o.Name == "" || o.Version == "" || o.Phased < 0 || o.Phased > 100 {
				t.Errorf("read %+v", o)
			}
		}
		r.read(bytes.NewReader(data), arch)
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: a\nDate: Sat, 21 Nov 2026 00:53:02 UTC\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := readRelease(bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
	})
}
