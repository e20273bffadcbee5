package document

import (
	"fmt"
	"regexp"
	"strings"
)

// What bounds the work of one match. Patterns of real documents need a few
// thousand steps.
const (
	maxPatternSteps = 2_000_000
	// maxPatternRepeats is how many repetitions of a group may be under way: they
	// are on the stack.
	maxPatternRepeats = 50_000
)

// pattern is an allowedPattern: a regular expression of Java, which the value must
// match as a whole. Java's language has look-around, back references, possessive
// quantifiers and sets of sets, and it counts repetitions without limit, so RE2
// alone cannot stand for it. It decides only where the other matcher gives up.
type pattern struct {
	match  matcher
	groups int
	re2    *regexp.Regexp // nil: RE2 has no such expression
}

// compilePattern reads an expression; the error says what is wrong with it.
func compilePattern(text string) (*pattern, error) {
	p := &patternParser{text: []rune(text)}
	match, err := p.alternatives(0)
	if err == nil && p.at < len(p.text) {
		err = fmt.Errorf("there is a ) too many")
	}
	if err == nil && p.highest > p.groups {
		err = fmt.Errorf("there is no group %d", p.highest)
	}
	if err != nil {
		return nil, err
	}
	re2, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		re2 = nil
	}
	return &pattern{match: match, groups: p.groups, re2: re2}, nil
}

// refuses returns why a value is refused, as a format for the pattern's text; ""
// when it matches.
func (p *pattern) refuses(value string) string {
	m := &matching{text: []rune(value), groups: make([]span, p.groups+1)}
	matched := p.match(m, 0, func(end int) bool { return end == len(m.text) })
	if m.steps > maxPatternSteps {
		if p.re2 == nil {
			return "cannot be checked: the pattern %s takes too long with this value."
		}
		matched = p.re2.MatchString(value)
	}
	if matched {
		return ""
	}
	return "must match the pattern %s as a whole."
}

// matching is one attempt.
type matching struct {
	text   []rune
	groups []span
	steps  int
	// repeats are the repetitions of groups that are under way.
	repeats int
}

// span is what a group has matched; ok tells that it has.
type span struct {
	start, end int
	ok         bool
}

// step counts the work and tells whether there is some left.
func (m *matching) step() bool {
	m.steps++
	return m.steps <= maxPatternSteps
}

// matcher tries to match from a place and calls rest with each end until one
// pleases it.
type matcher func(m *matching, at int, rest func(end int) bool) bool

func matchEmpty(_ *matching, at int, rest func(int) bool) bool { return rest(at) }

func matchSequence(parts []matcher) matcher {
	switch len(parts) {
	case 0:
		return matchEmpty
	case 1:
		return parts[0]
	}
	first, others := parts[0], matchSequence(parts[1:])
	return func(m *matching, at int, rest func(int) bool) bool {
		return first(m, at, func(end int) bool { return others(m, end, rest) })
	}
}

func matchAny(choices []matcher) matcher {
	if len(choices) == 1 {
		return choices[0]
	}
	return func(m *matching, at int, rest func(int) bool) bool {
		for _, choice := range choices {
			if m.step() && choice(m, at, rest) {
				return true
			}
		}
		return false
	}
}

// set tells which characters are meant.
type set func(r rune) bool

func matchSet(s set) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		return m.step() && at < len(m.text) && s(m.text[at]) && rest(at+1)
	}
}

func matchGroup(inner matcher, group int) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		before := m.groups[group]
		if inner(m, at, func(end int) bool {
			was := m.groups[group]
			m.groups[group] = span{at, end, true}
			if rest(end) {
				return true
			}
			m.groups[group] = was
			return false
		}) {
			return true
		}
		m.groups[group] = before
		return false
	}
}

func matchReference(group int) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		g := m.groups[group]
		if !m.step() || !g.ok || at+g.end-g.start > len(m.text) {
			return false
		}
		for i := range g.end - g.start {
			if m.text[g.start+i] != m.text[at+i] {
				return false
			}
		}
		return rest(at + g.end - g.start)
	}
}

// matchAhead is (?=inner) and (?!inner).
func matchAhead(inner matcher, wanted bool) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		return m.step() && inner(m, at, func(int) bool { return true }) == wanted && rest(at)
	}
}

// matchBehind is (?<=inner) and (?<!inner).
func matchBehind(inner matcher, wanted bool) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		found := false
		for start := at; start >= 0 && !found && m.step(); start-- {
			found = inner(m, start, func(end int) bool { return end == at })
		}
		return found == wanted && rest(at)
	}
}

// matchAtomic takes the first way in which inner matches, and no other.
func matchAtomic(inner matcher) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		end := -1
		return inner(m, at, func(e int) bool { end = e; return true }) && rest(end)
	}
}

func matchWhere(there func(text []rune, at int) bool) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		return m.step() && there(m.text, at) && rest(at)
	}
}

// repetition is how often something comes; most is -1 for no limit.
type repetition struct {
	least, most int
	lazy        bool
}

func (q repetition) reached(n int) bool { return q.most >= 0 && n >= q.most }

// matchSetRepeated repeats a character without recursion, since values are long.
func matchSetRepeated(s set, q repetition) matcher {
	return func(m *matching, at int, rest func(int) bool) bool {
		n := 0
		more := func() bool { return !q.reached(n) && at+n < len(m.text) && s(m.text[at+n]) && m.step() }
		for n < q.least {
			if !more() {
				return false
			}
			n++
		}
		if q.lazy {
			for {
				if rest(at + n) {
					return true
				}
				if !more() {
					return false
				}
				n++
			}
		}
		for more() {
			n++
		}
		for ; n >= q.least && m.step(); n-- {
			if rest(at + n) {
				return true
			}
		}
		return false
	}
}

func matchRepeated(inner matcher, q repetition) matcher {
	var try func(m *matching, at, n int, rest func(int) bool) bool
	try = func(m *matching, at, n int, rest func(int) bool) bool {
		if m.repeats >= maxPatternRepeats {
			m.steps = maxPatternSteps
		}
		if !m.step() {
			return false
		}
		m.repeats++
		defer func() { m.repeats-- }()
		again := func() bool {
			return !q.reached(n) && inner(m, at, func(end int) bool {
				switch {
				case end > at:
					return try(m, end, n+1, rest)
				case n < q.least:
					return rest(end) // and so would be all that are still needed
				}
				return false // what is empty is not repeated
			})
		}
		switch {
		case n < q.least:
			return again()
		case q.lazy:
			return rest(at) || again()
		}
		return again() || rest(at)
	}
	return func(m *matching, at int, rest func(int) bool) bool { return try(m, at, 0, rest) }
}

// wordAt tells whether the character at a place is one of a word.
func wordAt(text []rune, at int) bool {
	return at >= 0 && at < len(text) && isWord(text[at])
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// lineEnd are the characters that end a line in Java.
const lineEnds = "\n\r\u0085\u2028\u2029"

func isLineEnd(r rune) bool { return strings.ContainsRune(lineEnds, r) }

// atEnd is $ outside of multi-line mode: the end, or before a last line's end.
func atEnd(text []rune, at int) bool {
	rest := text[at:]
	return len(rest) == 0 || len(rest) == 1 && isLineEnd(rest[0]) || len(rest) == 2 && rest[0] == '\r' && rest[1] == '\n'
}
