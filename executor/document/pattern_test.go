package document

import (
	"regexp"
	"runtime/debug"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPattern(t *testing.T) {
	long := strings.Repeat("a", 5000)
	for _, c := range []struct {
		pattern  string
		yes, not []string
	}{
		{`a|bc`, []string{"a", "bc"}, []string{"", "ac", "b", "xa"}},
		{`^[a-z]{3}$|^9$`, []string{"abc", "9"}, []string{"abcd", "9\n", "99"}},
		{`[a-z]{1,2048}`, []string{"a", long[:2048]}, []string{"", long}},
		{`(?!aws/)[\w/]+`, []string{"a", "awsx/", "x/aws/"}, []string{"aws/x"}},
		{`(?=^.{3,6}$)(?!^(\d+\.)+\d+$)[a-z\d.]+`, []string{"abc", "a.1"}, []string{"ab", "abcdefg", "1.2.3"}},
		{`[a-z-]*(?<!-)`, []string{"", "a-b"}, []string{"a-"}},
		{`(?<=a)b|a(?<=a)b`, []string{"ab"}, []string{"b"}},
		{`(a+)-\1`, []string{"a-a", "aa-aa"}, []string{"a-aa", "aa-a"}},
		{`(?<x>a+)-\k<x>`, []string{"aa-aa"}, []string{"aa-a"}},
		{`a*+a`, nil, []string{"a", "aa"}},
		{`(?>a|ab)c`, []string{"ac"}, []string{"abc"}},
		{`a*?b??`, []string{"", "aa", "aab"}, []string{"b b"}},
		{`(?:ab){2,}`, []string{"abab", "ababab"}, []string{"ab", "aba"}},
		{`(a|b*)*c`, []string{"c", "abbac"}, []string{"abd"}},
		{`[a-z&&[^aeiou]]+`, []string{"xyz"}, []string{"xaz"}},
		{`[a-c[x-z]]+`, []string{"axz"}, []string{"d"}},
		{`[]a]+`, []string{"]a"}, []string{"["}},
		{`[^]]`, []string{"a"}, []string{"]"}},
		{`[\w-/.@]+`, []string{"a-/.@"}, []string{" "}},
		{`[a-zA-Z0-9-_ ]+`, []string{"a-_ 1"}, []string{"."}},
		{`[+--]+`, []string{"+,-"}, []string{"."}},
		{`[a\d-z]+`, []string{"a1-z"}, []string{"y"}},
		{`[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*`, []string{"a b\n€😀"}, []string{"\x01"}},
		{`\Qa.b\E+`, []string{"a.b"}, []string{"axb"}},
		{`(?i)aBc(?-i)d`, []string{"ABCd", "abcd"}, []string{"abcD"}},
		{`(?i:a)b`, []string{"Ab"}, []string{"aB"}},
		{`(?x) a  b # c`, []string{"ab"}, []string{"a b"}},
		{`.`, []string{"é", "😀"}, []string{"\n", "ab"}},
		{`(?s).+`, []string{"a\nb"}, nil},
		{`(?m)^a$\n^b$`, []string{"a\nb"}, nil},
		{`\bfoo\b.*\Bx`, []string{"foo ax"}, []string{"foox"}},
		{`\p{L}\p{Lu}\p{Alpha}\P{Digit}\pL`, []string{"éÉazb"}, []string{"éÉa1b"}},
		{`\x41\x{1F600}\t\cA\0101`, []string{"A😀\t\x01A"}, nil},
		{`a{b`, []string{"a{b"}, nil}, // as nodes have it
		{`\s\h\v\R`, []string{"\v \n\r\n"}, nil},
		{`(\d{4}-)?\d\2?|x()`, []string{"1", "2024-1", "x"}, nil},
	} {
		p, err := compilePattern(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for _, value := range c.yes {
			if problem := p.refuses(value); problem != "" {
				t.Errorf("%s refuses %q: %s", c.pattern, value, problem)
			}
		}
		for _, value := range c.not {
			if p.refuses(value) == "" {
				t.Errorf("%s accepts %q", c.pattern, value)
			}
		}
	}
}

func TestPatternRefusals(t *testing.T) {
	for pattern, want := range map[string]string{
		`(a`: "a ) is missing", `a)`: "there is a ) too many", `[a`: "a ] is missing", `*a`: "there is nothing that * repeats", `a{3,1}`: "a repetition from 3 to 1",
		`[z-a]`: "a range from z to a", `\y`: `there is no \y`, `\`: "it ends too early", `\p{Nope}`: `the property "Nope" is not known`, `\2(a)`: "there is no group 2",
		`\k<x>`: "there is no group <x>", `(?q)`: "there is no flag (?q", `\x4`: "incomplete", strings.Repeat("(", 200): "it nests too deep",
	} {
		if _, err := compilePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", pattern, err, want)
		}
	}
}

func TestPatternThatTakesTooLong(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(64 << 20)) // a deeper recursion ends the program
	deep, err := compilePattern(`(?!x)(?:a|b)*`)
	if err != nil || !strings.Contains(deep.refuses(strings.Repeat("a", 1_000_000)), "takes too long") {
		t.Errorf("a deep recursion is not ended: %v", err)
	}
	value := strings.Repeat("a", 60) + "!"
	p, err := compilePattern(`(a+)+`)
	if err != nil || p.refuses(value) != "must match the pattern %s as a whole." {
		t.Errorf("RE2 should have decided: %v %s", err, p.refuses(value))
	}
	p, err = compilePattern(`(?!x)(a+)+`)
	if err != nil || !strings.Contains(p.refuses(value), "takes too long") {
		t.Errorf("got %v %s", err, p.refuses(value))
	}
}

// TestPatternAgainstRE2 compares the two matchers where both have the same
// language.
func TestPatternAgainstRE2(t *testing.T) {
	atom := rapid.SampledFrom([]string{"a", "b", "ab", "[ab]", "[^a]", ".", "(a|b)", "(?:ab|a)", `\w`, `\d`, "^", "$", "(b*)", "()"})
	quantifier := rapid.SampledFrom([]string{"", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?", "??"})
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			part := atom.Draw(t, "atom")
			if part != "^" && part != "$" {
				part = "(?:" + part + ")" + quantifier.Draw(t, "quantifier")
			}
			text += part
			if rapid.IntRange(0, 5).Draw(t, "or") == 0 {
				text += "|"
			}
		}
		value := rapid.StringOfN(rapid.SampledFrom([]rune("aab1")), 0, 8, -1).Draw(t, "value")
		p, err := compilePattern(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if want := regexp.MustCompile(`\A(?:` + text + `)\z`).MatchString(value); (p.refuses(value) == "") != want {
			t.Fatalf("%s with %q: RE2 says %v", text, value, want)
		}
	})
}

func FuzzPattern(f *testing.F) {
	for _, seed := range []string{`(?!a)[a-z&&[^x]]+\1{2,}`, `^(?<n>a|b)*\k<n>$`, `\p{L}\Qa\E(?i:x)`, `[\u0020-\uD7FF]{1,1024}`, `((a*)*)*b`} {
		f.Add(seed, "aab")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		if len(text) > 300 || len(value) > 300 {
			return
		}
		if p, err := compilePattern(text); err == nil {
			p.refuses(value)
		}
	})
}
