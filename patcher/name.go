package patcher

import (
	"regexp"
	"strings"
)

// listEntry is one entry of ApprovedPatches or RejectedPatches. Each family has its
// own formats; what is in none of them names nothing.
type listEntry struct {
	text string
	kind entryKind
}

type entryKind int

const (
	noEntry       entryKind = iota
	nameEntry               // apt: the bare name; of rpm also name.arch
	packageEntry            // name-version-release.arch, perhaps with one *
	bugzillaEntry           // digits
	cveEntry                // CVE-2026-1
	noticeEntry             // RHSA-2026:1, ALAS-2026-1; of zypper the name of a patch, perhaps with one *
)

var (
	aptName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+.\-]*$`)
	digits   = regexp.MustCompile(`^[0-9]+$`)
	cveID    = regexp.MustCompile(`^(?i:CVE)-[0-9]{4}-[0-9]+$`)
	advisory = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*(-[A-Za-z0-9_]+)*-[0-9]{4}[:-][0-9A-Za-z:.\-]+$`)
	rpmName  = regexp.MustCompile(`^[A-Za-z0-9_+.*][A-Za-z0-9_+.*^~:\-]*$`)
)

// parseEntry tells what an entry names. CVEs, advisories and Bugzilla entries only
// approve: rejected says which list it is of.
func parseEntry(f family, rejected bool, text string) listEntry {
	e := listEntry{text: strings.TrimSpace(text)}
	stars := strings.Count(e.text, "*")
	switch f {
	case aptFamily:
		if aptName.MatchString(e.text) {
			e.kind = nameEntry
		}
	case yumFamily:
		switch {
		case digits.MatchString(e.text):
			if !rejected {
				e.kind = bugzillaEntry
			}
		case cveID.MatchString(e.text):
			if !rejected {
				e.kind = cveEntry
			}
		case stars == 0 && strings.Contains(e.text, ":") && advisory.MatchString(e.text):
			if !rejected {
				e.kind = noticeEntry
			}
		case stars <= 1 && rpmName.MatchString(e.text):
			// ALAS-2026-1 might be a package too, so both are tried.
			e.kind = packageEntry
		}
	case zypperFamily:
		if stars <= 1 && rpmName.MatchString(e.text) {
			e.kind = packageEntry
		}
	}
	return e
}

// names tells whether the entry names the subject, and by which notice, nil when by
// the package itself.
func (e listEntry) names(f family, rejected bool, s *subject) (*Notice, bool) {
	switch e.kind {
	case nameEntry:
		return nil, s.Name == e.text
	case packageEntry:
		for _, name := range rpmNames(f, s.Package) {
			if globMatch(e.text, name) {
				return nil, true
			}
		}
		if f == zypperFamily || !rejected && !strings.Contains(e.text, "*") {
			return s.notice(func(n *Notice) bool { return globMatch(e.text, n.ID) })
		}
	case noticeEntry:
		return s.notice(func(n *Notice) bool { return n.ID == e.text })
	case cveEntry:
		return s.notice(func(n *Notice) bool { return containsFold(n.CVEs, e.text) })
	case bugzillaEntry:
		return s.notice(func(n *Notice) bool { return containsFold(n.Bugzillas, e.text) })
	}
	return nil, false
}

func (s *subject) notice(is func(*Notice) bool) (*Notice, bool) {
	for i := range s.notices {
		if is(&s.notices[i]) {
			return &s.notices[i], true
		}
	}
	return nil, false
}

func containsFold(list []string, s string) bool {
	for _, l := range list {
		if strings.EqualFold(l, s) {
			return true
		}
	}
	return false
}

// rpmNames are the ways to write an rpm package: with and without epoch, where yum
// puts it or where rpm does, and the bare name. zypper's have the suffix .rpm or not.
func rpmNames(f family, p Package) []string {
	epoch, rest := cutEpoch(p.Version)
	if epoch == "" {
		epoch = "0"
	}
	names := []string{
		p.Name + "-" + rest + "." + p.Arch,
		p.Name + "-" + epoch + ":" + rest + "." + p.Arch,
		epoch + ":" + p.Name + "-" + rest + "." + p.Arch,
		p.ID(),
		p.Name,
	}
	if f == zypperFamily {
		names = append(names, p.Name+"-"+rest+"."+p.Arch+".rpm")
	}
	return names
}

// globMatch matches s with a pattern in which each * stands for any characters, also
// none.
func globMatch(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		// The earliest place leaves the most for what follows.
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], after
	}
}
