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
	// The step that the lines below belong to: "  Running scriptlet: a-2-1.noarch   1/8"
	// of dnf, "(5/7) Installing: a-2-1.noarch [....error]" of zypper.
	rpmStep = regexp.MustCompile(`^( +(Running scriptlet|Preparing|Upgrading|Updating|Installing|Cleanup|Verifying|Reinstalling|Obsoleting|Erasing|Downgrading) *: |\(\s*\d+/\d+\) |Additional rpm output:)`)
	// Lines that say why something fails; the rest is progress and tables.
	rpmError = regexp.MustCompile(`^\s*(error:|Error\b|\[(FAILED|MIRROR)\]|Package "|file .* conflicts|installing package|Public key for|Failed to|No match for|No package |All matches were|- |Import of key|not found|.* is not signed|'.*' not found|No provider of|File '.*' not found|Download .* error|Signature verification failed|Digest verification failed|Installation of )`)
	// What tells nothing: Debian's rpm says so each time, and zypper after each failure.
	rpmNoise = regexp.MustCompile(`^\s*(rpm: RPM should not be used|rpm: However assuming|Problem occurred during|Please see the above|error: .*: erase skipped)`)
	// A problem of the resolver: " Problem 1: …" of dnf, "Problem: …" of zypper.
	rpmProblem = regexp.MustCompile(`^ ?Problem( \d+)?: `)
)

// rpmFault is something that went wrong in a transaction.
type rpmFault struct {
	text string
	// about is text that tells as well which packages are concerned, and is not for
	// people: the ways out that zypper offers.
	about string
}

// rpmReport gathers from the output of a transaction why packages failed, and what
// the administrator should know.
type rpmReport struct {
	faults  []rpmFault
	problem bool     // the last fault is a problem of the resolver that goes on
	between []string // lines since the last step
	notes   []string
	last    string
}

// line takes one line of output.
func (r *rpmReport) line(line string) {
	if rpmNoise.MatchString(line) {
		return
	}
	if rpmStep.MatchString(line) {
		r.between, r.problem = nil, false
		return
	}
	if found := rpmConfigKept.FindStringSubmatch(line); found != nil {
		r.notes = append(r.notes, configNote(found[1], found[2], found[3]))
		return
	}
	if found := rpmScriptlet.FindStringSubmatch(line); found != nil {
		said := strings.Join(append(r.between, line), "; ")
		if r.between = nil; found[1] == "error" {
			r.fault(said)
		} else {
			r.notes = append(r.notes, fmt.Sprintf("%s is installed, and its scriptlet %%%s failed: %s", found[3], found[2], said))
		}
		return
	}
	if rpmProblem.MatchString(line) {
		r.fault(line)
		r.problem = true
		return
	}
	if r.problem && r.goesOn(line) {
		return
	}
	if rpmError.MatchString(line) {
		r.fault(line)
		return
	}
	if text := strings.TrimSpace(line); text != "" {
		if r.between = append(r.between, text); len(r.between) > 3 {
			r.between = r.between[1:]
		}
	}
}

func (r *rpmReport) fault(line string) {
	r.faults = append(r.faults, rpmFault{text: strings.TrimSpace(line)})
}

// goesOn adds an indented line to the problem above it. zypper's solutions tell which
// package it is about, and whether a lock is the cause.
func (r *rpmReport) goesOn(line string) bool {
	if !strings.HasPrefix(line, " ") {
		r.problem = false
		return false
	}
	last := &r.faults[len(r.faults)-1]
	text := strings.TrimPrefix(strings.TrimSpace(line), "- ")
	if !strings.HasPrefix(text, "Solution") && last.about == "" {
		last.text += "; " + text
		return true
	}
	if strings.Contains(text, "remove lock to allow") && !strings.HasSuffix(last.text, lockedReason) {
		last.text += lockedReason
	}
	last.about += " " + text
	return true
}

const lockedReason = "; a lock forbids it"

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
	_, bare, _ := strings.Cut(p.Version, ":")
	forms := []string{nvra(p), nevra(p), zypperSpec(p), p.ID() + " = " + bare, p.ID() + " = " + p.Version}
	var lines []string
	for _, fault := range r.faults {
		about := fault.text + " " + fault.about
		if slices.ContainsFunc(forms, func(form string) bool { return mentions(about, form) }) && !slices.Contains(lines, fault.text) {
			lines = append(lines, fault.text)
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
	if len(r.faults) == 0 {
		return r.last
	}
	var lines []string
	for _, fault := range r.faults[:min(len(r.faults), reasonLimit)] {
		lines = append(lines, fault.text)
	}
	return strings.Join(lines, "; ")
}
