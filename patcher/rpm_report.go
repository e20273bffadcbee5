package patcher

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// reasonLimit is how many lines the reason of one failure has.
const reasonLimit = 8

var (
	// The step that the lines below belong to: "  Running scriptlet: a-2-1.noarch   1/8".
	rpmStep = regexp.MustCompile(`^ +(Running scriptlet|Preparing|Upgrading|Installing|Cleanup|Verifying|Reinstalling|Obsoleting|Erasing|Downgrading) *: `)
	// Lines that say why something fails; the rest is progress and tables.
	rpmError = regexp.MustCompile(`^\s*(error:|Error\b|\[FAILED\]|Package "|file .* conflicts|installing package|Public key for|Failed to|No match for|No package |All matches were|- |Problem|Import of key|Check |not found|.* is not signed)`)
)

// rpmReport gathers from the output of a transaction why packages failed, and what
// the administrator should know.
type rpmReport struct {
	errors  []string // lines with errors, each with what its scriptlet printed
	problem bool     // the last error is a problem of the resolver that goes on
	between []string // lines since the last step
	notes   []string
	last    string
}

// line takes one line of output.
func (r *rpmReport) line(line string) {
	if rpmStep.MatchString(line) {
		r.between = nil
		return
	}
	if found := rpmConfigKept.FindStringSubmatch(line); found != nil {
		r.notes = append(r.notes, configNote(found[1], found[2], found[3]))
		return
	}
	if found := rpmScriptlet.FindStringSubmatch(line); found != nil {
		said := strings.Join(append(r.between, line), "; ")
		if r.between = nil; found[1] == "error" {
			r.errors = append(r.errors, said)
		} else {
			r.notes = append(r.notes, fmt.Sprintf("%s is installed, and its scriptlet %%%s failed: %s", found[3], found[2], said))
		}
		return
	}
	if strings.HasPrefix(line, " Problem") || strings.HasPrefix(line, "Problem: ") {
		r.errors, r.problem = append(r.errors, strings.TrimSpace(line)), true
		return
	}
	// A problem goes on in indented lines; what zypper would do about it is not of it.
	if r.problem && strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "  Solution") {
		r.errors[len(r.errors)-1] += "; " + strings.TrimPrefix(strings.TrimSpace(line), "- ")
		return
	}
	if r.problem = r.problem && strings.HasPrefix(strings.TrimSpace(line), "Solution"); r.problem {
		return
	}
	if rpmError.MatchString(line) {
		r.errors = append(r.errors, strings.TrimSpace(line))
		return
	}
	if text := strings.TrimSpace(line); text != "" {
		if r.between = append(r.between, text); len(r.between) > 3 {
			r.between = r.between[1:]
		}
	}
}

// configNote says what rpm did with a configuration file: created as .rpmnew leaves
// the administrator's in place, saved as .rpmsave or .rpmorig replaces it.
func configNote(file, how, as string) string {
	if how == "created" {
		return "the configuration file " + file + " was changed by the administrator and stays; the package's is " + as
	}
	return "the configuration file " + file + " is the package's; the administrator's is " + as
}

// reason is what the output says about the failure of a package, "" if nothing.
func (r *rpmReport) reason(p Package) string {
	forms := []string{nvra(p), nevra(p), zypperSpec(p)}
	var lines []string
	for _, line := range r.errors {
		if slices.ContainsFunc(forms, func(form string) bool { return mentions(line, form) }) && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(len(lines), reasonLimit)], "; ")
}

// mentions tells whether the text has the package not as a part of a longer word, as
// bash-5.noarch is one of rbash-5.noarch. A file's .rpm may follow.
func mentions(text, form string) bool {
	for rest := text; ; {
		i := strings.Index(rest, form)
		if i < 0 {
			return false
		}
		before, after := rest[:i], rest[i+len(form):]
		if (before == "" || strings.ContainsRune(" \"'(/:,", rune(before[len(before)-1]))) &&
			(after == "" || strings.ContainsRune(" \"'),:;[", rune(after[0])) || strings.HasPrefix(after, ".rpm")) {
			return true
		}
		rest = after
	}
}

// summary is why the transaction as a whole failed.
func (r *rpmReport) summary() string {
	if len(r.errors) == 0 {
		return r.last
	}
	return strings.Join(r.errors[:min(len(r.errors), reasonLimit)], "; ")
}
