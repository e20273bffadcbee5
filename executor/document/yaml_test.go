package document

import (
	"errors"
	"strings"
	"testing"
)

func TestParseYAML(t *testing.T) {
	for content, want := range map[string]string{
		"a: 1": `{"a":1}`,
		"a: 010\nb: 0x1F\nc: 1_000\nd: .5\ne: 1.50\nf: -0\ng: 0o17\nh: +3": `{"a":8,"b":31,"c":1000,"d":0.5,"e":1.50,"f":-0,"g":15,"h":3}`,
		"a: yes\nb: True\nc: off\nd: ~\ne:":                                `{"a":"yes","b":true,"c":"off","d":null,"e":null}`,
		"a: 2020-01-01\nb: 12:30:45\nc: '1'":                               `{"a":"2020-01-01","b":"12:30:45","c":"1"}`,
		"1: x\ntrue: y\n2020-01-01: z":                                     `{"1":"x","2020-01-01":"z","true":"y"}`,
		"a: &x [1, {b: c}]\nd: *x":                                         `{"a":[1,{"b":"c"}],"d":[1,{"b":"c"}]}`,
		"x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}":                            `{"x":{"a":1,"b":2},"y":{"a":1,"b":3}}`,
		"x: &x {a: 1}\ny: {<<: [*x, {a: 2, c: 4}]}":                        `{"x":{"a":1},"y":{"a":1,"c":4}}`,
		"a: |\n  one\n    two\n  three\n":                                  `{"a":"one\n  two\nthree\n"}`,
		"a: >-\n  one\n  two\n":                                            `{"a":"one two"}`,
		"a: !!str 5\nb: !!int '6'":                                         `{"a":"5","b":6}`,
		`{"a": ["b", {"c": null}]}`:                                        `{"a":["b",{"c":null}]}`,
		"---\na: b\n...\n":                                                 `{"a":"b"}`,
		"# only\na: '<<'":                                                  `{"a":"<<"}`,
	} {
		n, err := parseYAML([]byte(content))
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		if got := textOf(n.value()); got != want {
			t.Errorf("%q\ngot  %s\nwant %s", content, got, want)
		}
	}
	n, err := parseYAML([]byte("é: x\nb:\n  - c: |\n      text\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c := n.field("b").items[0].field("c"); c.line != 3 || c.column != 8 {
		t.Errorf("the text is at %d:%d", c.line, c.column)
	}
}

func TestParseYAMLRefusals(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for _, c := range "bcdefgh" {
		before := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+before+",", 9), ",") + "]\n"
	}
	for content, want := range map[string]string{
		"":                   "The document is empty. at Line: 1, Column: 1",
		"# nothing":          "The document is empty. at Line: 1, Column: 1",
		"a: 1\nb: [":         "YAML not well-formed: ",
		"a: 1\n b: 2":        "YAML not well-formed: mapping values are not allowed in this context. at Line: 2",
		"a: 1\na: 2":         `Duplicate key "a". at Line: 2, Column: 1`,
		"a: {b: 1, 'b': 2}":  `Duplicate key "b". at Line: 1, Column: 11`,
		"a: !Sub x":          "The YAML tag !Sub is not supported in documents. at Line: 1, Column: 4",
		"a: !Ref [x]":        "The YAML tag !Ref is not supported",
		"a: !GetAtt {x: y}":  "The YAML tag !GetAtt is not supported",
		"a: !!binary aGk=":   "The YAML tag !!binary is not supported",
		"a: !!set {b: null}": "The YAML tag !!set is not supported",
		"a: .nan":            "The number .nan cannot be in a document",
		"a: -.inf":           "The number -.inf cannot be in a document",
		"a: 1\n---\nb: 2":    "YAML not well-formed: the content has more than one document. at Line: 2",
		"a: &x {b: *x}":      "The alias *x stands inside of what it names. at Line: 1, Column: 11",
		"a: &x [*x]":         "The alias *x stands inside of what it names.",
		"[a]: b":             "The key of a map is no text.",
		"~: b":               "The key of a map is no text.",
		"{a: {<<: 5}}":       "The merge key << needs a map, or a list of maps.",
		bomb:                 "The document grows beyond 524288 bytes by its aliases.",
		strings.Repeat("[", 100) + strings.Repeat("]", 100): "The document nests deeper than 64 levels.",
		strings.Repeat("- ", 5000) + "x":                    "The document nests deeper than 64 levels.",
		"a: \x01":                                           "YAML not well-formed: ",
		"a: \xff":                                           "YAML not well-formed: it is not UTF-8.",
		"a: *nope":                                          "YAML not well-formed: unknown anchor 'nope' referenced.",
	} {
		n, err := parseYAML([]byte(content))
		var refusal *Error
		if n != nil || !errors.As(err, &refusal) || refusal.Code != CodeInvalidContent || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60q\ngot  %v\nwant %s", content, err, want)
		}
	}
}

func TestConvert(t *testing.T) {
	const json = `{
  "schemaVersion": "2.2",
  "zeta": [],
  "alpha": {
    "n": 1e3,
    "t": true,
    "e": {}
  },
  "script": "#!/bin/sh\necho '<a&b>'\n",
  "texts": [
    "yes",
    "1",
    "",
    "a: b",
    null
  ]
}`
	const yaml = `schemaVersion: "2.2"
zeta: []
alpha:
  "n": 1e3
  t: true
  e: {}
script: |
  #!/bin/sh
  echo '<a&b>'
texts:
  - "yes"
  - "1"
  - ""
  - 'a: b'
  - null
`
	got, err := Convert([]byte(json), JSON, YAML)
	if err != nil || string(got) != yaml {
		t.Errorf("%v\n%s", err, got)
	}
	got, err = Convert([]byte(yaml), YAML, JSON)
	if err != nil || strings.TrimSpace(string(got)) != json {
		t.Errorf("%v\n%s", err, got)
	}
	if got, err := Convert([]byte("{ "), JSON, JSON); err != nil || string(got) != "{ " {
		t.Errorf("the same format: %q %v", got, err)
	}
	for _, c := range []struct {
		content  string
		from, to Format
		code     string
	}{{"{", JSON, YAML, CodeInvalidContent}, {"x", TEXT, JSON, "InvalidDocument"}, {"{}", JSON, TEXT, "InvalidDocument"}, {"{}", JSON, "XML", "InvalidDocument"}} {
		var refusal *Error
		if _, err := Convert([]byte(c.content), c.from, c.to); !errors.As(err, &refusal) || refusal.Code != c.code {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// TestConvertKeepsTexts has the texts for which block literals are no use.
func TestConvertKeepsTexts(t *testing.T) {
	for _, text := range []string{
		"a\nb", "a\nb\n", "a\nb\n\n", "\na", "\n", "\n\n", " a\nb", "  a\n b\n", "a \nb", "a\n \nb", "\ta\nb", "a\r\nb", "a\tb\nc", "# a\nb", "- a\n- b", "a\n---\nb", "a\n...\nb",
		"é\n😀", "\u2028\nx", "\u0085", "a\x7fb\nc", "\ufeffa\nb", "<<", "=", "~", "null", "0x1F", "1_0", "2020-01-01", "1:20", "!x", "&x", "*x", "{{ x }}", "'", `"`, "\\", " ", "a ", "? a", ": a", "%a", "@a", "`a",
	} {
		before := &node{kind: '{', fields: []namedNode{{text, &node{kind: '"', text: text}}, {"list", &node{kind: '[', items: []*node{{kind: '"', text: text}}}}}}
		for _, quoted := range []bool{false, true} { // either is faithful
			if out, err := encodeYAML(before, quoted); err != nil {
				t.Errorf("%q (quoted: %v): %v in\n%s", text, quoted, err, out)
			}
		}
	}
}
