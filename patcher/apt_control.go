package patcher

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// stanzaLimit is the size of a paragraph of a control file beyond which it is
// refused. Real ones stay below 100 KiB.
const stanzaLimit = 4 << 20

// stanzas calls each with every paragraph of a control file: dpkg's status, Packages,
// the output of apt-get indextargets. The bytes are valid during the call only.
func stanzas(in io.Reader, each func(stanza) error) error {
	buffer := make([]byte, 256<<10)
	begin, end, ended := 0, 0, false
	for {
		// Lines between paragraphs are empty.
		for begin < end && buffer[begin] == '\n' {
			begin++
		}
		if stop := bytes.Index(buffer[begin:end], []byte("\n\n")); stop >= 0 {
			if err := each(stanza(buffer[begin : begin+stop+1])); err != nil {
				return err
			}
			begin += stop + 2
			continue
		}
		if ended {
			if begin < end {
				return each(stanza(buffer[begin:end]))
			}
			return nil
		}
		if begin > 0 {
			copy(buffer, buffer[begin:end])
			begin, end = 0, end-begin
		}
		if end == len(buffer) {
			if len(buffer) >= stanzaLimit {
				return fmt.Errorf("a paragraph of more than %d bytes", stanzaLimit)
			}
			buffer = append(buffer, make([]byte, len(buffer))...)
		}
		n, err := in.Read(buffer[end:])
		end += n
		if err == io.EOF {
			ended = true
		} else if err != nil {
			return err
		}
	}
}

// stanza is a paragraph of a control file: lines "Field: value", continued on lines
// that begin with a blank.
type stanza []byte

// field returns the first line of a field's value, without blanks around it.
func (s stanza) field(name string) []byte {
	for len(s) > 0 {
		line := []byte(s)
		if end := bytes.IndexByte(s, '\n'); end >= 0 {
			line, s = line[:end], s[end+1:]
		} else {
			s = nil
		}
		if len(line) > len(name) && line[len(name)] == ':' && line[0]|0x20 == name[0]|0x20 && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:])
		}
	}
	return nil
}

// text is the field as a string.
func (s stanza) text(name string) string {
	return strings.ToValidUTF8(string(s.field(name)), "\uFFFD")
}

// debStatus is a package as dpkg's status file has it.
type debStatus struct {
	Package
	Want  string // install, hold, deinstall, purge
	Flag  string // ok, reinstreq
	State string // installed, half-configured, config-files …
	// Section is without the component's prefix.
	Section, Priority string
}

// present: files of the package are on the machine.
func (d debStatus) present() bool {
	return d.State != "not-installed" && d.State != "config-files"
}

// broken is dpkg's word for what is wrong with the package, "" for nothing.
func (d debStatus) broken() string {
	switch {
	case d.Flag == "reinstreq":
		return d.State + ", reinst-required"
	case d.State == "installed" || !d.present():
		return ""
	}
	return d.State
}

// debKey names a package in a map as apt does: what is for all architectures belongs
// to the machine's own.
func debKey(name, arch, native string) string {
	if arch == "all" || arch == "" {
		arch = native
	}
	return name + ":" + arch
}

// readStatus reads dpkg's status file, or one of those in its directory updates.
func readStatus(in io.Reader, each func(debStatus)) error {
	return stanzas(in, func(s stanza) error {
		d := debStatus{Package: Package{Name: s.text("Package"), Arch: s.text("Architecture"), Version: s.text("Version")}}
		fields := strings.Fields(s.text("Status"))
		if d.Name == "" || len(fields) != 3 {
			return nil
		}
		d.Want, d.Flag, d.State = fields[0], fields[1], fields[2]
		d.Section, d.Priority = bareSection(s.text("Section")), s.text("Priority")
		each(d)
		return nil
	})
}

// bareSection is a section without the component that it may begin with:
// contrib/net is net.
func bareSection(section string) string {
	if i := strings.LastIndexByte(section, '/'); i >= 0 {
		return section[i+1:]
	}
	return section
}

// debOffer is a version of a package as a Packages file has it.
type debOffer struct {
	Package
	Section, Priority string
	// Phased is the percentage of machines that get it; 100 for all.
	Phased int
}

// packagesReader reads Packages files and keeps what is wanted of them.
type packagesReader struct {
	native string
	// wanted: the package, by debKey, is of interest.
	wanted func(key []byte) bool
	each   func(key string, o debOffer)
	// others collects the packages that are not wanted, by a hash of their key.
	others map[uint64]struct{}
	key    []byte
}

// read reads one file of an architecture.
func (r *packagesReader) read(in io.Reader, arch string) error {
	return stanzas(in, func(s stanza) error {
		name := s.field("Package")
		if len(name) == 0 {
			return nil
		}
		r.key = append(append(append(r.key[:0], name...), ':'), arch...)
		if arch != r.native && string(s.field("Architecture")) == "all" {
			r.key = append(append(append(r.key[:0], name...), ':'), r.native...)
		}
		if !r.wanted(r.key) {
			r.others[hashBytes(r.key)] = struct{}{}
			return nil
		}
		o := debOffer{Package: Package{Name: string(name), Arch: s.text("Architecture"), Version: s.text("Version")}, Phased: 100}
		if o.Version == "" || o.Arch == "" {
			return nil
		}
		o.Section, o.Priority = bareSection(s.text("Section")), s.text("Priority")
		if percent, err := strconv.Atoi(s.text("Phased-Update-Percentage")); err == nil && percent >= 0 && percent < 100 {
			o.Phased = percent
		}
		r.each(string(r.key), o)
		return nil
	})
}

// hashBytes is FNV-1a.
func hashBytes(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// debRelease is the head of a Release or InRelease file.
type debRelease struct {
	Origin, Label, Suite, Codename string
	Date, ValidUntil               time.Time
}

// releaseHead is how much of a Release file is read: its fields come before the
// list of files, which may be long.
const releaseHead = 64 << 10

func readRelease(in io.Reader) (debRelease, error) {
	text, err := io.ReadAll(io.LimitReader(in, releaseHead))
	if err != nil {
		return debRelease{}, err
	}
	// Of a signed file the text begins after its first empty line.
	if bytes.HasPrefix(text, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		if i := bytes.Index(text, []byte("\n\n")); i >= 0 {
			text = text[i+2:]
		}
	}
	s := stanza(text)
	return debRelease{
		Origin: s.text("Origin"), Label: s.text("Label"), Suite: s.text("Suite"), Codename: s.text("Codename"),
		Date: releaseTime(s.text("Date")), ValidUntil: releaseTime(s.text("Valid-Until")),
	}, nil
}

// releaseTime reads a time of a Release file, zero for what is none.
func releaseTime(text string) time.Time {
	for _, form := range []string{time.RFC1123, "Mon, _2 Jan 2006 15:04:05 MST", time.RFC1123Z, "Mon, _2 Jan 2006 15:04:05 -0700"} {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
