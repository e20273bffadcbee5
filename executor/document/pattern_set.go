package document

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// class reads what follows a [, up to its ]: a union of characters, ranges and
// sets, and their intersections with &&.
func (p *patternParser) class(depth int) (set, error) {
	if depth > maxPatternDepth {
		return nil, errors.New("it nests too deep")
	}
	negated := p.take("^")
	union, err := p.union(depth, true)
	if err != nil {
		return nil, err
	}
	for p.take("&&") {
		other, err := p.union(depth, false)
		if err != nil {
			return nil, err
		}
		left := union
		union = func(r rune) bool { return left(r) && other(r) }
	}
	if !p.take("]") {
		return nil, errors.New("a ] is missing")
	}
	if negated {
		inner := union
		union = func(r rune) bool { return !inner(r) }
	}
	return union, nil
}

// interval is a range of characters.
type interval struct{ first, last rune }

// union reads up to a ] or &&. A ] that comes first stands for itself.
func (p *patternParser) union(depth int, first bool) (set, error) {
	var intervals []interval
	var sets []set
	for ; p.more() && (first || !p.peek("]")) && !p.peek("&&"); first = false {
		if p.take("[") {
			inner, err := p.class(depth + 1)
			if err != nil {
				return nil, err
			}
			sets = append(sets, inner)
			continue
		}
		low, s, err := p.classMember()
		if err != nil {
			return nil, err
		}
		if s != nil {
			sets = append(sets, s)
			continue
		}
		high := low
		if p.peek("-") && !p.peek("-]") && !p.peek("-[") && p.at+1 < len(p.text) {
			p.at++
			if high, s, err = p.classMember(); err != nil {
				return nil, err
			}
			if s != nil { // [a-\d]: a hyphen that stands for itself
				sets, high = append(sets, s, one('-')), low
			}
		}
		if high < low {
			return nil, fmt.Errorf("a range from %c to %c", low, high)
		}
		intervals = append(intervals, interval{low, high})
	}
	return func(r rune) bool {
		for _, i := range intervals {
			if r >= i.first && r <= i.last {
				return true
			}
		}
		for _, s := range sets {
			if s(r) {
				return true
			}
		}
		return false
	}, nil
}

// classMember reads one character, or an escape that stands for several.
func (p *patternParser) classMember() (rune, set, error) {
	c, err := p.next()
	if err != nil || c != '\\' {
		return c, nil, err
	}
	if !p.more() {
		return 0, nil, errPatternEnds
	}
	if s, ok, err := p.several(); ok || err != nil {
		return 0, s, err
	}
	c, err = p.single()
	return c, nil, err
}

// characterEscape reads what follows a backslash and stands for characters.
func (p *patternParser) characterEscape() (set, error) {
	if s, ok, err := p.several(); ok || err != nil {
		return s, err
	}
	c, err := p.single()
	return one(c), err
}

func within(text string) set { return func(r rune) bool { return strings.ContainsRune(text, r) } }

func not(s set) set { return func(r rune) bool { return !s(r) } }

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// several reads an escape that stands for a set; ok is false for others.
func (p *patternParser) several() (s set, ok bool, err error) {
	c := p.text[p.at]
	p.at++
	switch c {
	case 'd':
		return isDigit, true, nil
	case 'D':
		return not(isDigit), true, nil
	case 'w':
		return isWord, true, nil
	case 'W':
		return not(isWord), true, nil
	case 's':
		return within(" \t\n\v\f\r"), true, nil
	case 'S':
		return not(within(" \t\n\v\f\r")), true, nil
	case 'h':
		return within(" \t\u00a0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"), true, nil
	case 'v':
		return within("\n\v\f\r\u0085\u2028\u2029"), true, nil
	case 'p', 'P':
		name := ""
		if p.take("{") {
			if name, err = p.until('}'); err != nil {
				return nil, false, err
			}
		} else if r, err := p.next(); err != nil {
			return nil, false, err
		} else {
			name = string(r)
		}
		s, known := property(name)
		if !known {
			return nil, false, fmt.Errorf("the property %q is not known", name)
		}
		if c == 'P' {
			s = not(s)
		}
		return s, true, nil
	}
	p.at--
	return nil, false, nil
}

// single reads an escape that stands for one character.
func (p *patternParser) single() (rune, error) {
	c, err := p.next()
	if err != nil {
		return 0, err
	}
	switch c {
	case 't':
		return '\t', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 'f':
		return '\f', nil
	case 'a':
		return '\a', nil
	case 'e':
		return 0x1b, nil
	case 'c':
		c, err := p.next()
		return c ^ 64, err
	case '0':
		return p.digits(8, 1, 3)
	case 'x':
		if !p.take("{") {
			return p.digits(16, 2, 2)
		}
		r, err := p.digits(16, 1, 6)
		if err == nil && !p.take("}") {
			err = errors.New("a } is missing")
		}
		return r, err
	case 'u':
		r, err := p.digits(16, 4, 4)
		if err == nil && utf16.IsSurrogate(r) && p.peek(`\u`) {
			at := p.at
			p.at += 2
			if low, err := p.digits(16, 4, 4); err == nil && utf16.DecodeRune(r, low) != unicode.ReplacementChar {
				return utf16.DecodeRune(r, low), nil
			}
			p.at = at
		}
		return r, err
	}
	if c < unicode.MaxASCII && unicode.IsLetter(c) {
		return 0, fmt.Errorf(`there is no \%c`, c)
	}
	return c, nil
}

func (p *patternParser) digits(base, least, most int) (rune, error) {
	start := p.at
	for p.more() && p.at-start < most && strings.ContainsRune("0123456789abcdefABCDEF"[:map[int]int{8: 8, 16: 22}[base]], p.text[p.at]) {
		p.at++
	}
	n, err := strconv.ParseInt(string(p.text[start:p.at]), base, 32)
	if err != nil || p.at-start < least {
		return 0, errors.New("an escaped character is incomplete")
	}
	return rune(n), nil
}

// posix are Java's classes of ASCII.
var posix = map[string]string{
	"Lower": "a-z", "Upper": "A-Z", "ASCII": "\x00-\x7f", "Alpha": "a-zA-Z", "Digit": "0-9", "Alnum": "a-zA-Z0-9", "Punct": "!-/:-@[-`{-~",
	"Graph": "!-~", "Print": " -~", "Blank": " - \t-\t", "Cntrl": "\x00-\x1f\x7f-\x7f", "XDigit": "0-9a-fA-F", "Space": " - \t-\r",
}

// property is the set of \p{name}.
func property(name string) (set, bool) {
	if ranges, ok := posix[name]; ok {
		return func(r rune) bool {
			for i := 0; i+2 < len(ranges); i += 3 {
				if r >= rune(ranges[i]) && r <= rune(ranges[i+2]) {
					return true
				}
			}
			return false
		}, true
	}
	for _, prefix := range []string{"Is", "script=", "sc=", "general_category=", "gc="} {
		name = strings.TrimPrefix(name, prefix)
	}
	for known, s := range map[string]set{
		"Alphabetic": unicode.IsLetter, "Letter": unicode.IsLetter, "Lowercase": unicode.IsLower, "Uppercase": unicode.IsUpper,
		"White_Space": unicode.IsSpace, "Punctuation": unicode.IsPunct, "Control": unicode.IsControl, "Digit": unicode.IsDigit,
		"javaLowerCase": unicode.IsLower, "javaUpperCase": unicode.IsUpper, "javaLetter": unicode.IsLetter, "javaDigit": unicode.IsDigit,
		"javaWhitespace":    unicode.IsSpace,
		"javaLetterOrDigit": func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) },
	} {
		if strings.EqualFold(known, name) {
			return s, true
		}
	}
	for _, tables := range []map[string]*unicode.RangeTable{unicode.Categories, unicode.Scripts, unicode.Properties} {
		if table := tables[name]; table != nil {
			return func(r rune) bool { return unicode.Is(table, r) }, true
		}
	}
	return nil, false
}
