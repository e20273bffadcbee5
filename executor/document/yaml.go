package document

import (
	"bytes"
	"errors"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxExpanded is what a YAML document may grow to by its aliases: values and
// bytes of text together. It is far above any document of maxSize without them.
const maxExpanded = 8 * maxSize

// jsonNumber is a number that both languages write alike.
var jsonNumber = regexp.MustCompile(`\A-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\z`)

// yamlLine is where yaml names a line in its errors.
var yamlLine = regexp.MustCompile(`\Ayaml: (?:unmarshal errors:\s*)?(?:line ([0-9]+): )?`)

// indentedByTab: parsers say of it that a token cannot start so.
var indentedByTab = regexp.MustCompile(`\A *\t`)

// yamlVersion is the directive of a later YAML than the parser takes, up to its last
// digit. What they differ in, documents have as JSON has it.
var yamlVersion = regexp.MustCompile(`\A((?:[ \t]*(?:#[^\n]*)?\r?\n)*%YAML[ \t]+1\.)[0-9]+`)

// yamlReader makes nodes of YAML: those that JSON has as well. Anchors, aliases
// and merge keys are resolved.
type yamlReader struct {
	expanded int // values and bytes of text so far
	open     []*yaml.Node
}

func parseYAML(content []byte) (*node, error) {
	if !utf8.Valid(content) {
		return nil, &Error{Code: CodeInvalidContent, Message: "YAML not well-formed: it is not UTF-8."}
	}
	content = yamlVersion.ReplaceAll(content, []byte("${1}1"))
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Error{Code: CodeInvalidContent, Message: "The document is empty.", Line: 1, Column: 1}
		}
		return nil, yamlError(err, content)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, &Error{Code: CodeInvalidContent, Message: "YAML not well-formed: the content has more than one document.", Line: second.Line, Column: second.Column}
	case !errors.Is(err, io.EOF):
		return nil, yamlError(err, content)
	}
	if len(document.Content) != 1 {
		return nil, &Error{Code: CodeInvalidContent, Message: "The document is empty.", Line: 1, Column: 1}
	}
	root, err := new(yamlReader).next(document.Content[0], 0)
	if err != nil {
		return nil, err
	}
	return root, nil
}

func yamlError(err error, content []byte) error {
	text := strings.TrimSpace(err.Error())
	refusal := &Error{Code: CodeInvalidContent}
	if match := yamlLine.FindStringSubmatch(text); match != nil {
		refusal.Line, _ = strconv.Atoi(match[1])
		text = text[len(match[0]):]
	}
	if lines := bytes.Split(content, []byte("\n")); refusal.Line > 0 && refusal.Line <= len(lines) && indentedByTab.Match(lines[refusal.Line-1]) {
		text = "the line is indented by a tab, and YAML wants blanks"
	}
	refusal.Message = "YAML not well-formed: " + strings.TrimSuffix(text, ".") + "."
	return refusal
}

func (r *yamlReader) next(y *yaml.Node, depth int) (*node, error) {
	n := &node{line: y.Line, column: y.Column}
	if y.Kind == yaml.AliasNode {
		if slices.Contains(r.open, y.Alias) {
			return nil, n.errorf("The alias *%s stands inside of what it names.", y.Value)
		}
		return r.next(y.Alias, depth)
	}
	if r.expanded += 1 + len(y.Value); r.expanded > maxExpanded {
		return nil, n.errorf("The document grows beyond %d bytes by its aliases.", maxExpanded)
	}
	if depth > maxDepth {
		return nil, n.errorf("The document nests deeper than %d levels.", maxDepth)
	}
	r.open = append(r.open, y)
	defer func() { r.open = r.open[:len(r.open)-1] }()
	switch y.Kind {
	case yaml.ScalarNode:
		return n, r.scalar(n, y)
	case yaml.SequenceNode:
		if tag := y.ShortTag(); tag != "!!seq" {
			return nil, badTag(n, tag)
		}
		n.kind = '['
		for _, item := range y.Content {
			value, err := r.next(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, value)
		}
		return n, nil
	case yaml.MappingNode:
		if tag := y.ShortTag(); tag != "!!map" {
			return nil, badTag(n, tag)
		}
		return n, r.mapping(n, y, depth)
	}
	return nil, n.errorf("YAML not well-formed.")
}

// badTag: a document has the values of JSON, and nothing would honour a tag such
// as CloudFormation's !Sub.
func badTag(n *node, tag string) error {
	return n.errorf("The YAML tag %s is not supported in documents.", tag)
}

func (r *yamlReader) mapping(n *node, y *yaml.Node, depth int) error {
	n.kind = '{'
	seen := make(map[string]bool, len(y.Content)/2)
	var merged []*yaml.Node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		place := &node{line: key.Line, column: key.Column}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return place.errorf("The key of a map is no text.")
		}
		switch tag := key.ShortTag(); tag {
		case "!!merge":
			merged = append(merged, value)
			continue
		case "!!null", "!!binary":
			return place.errorf("The key of a map is no text.")
		}
		if r.expanded += len(key.Value); r.expanded > maxExpanded {
			return place.errorf("The document grows beyond %d bytes by its aliases.", maxExpanded)
		}
		if seen[key.Value] {
			return place.errorf("Duplicate key %q.", key.Value)
		}
		seen[key.Value] = true
		field, err := r.next(value, depth+1)
		if err != nil {
			return err
		}
		n.fields = append(n.fields, namedNode{name: key.Value, value: field})
	}
	for _, value := range merged {
		if err := r.merge(n, seen, value, depth); err != nil {
			return err
		}
	}
	return nil
}

// merge adds what a key << names, a map or a list of maps; what n has, or gets
// first, stays.
func (r *yamlReader) merge(n *node, seen map[string]bool, value *yaml.Node, depth int) error {
	source, err := r.next(value, depth+1)
	if err != nil {
		return err
	}
	sources := []*node{source}
	if source.kind == '[' {
		sources = source.items
	}
	for _, s := range sources {
		if s.kind != '{' {
			return source.errorf("The merge key << needs a map, or a list of maps.")
		}
		for _, f := range s.fields {
			if !seen[f.name] {
				seen[f.name] = true
				n.fields = append(n.fields, f)
			}
		}
	}
	return nil
}

// scalar reads a value. What JSON does not have, such as a date, is its text.
func (r *yamlReader) scalar(n *node, y *yaml.Node) error {
	n.kind, n.text = '"', y.Value
	n.literal = y.Style&yaml.LiteralStyle != 0
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!timestamp", "!!merge":
	case "!!null":
		n.kind, n.text = 'n', ""
	case "!!bool":
		var b bool
		if err := y.Decode(&b); err != nil {
			return n.errorf("YAML not well-formed: %q is no boolean.", y.Value)
		}
		n.kind, n.text = 'f', ""
		if b {
			n.kind = 't'
		}
	case "!!int", "!!float":
		n.kind = '0'
		if jsonNumber.MatchString(y.Value) {
			return nil
		}
		text, ok := numberText(y)
		if !ok {
			return n.errorf("The number %s cannot be in a document: write it in quotes, if it is a text.", y.Value)
		}
		n.text = text
	default:
		return badTag(n, tag)
	}
	return nil
}

// numberText writes a number in JSON's way that YAML writes in another: octal,
// hexadecimal, with underscores, without a digit before the point.
func numberText(y *yaml.Node) (string, bool) {
	var i int64
	var u uint64
	switch integer := y.ShortTag() == "!!int"; { // yaml would cut a fraction off
	case integer && y.Decode(&i) == nil:
		return strconv.FormatInt(i, 10), true
	case integer && y.Decode(&u) == nil:
		return strconv.FormatUint(u, 10), true
	}
	var f float64
	if y.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return "", false
	}
	return strconv.FormatFloat(f, 'g', -1, 64), true
}
