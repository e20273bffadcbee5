package patcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
)

// zyppLock is one lock of /etc/zypp/locks on packages.
type zyppLock struct {
	name     string
	match    string // exact, glob, regex, substring
	caseless bool
	version  string // "", or an operator and an edition: "< 5"
}

type zyppLocks []zyppLock

// locks reads the machine's locks.
func (z *Zypper) locks() (zyppLocks, error) {
	data, err := os.ReadFile(z.file("/etc/zypp/locks"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the locks: %w", err)
	}
	return parseZyppLocks(string(data)), nil
}

// parseZyppLocks reads blocks of lines "key: value". Locks that are not on packages by
// name are left out.
func parseZyppLocks(text string) zyppLocks {
	var locks zyppLocks
	current, kind := zyppLock{match: "glob"}, ""
	add := func() {
		if current.name != "" && (kind == "" || kind == "package") {
			locks = append(locks, current)
		}
		current, kind = zyppLock{match: "glob"}, ""
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			add()
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "type":
			kind = value
		case "match_type":
			current.match = value
		case "case_sensitive":
			current.caseless = value == "off" || value == "false" || value == "0"
		case "solvable_name":
			current.name = value
		case "version":
			current.version = value
		}
	}
	add()
	return locks
}

func (l zyppLocks) hold(p Package) bool {
	for _, lock := range l {
		if lock.matches(p) {
			return true
		}
	}
	return false
}

func (l zyppLock) matches(p Package) bool {
	pattern, name := l.name, p.Name
	if l.caseless {
		pattern, name = strings.ToLower(pattern), strings.ToLower(name)
	}
	switch l.match {
	case "exact":
		if pattern != name {
			return false
		}
	case "substring":
		if !strings.Contains(name, pattern) {
			return false
		}
	case "regex":
		expression, err := regexp.Compile(pattern)
		if err != nil || !expression.MatchString(name) {
			return false
		}
	default:
		if ok, err := path.Match(pattern, name); err != nil || !ok {
			return false
		}
	}
	operator, edition, ok := strings.Cut(l.version, " ")
	if !ok {
		return true
	}
	order := compareEdition(p.Version, edition)
	switch operator {
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case ">=":
		return order >= 0
	case "!=":
		return order != 0
	}
	return order == 0
}

// compareEdition compares as libzypp does: an edition without release is equal to
// any release of its version.
func compareEdition(version, edition string) int {
	if !strings.Contains(edition, "-") {
		version, _, _ = cutLast(version, '-')
	}
	return CompareRPM(version, edition)
}
