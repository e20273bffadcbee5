package document

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// maxPatternDepth is how deep groups and sets may nest.
const maxPatternDepth = 50

var errPatternEnds = errors.New("it ends too early")

// patternParser makes a matcher of Java's regular expressions.
type patternParser struct {
	text   []rune
	at     int
	groups int
	names  []string // of groups, by number - 1; "" for those without
	// highest is the highest group that is referred to.
	highest int
	// Flags in force: i, s, m and x.
	foldCase, dotAll, multiLine, comments bool
}

func (p *patternParser) more() bool { return p.at < len(p.text) }

func (p *patternParser) peek(s string) bool {
	return strings.HasPrefix(string(p.text[p.at:min(len(p.text), p.at+len(s))]), s)
}

func (p *patternParser) take(s string) bool {
	if p.peek(s) {
		p.at += len(s) // s is ASCII
		return true
	}
	return false
}

func (p *patternParser) next() (rune, error) {
	if !p.more() {
		return 0, errPatternEnds
	}
	p.at++
	return p.text[p.at-1], nil
}

// alternatives reads up to a ) or the end. Flags that are set inside end with it.
func (p *patternParser) alternatives(depth int) (matcher, error) {
	if depth > maxPatternDepth {
		return nil, errors.New("it nests too deep")
	}
	flags := [4]bool{p.foldCase, p.dotAll, p.multiLine, p.comments}
	defer func() { p.foldCase, p.dotAll, p.multiLine, p.comments = flags[0], flags[1], flags[2], flags[3] }()
	var choices []matcher
	var parts []matcher
	for p.more() && !p.peek(")") {
		if p.take("|") {
			choices, parts = append(choices, matchSequence(parts)), nil
			continue
		}
		part, err := p.repeated(depth)
		if err != nil {
			return nil, err
		}
		if part != nil {
			parts = append(parts, part)
		}
	}
	return matchAny(append(choices, matchSequence(parts))), nil
}

// repeated reads one thing with its quantifier; nil for what matches nothing, such
// as flags.
func (p *patternParser) repeated(depth int) (matcher, error) {
	match, chars, err := p.atom(depth)
	if err != nil {
		return nil, err
	}
	if match == nil && chars == nil {
		return nil, nil
	}
	for {
		q, there, err := p.quantifier()
		if err != nil {
			return nil, err
		}
		if !there {
			break
		}
		q.lazy = p.take("?")
		if chars != nil {
			match, chars = matchSetRepeated(chars, q), nil
		} else {
			match = matchRepeated(match, q)
		}
		if !q.lazy && p.take("+") {
			match = matchAtomic(match)
		}
	}
	if chars != nil {
		return matchSet(chars), nil
	}
	return match, nil
}

func (p *patternParser) quantifier() (repetition, bool, error) {
	switch {
	case p.take("?"):
		return repetition{most: 1}, true, nil
	case p.take("*"):
		return repetition{most: -1}, true, nil
	case p.take("+"):
		return repetition{least: 1, most: -1}, true, nil
	case !p.peek("{"):
		return repetition{}, false, nil
	}
	start := p.at
	p.at++
	first, ok := p.number()
	q := repetition{least: first, most: first}
	if ok && p.take(",") {
		if q.most, ok = p.number(); !ok {
			q.most, ok = -1, true
		}
	}
	if !ok || !p.take("}") {
		p.at = start // a brace that stands for itself, as nodes have it
		return repetition{}, false, nil
	}
	if q.most >= 0 && q.most < q.least {
		return q, true, fmt.Errorf("a repetition from %d to %d", q.least, q.most)
	}
	return q, true, nil
}

func (p *patternParser) number() (int, bool) {
	start := p.at
	for p.more() && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	n, err := strconv.Atoi(string(p.text[start:p.at]))
	return n, err == nil
}

// atom reads what a quantifier may follow: a matcher, or a set of characters.
func (p *patternParser) atom(depth int) (matcher, set, error) {
	c, err := p.next()
	if err != nil {
		return nil, nil, err
	}
	switch c {
	case '(':
		match, err := p.group(depth)
		return match, nil, err
	case '[':
		s, err := p.class(depth)
		return nil, p.fold(s), err
	case '.':
		if p.dotAll {
			return nil, func(rune) bool { return true }, nil
		}
		return nil, func(r rune) bool { return !isLineEnd(r) }, nil
	case '^':
		if p.multiLine {
			return matchWhere(func(text []rune, at int) bool { return at == 0 || at < len(text) && isLineEnd(text[at-1]) }), nil, nil
		}
		return matchWhere(func(_ []rune, at int) bool { return at == 0 }), nil, nil
	case '$':
		if p.multiLine {
			return matchWhere(func(text []rune, at int) bool { return at == len(text) || isLineEnd(text[at]) }), nil, nil
		}
		return matchWhere(atEnd), nil, nil
	case '*', '+', '?':
		return nil, nil, fmt.Errorf("there is nothing that %c repeats", c)
	case '\\':
		return p.escape()
	}
	if p.comments {
		switch {
		case unicode.IsSpace(c):
			return nil, nil, nil
		case c == '#':
			for p.more() && !isLineEnd(p.text[p.at]) {
				p.at++
			}
			return nil, nil, nil
		}
	}
	return nil, p.fold(one(c)), nil
}

func one(c rune) set { return func(r rune) bool { return r == c } }

// fold makes a set regard no case, where the flag says so; as in Java, of ASCII.
func (p *patternParser) fold(s set) set {
	if !p.foldCase || s == nil {
		return s
	}
	return func(r rune) bool {
		return s(r) || r < unicode.MaxASCII && (s(unicode.ToLower(r)) || s(unicode.ToUpper(r)))
	}
}

// group reads what follows a (.
func (p *patternParser) group(depth int) (matcher, error) {
	inside := func(wrap func(matcher) matcher) (matcher, error) {
		inner, err := p.alternatives(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, errors.New("a ) is missing")
		}
		return wrap(inner), nil
	}
	capture := func(name string) (matcher, error) {
		p.groups++
		p.names = append(p.names, name)
		number := p.groups
		return inside(func(m matcher) matcher { return matchGroup(m, number) })
	}
	switch {
	case p.take("?:"):
		return inside(func(m matcher) matcher { return m })
	case p.take("?="):
		return inside(func(m matcher) matcher { return matchAhead(m, true) })
	case p.take("?!"):
		return inside(func(m matcher) matcher { return matchAhead(m, false) })
	case p.take("?<="):
		return inside(func(m matcher) matcher { return matchBehind(m, true) })
	case p.take("?<!"):
		return inside(func(m matcher) matcher { return matchBehind(m, false) })
	case p.take("?>"):
		return inside(matchAtomic)
	case p.take("?<"), p.take("?P<"):
		name, err := p.until('>')
		if err != nil {
			return nil, err
		}
		return capture(name)
	case p.take("?"):
		return p.flags(inside)
	}
	return capture("")
}

func (p *patternParser) until(end rune) (string, error) {
	i := slices.Index(p.text[p.at:], end)
	if i < 0 {
		return "", errPatternEnds
	}
	text := string(p.text[p.at : p.at+i])
	p.at += i + 1
	return text, nil
}

// flags reads (?i) and (?i:...).
func (p *patternParser) flags(inside func(func(matcher) matcher) (matcher, error)) (matcher, error) {
	before := [4]bool{p.foldCase, p.dotAll, p.multiLine, p.comments}
	on := true
	for {
		c, err := p.next()
		if err != nil {
			return nil, err
		}
		switch c {
		case 'i':
			p.foldCase = on
		case 's':
			p.dotAll = on
		case 'm':
			p.multiLine = on
		case 'x':
			p.comments = on
		case 'u', 'U', 'd': // what they change is of no importance to names and paths
		case '-':
			on = false
		case ')':
			return nil, nil
		case ':':
			match, err := inside(func(m matcher) matcher { return m })
			p.foldCase, p.dotAll, p.multiLine, p.comments = before[0], before[1], before[2], before[3]
			return match, err
		default:
			return nil, fmt.Errorf("there is no flag (?%c", c)
		}
	}
}

// escape reads what follows a backslash outside of a set.
func (p *patternParser) escape() (matcher, set, error) {
	c, err := p.next()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case c == 'b':
		return matchWhere(func(text []rune, at int) bool { return wordAt(text, at-1) != wordAt(text, at) }), nil, nil
	case c == 'B':
		return matchWhere(func(text []rune, at int) bool { return wordAt(text, at-1) == wordAt(text, at) }), nil, nil
	case c == 'A', c == 'G':
		return matchWhere(func(_ []rune, at int) bool { return at == 0 }), nil, nil
	case c == 'z':
		return matchWhere(func(text []rune, at int) bool { return at == len(text) }), nil, nil
	case c == 'Z':
		return matchWhere(atEnd), nil, nil
	case c == 'R':
		return matchAny([]matcher{
			matchSequence([]matcher{matchSet(one('\r')), matchSet(one('\n'))}),
			matchSet(func(r rune) bool { return isLineEnd(r) || r == '\v' || r == '\f' }),
		}), nil, nil
	case c == 'Q':
		return p.quoted(), nil, nil
	case c == 'k' && p.take("<"):
		name, err := p.until('>')
		if err != nil {
			return nil, nil, err
		}
		group := slices.Index(p.names, name) + 1
		if name == "" || group == 0 {
			return nil, nil, fmt.Errorf("there is no group <%s>", name)
		}
		return matchReference(group), nil, nil
	case c >= '1' && c <= '9':
		p.at--
		group, ok := p.number()
		for !ok || group > 9 && group > p.groups {
			p.at--
			group /= 10
			ok = true
		}
		p.highest = max(p.highest, group)
		return matchReference(group), nil, nil
	}
	p.at--
	s, err := p.characterEscape()
	return nil, p.fold(s), err
}

// quoted is \Q...\E.
func (p *patternParser) quoted() matcher {
	var parts []matcher
	for p.more() && !p.take(`\E`) {
		parts = append(parts, matchSet(p.fold(one(p.text[p.at]))))
		p.at++
	}
	return matchSequence(parts)
}
