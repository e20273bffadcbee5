package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"fleetmesh/agent/meshapi"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, grüße 世界":        "plain, grüße 世界",
		"a\tb":                   "a b",
		"\x1b]0;title\x07":       "\uFFFD]0;title\uFFFD",
		"two\nlines\r":           "two\uFFFDlines\uFFFD",
		"bad \xff utf8":          "bad \uFFFD utf8",
		"c1 \u009b31m":           "c1 \uFFFD31m",
		"\u202eright to left":    "\uFFFDright to left",
		"line\u2028separator":    "line\uFFFDseparator",
		"zero\x00del\x7f emoji🙂": "zero\uFFFDdel\uFFFD emoji🙂",
	} {
		if got := cell(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := printable("a\n\tb\x1b", "\n\t"); got != "a\n\tb\uFFFD" {
		t.Errorf("kept: %q", got)
	}
}

// The columns of a table begin at the same place whatever is in them, and no line
// is wider than the terminal.
// TestParagraph: a description of several lines keeps them, below its name, and no
// line of it can command a terminal.
func TestParagraph(t *testing.T) {
	var out strings.Builder
	facts(&out, "Name", "Kill", "Description", paragraph("# What\r\n\r\nIt kills\x1b[31m.\tSoon.\n\n", ""), "Status", "Active")
	want := "Name         Kill\nDescription  # What\n\n             It kills\ufffd[31m. Soon.\nStatus       Active\n"
	if out.String() != want {
		t.Errorf("facts wrote\n%q\nwant\n%q", out.String(), want)
	}
	if got := paragraph("a:\r\n\tb\r\n", "\t"); got != "a:\n\tb" {
		t.Errorf("a content of Windows is %q", got)
	}
}

func TestTableWidths(t *testing.T) {
	long := strings.Repeat("出力", 300) + "\x1b[31m"
	c := &course{nodes: map[string]meshapi.InvocationChange{}}
	c.apply(&meshapi.WatchCommandOutput{Invocations: []meshapi.InvocationChange{
		change(web1, "web-1", "Success", 0, "short"), change(web2, "日本語", "Success", 0, long), change(db1, "e\u0301clair", "Failed", 255, "x"),
	}})
	m := newFakeMesh(t)
	for _, width := range []int{0, 40, 80, 132} {
		a := &app{surroundings: m.surroundings(nil, nil)}
		a.outTerminal, a.width = width > 0, width
		var out bytes.Buffer
		a.showInvocations(&out, c, nil)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 4 {
			t.Fatalf("width %d: %d lines\n%s", width, len(lines), out.String())
		}
		column := strings.Index(lines[0], "STATUS")
		for _, line := range lines {
			if !utf8.ValidString(line) {
				t.Errorf("width %d: broken characters in %q", width, line)
			}
			if got := text.StringWidthWithoutEscSequences(line); width > 0 && got > width {
				t.Errorf("width %d: a line of %d columns: %q", width, got, line)
			}
			if before := text.Trim(line, column); text.StringWidthWithoutEscSequences(before) != column || (width == 0 && strings.Contains(line, "\x1b")) {
				t.Errorf("width %d: column moved or escape code: %q", width, line)
			}
		}
		if width == 0 && !strings.Contains(out.String(), strings.Repeat("出力", 300)) {
			t.Error("output is cut where there is no terminal")
		}
	}
}

func TestElapsed(t *testing.T) {
	for d, want := range map[time.Duration]string{-1: "", 0: "0.00s", 1230 * time.Millisecond: "1.23s", 12345 * time.Millisecond: "12.3s", 75 * time.Second: "1m15s", 3*time.Hour + time.Millisecond: "3h0m0s"} {
		if got := elapsed(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

// YAML says the same as JSON, whatever is in the strings.
func TestYAMLIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "yes", "null", "~", "1e3", "0x1f", "- a", "a: b", "#c", "13", "2026-11-23", "[x]", "multi\nline\n", " lead", "trail ", "\ttab", "\ttab\n", "\n\ttab\nx", "'", `"`}))
		in := &meshapi.MembersOutput{AnsweredBy: words.Draw(t, "by"), Members: []meshapi.Member{{
			NodeId: words.Draw(t, "node"), Voter: rapid.Bool().Draw(t, "voter"), Tags: rapid.MapOf(words, words).Draw(t, "tags"),
		}}}
		asJSON, err := encodeJSON(in)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := encodeYAML(in)
		if err != nil {
			t.Fatal(err)
		}
		var fromJSON, fromYAML any
		if err := json.Unmarshal(asJSON, &fromJSON); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(asYAML, &fromYAML); err != nil {
			t.Fatalf("%v\n%s", err, asYAML)
		}
		if !reflect.DeepEqual(fromJSON, fromYAML) {
			t.Fatalf("YAML says something else:\n%s\n%s", asJSON, asYAML)
		}
	})
}
