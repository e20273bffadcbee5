package patcher

import (
	"cmp"
	"strings"

	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"
)

// compareVersions orders two versions of a package as the family's tools do.
func (f family) compareVersions(a, b string) int {
	if f == aptFamily {
		return CompareDeb(a, b)
	}
	return CompareRPM(a, b)
}

// CompareDeb orders two versions as dpkg does: -1, 0, 1.
func CompareDeb(a, b string) int {
	va, errA := deb.NewVersion(a)
	vb, errB := deb.NewVersion(b)
	if errA != nil || errB != nil || longNumber(a) || longNumber(b) {
		return compareDebText(a, b)
	}
	return cmp.Compare(va.Compare(vb), 0)
}

// CompareRPM orders two EPOCH:VERSION-RELEASE as rpm does: -1, 0, 1. A missing epoch
// is 0.
func CompareRPM(a, b string) int {
	return cmp.Compare(rpm.NewVersion(a).Compare(rpm.NewVersion(b)), 0)
}

// longNumber: s has a number that no int holds; the library reads all such as one.
func longNumber(s string) bool {
	digits := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			digits = 0
			continue
		}
		if digits++; digits > 18 {
			return true
		}
	}
	return false
}

// compareDebText is dpkg's order for what the library refuses: dpkg lists such
// packages too, with a warning.
func compareDebText(a, b string) int {
	epochA, restA := cutEpoch(a)
	epochB, restB := cutEpoch(b)
	if c := compareDebPart(epochA, epochB); c != 0 {
		return c
	}
	upstreamA, revisionA := cutRevision(restA)
	upstreamB, revisionB := cutRevision(restB)
	if c := compareDebPart(upstreamA, upstreamB); c != 0 {
		return c
	}
	return compareDebPart(revisionA, revisionB)
}

func cutEpoch(s string) (epoch, rest string) {
	if epoch, rest, ok := strings.Cut(strings.TrimSpace(s), ":"); ok {
		return epoch, rest
	}
	return "", strings.TrimSpace(s)
}

func cutRevision(s string) (upstream, revision string) {
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}

// compareDebPart goes through both strings by turns of non-digits and digits.
func compareDebPart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !digit(a[0])) || (b != "" && !digit(b[0])) {
			if c := cmp.Compare(debOrder(a), debOrder(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		i, j := numberLength(a), numberLength(b)
		if c := cmp.Or(cmp.Compare(i, j), strings.Compare(a[:i], b[:j])); c != 0 {
			return c
		}
		a, b = a[i:], b[j:]
	}
	return 0
}

// debOrder is the weight of the first byte: ~ before the end, then letters, then the
// rest. A digit weighs as the end does.
func debOrder(s string) int {
	switch {
	case s == "" || digit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case 'A' <= s[0] && s[0] <= 'Z' || 'a' <= s[0] && s[0] <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func numberLength(s string) int {
	for i := range len(s) {
		if !digit(s[i]) {
			return i
		}
	}
	return len(s)
}
