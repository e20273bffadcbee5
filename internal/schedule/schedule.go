// Package schedule is the schedule language of Systems Manager: cron(...), rate(...)
// and at(...), and what a window or an association says beside it: time zone,
// offset, start and end. Parse reads an expression, Schedule.With makes a
// Timetable of it, and a Timetable tells the openings. docs/schedules.md is the
// language; docs/decisions say why days on which clocks change are as they are.
//
// Everything but Zone is a pure function: nothing here reads a clock.
package schedule

import (
	"strings"
	"time"
)

// Kind says whose expression it is: associations may do less than windows.
type Kind int

const (
	// Window is a maintenance window's.
	Window Kind = iota
	// Association is a State Manager association's.
	Association
)

// Form is which of the three an expression is.
type Form int

const (
	Cron Form = iota
	Rate
	At
)

// maxLength is what the API takes, in bytes.
const maxLength = 256

// Schedule is an expression that was read. It never changes.
type Schedule struct {
	kind Kind
	form Form
	// text is the expression in its plainest spelling.
	text string
	// cron is the form Cron's.
	cron *cron
	// every is the form Rate's.
	every time.Duration
	// at is the form At's: local seconds (see local.go).
	at int64
}

// String is the expression in its plainest spelling: Parse reads the same from it.
func (s *Schedule) String() string { return s.text }

// Form says whether it is cron, rate or at.
func (s *Schedule) Form() Form { return s.form }

// Parse reads an expression. An error is a *SyntaxError, which says where, and is
// ErrInvalid.
func Parse(expression string, kind Kind) (*Schedule, error) {
	fail := func(offset int, value, reason string) error {
		return &SyntaxError{Expression: expression, Offset: offset, Field: "expression", Value: value, Reason: reason}
	}
	if len(expression) > maxLength {
		return nil, fail(maxLength, "", "an expression has at most 256 characters")
	}
	for i, c := range expression {
		if c < ' ' && c != '\t' || c > '~' {
			return nil, fail(i, string(c), "an expression has no such characters")
		}
	}
	open := strings.IndexByte(expression, '(')
	if open < 0 {
		return nil, fail(0, expression, "it has to be cron(...), rate(...) or at(...)")
	}
	closing := strings.IndexByte(expression, ')')
	switch {
	case closing < 0:
		return nil, fail(len(expression), "", "a ) is missing at the end")
	case closing < open:
		return nil, fail(closing, ")", "it has to be cron(...), rate(...) or at(...)")
	case closing+1 < len(expression):
		return nil, fail(closing+1, expression[closing+1:], "nothing may follow the )")
	}
	r := reader{expression: expression, kind: kind, words: words(expression[:closing], open+1), end: closing}
	switch name := strings.ToLower(expression[:open]); name {
	case "cron":
		return r.cron()
	case "rate":
		return r.rate()
	case "at":
		return r.at()
	default:
		return nil, fail(0, expression[:open], "it has to be cron(...), rate(...) or at(...)")
	}
}

// reader is one reading of an expression.
type reader struct {
	expression string
	kind       Kind
	// words are what is between the parentheses; end is where the ) is.
	words []word
	end   int
}

// word is a part of an expression and the offset of its first byte.
type word struct {
	text   string
	offset int
}

// words splits what is before the end of text, from an offset on, at blanks.
func words(text string, from int) []word {
	var all []word
	for i := from; i < len(text); {
		if isBlank(text[i]) {
			i++
			continue
		}
		start := i
		for i < len(text) && !isBlank(text[i]) {
			i++
		}
		all = append(all, word{text[start:i], start})
	}
	return all
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

// split cuts a word at each separator; parts may be empty.
func (w word) split(separator byte) []word {
	var parts []word
	for {
		before, after, found := w.cut(separator)
		parts = append(parts, before)
		if !found {
			return parts
		}
		w = after
	}
}

// cut is strings.Cut for a word.
func (w word) cut(separator byte) (before, after word, found bool) {
	i := strings.IndexByte(w.text, separator)
	if i < 0 {
		return w, word{"", w.offset + len(w.text)}, false
	}
	return word{w.text[:i], w.offset}, word{w.text[i+1:], w.offset + i + 1}, true
}

func (r *reader) fail(field string, at word, reason string) error {
	return &SyntaxError{Expression: r.expression, Offset: at.offset, Field: field, Value: at.text, Reason: reason}
}
