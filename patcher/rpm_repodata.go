package patcher

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"
)

// repomd is the head of a repository's metadata, repodata/repomd.xml.
type repomd struct {
	// made is the newest time that the publisher wrote into it, zero where it has none.
	made time.Time
	// primarySum is the checksum of the file with the packages, "" where there is none.
	primarySum string
	// files has the place of each kind of metadata below the repository: primary,
	// updateinfo, modules …
	files map[string]string
}

// readRepomd reads a repomd.xml.
func readRepomd(in io.Reader) (repomd, error) {
	head := repomd{files: map[string]string{}}
	t := newTags(in)
	var kind string
	for {
		err := t.next()
		if errors.Is(err, io.EOF) {
			if len(head.files) == 0 {
				return repomd{}, errors.New("repomd.xml names no metadata")
			}
			return head, nil
		}
		if err != nil {
			return repomd{}, fmt.Errorf("read repomd.xml: %w", err)
		}
		switch {
		case t.end:
		case string(t.name) == "data":
			kind = t.attribute("type")
		case string(t.name) == "location":
			if href := path.Clean("/" + t.attribute("href")); kind != "" && href != "/" {
				head.files[kind] = href[1:]
			}
		case string(t.name) == "checksum" && kind == "primary":
			if head.primarySum, err = t.text(); err != nil {
				return repomd{}, fmt.Errorf("read repomd.xml: %w", err)
			}
			if strings.Trim(head.primarySum, "0123456789abcdefABCDEF") != "" {
				head.primarySum = ""
			}
		case string(t.name) == "timestamp", string(t.name) == "revision":
			text, err := t.text()
			if err != nil {
				return repomd{}, fmt.Errorf("read repomd.xml: %w", err)
			}
			// A revision is a time as createrepo writes it, and may be anything else.
			if made := unixTime(text); made.After(head.made) {
				head.made = made
			}
		}
	}
}

// unixTime reads seconds since 1970, also with a fraction; zero for what is none, or
// is before the year 2000.
func unixTime(text string) time.Time {
	whole, _, _ := strings.Cut(strings.TrimSpace(text), ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds < 946684800 || seconds > 1<<36 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// offered is a version that a repository has.
type offered struct {
	Package
	built  time.Time
	vendor string
}

// readPrimary calls each for every package of a primary.xml, but for sources.
func readPrimary(in io.Reader, each func(offered)) error {
	t := newTags(in)
	var p offered
	head := false // inside of a package, before its <format>
	tell := func() {
		if p.Name != "" && p.Arch != "" && p.Version != "" && p.Arch != "src" && p.Arch != "nosrc" {
			each(p)
		}
	}
	for {
		err := t.next()
		if errors.Is(err, io.EOF) {
			if head {
				return errors.New("read primary.xml: it ends within a package")
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("read primary.xml: %w", err)
		}
		if t.end {
			if head && string(t.name) == "package" {
				tell()
				head = false
			}
			continue
		}
		if !head {
			if string(t.name) == "package" {
				p, head = offered{}, !t.empty
			}
			continue
		}
		switch string(t.name) {
		case "name":
			p.Name, err = t.text()
		case "arch":
			p.Arch, err = t.text()
		case "version":
			p.Version = evr(t.attribute("epoch"), t.attribute("ver"), t.attribute("rel"))
		case "time":
			p.built = unixTime(t.attribute("build"))
		case "format":
			if t.empty {
				continue
			}
			if p.vendor, err = vendorOf(t); err == nil {
				tell()
				head = false
			}
		}
		if err != nil {
			return fmt.Errorf("read primary.xml: %w", err)
		}
	}
}

// vendorOf reads on from <format> behind the end of the package. The vendor is among
// the first of it; dependencies and files, the most of it, are passed over: they have
// names and versions too.
func vendorOf(t *tags) (string, error) {
	var vendor string
	for range 4 { // two elements
		err := t.next()
		if err == nil && !t.end && string(t.name) == "rpm:vendor" {
			vendor, err = t.text()
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
		if t.end && string(t.name) == "package" {
			return vendor, nil
		}
	}
	return vendor, t.skipPast("</package>")
}

// evr is a version as Package has it, "" where there is no version.
func evr(epoch, version, release string) string {
	if version == "" {
		return ""
	}
	if epoch == "" || epoch == "(none)" {
		epoch = "0"
	}
	if release == "" {
		return epoch + ":" + version
	}
	return epoch + ":" + version + "-" + release
}

// withEpoch puts the epoch 0 before a version that has none.
func withEpoch(version string) string {
	if head, _, ok := strings.Cut(version, ":"); ok && head != "" && strings.Trim(head, "0123456789") == "" {
		return version
	}
	return "0:" + strings.TrimPrefix(version, ":")
}

// nevra is the package as dnf takes it: name-epoch:version-release.arch.
func nevra(p Package) string { return p.Name + "-" + p.Version + "." + p.Arch }

// nvra is the package as rpm names its file, without epoch.
func nvra(p Package) string {
	_, version, ok := strings.Cut(p.Version, ":")
	if !ok {
		version = p.Version
	}
	return p.Name + "-" + version + "." + p.Arch
}

// parseNEVRA takes name-[epoch:]version-release.arch apart.
func parseNEVRA(text string) (Package, bool) {
	dot := strings.LastIndexByte(text, '.')
	if dot < 0 {
		return Package{}, false
	}
	text, arch := text[:dot], text[dot+1:]
	release := strings.LastIndexByte(text, '-')
	if release <= 0 {
		return Package{}, false
	}
	version := strings.LastIndexByte(text[:release], '-')
	if version <= 0 || version+1 == release || arch == "" || release+1 == len(text) {
		return Package{}, false
	}
	name, epoch := text[:version], ""
	// yum writes the epoch before the name where it is not 0.
	if head, rest, ok := strings.Cut(name, ":"); ok && head != "" && strings.Trim(head, "0123456789") == "" && rest != "" {
		name, epoch = rest, head
	}
	v := withEpoch(text[version+1:])
	if epoch != "" {
		_, bare, _ := strings.Cut(v, ":")
		v = epoch + ":" + bare
	}
	return Package{Name: name, Arch: arch, Version: v}, true
}
