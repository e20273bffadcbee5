package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxSize is SSM's limit for a document's content, in bytes.
	maxSize = 64 << 10
	// maxDepth is how deep lists and maps may nest in a document.
	maxDepth = 64
)

// node is a value in a document's text. Unlike a Go map it keeps the order of
// what is written, which is the order of parameters and plugins, and the place,
// which errors name.
type node struct {
	kind         jsontext.Kind // of JSON: n t f 0 " [ {
	line, column int           // in the content, from 1
	text         string        // of a string; of a number, as JSON writes it
	literal      bool          // text is a block of YAML, its lines below the node's own
	items        []*node       // of a list
	fields       []namedNode   // of a map; names are unique
}

type namedNode struct {
	name  string
	value *node
}

// field returns the value of a member, nil for one that is not there or null.
func (n *node) field(name string) *node {
	for _, f := range n.fields {
		if f.name == name && f.value.kind != 'n' {
			return f.value
		}
	}
	return nil
}

// fieldFold is field with the name in any case.
func (n *node) fieldFold(name string) *node {
	for _, f := range n.fields {
		if strings.EqualFold(f.name, name) && f.value.kind != 'n' {
			return f.value
		}
	}
	return nil
}

func (n *node) names() []string {
	names := make([]string, len(n.fields))
	for i, f := range n.fields {
		names[i] = f.name
	}
	return names
}

// value returns the node as Go has it: nil, bool, json.Number, string, []any or
// map[string]any.
func (n *node) value() any {
	switch n.kind {
	case 't', 'f':
		return n.kind == 't'
	case '0':
		return json.Number(n.text)
	case '"':
		return n.text
	case '[':
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.value()
		}
		return list
	case '{':
		object := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			object[f.name] = f.value.value()
		}
		return object
	}
	return nil
}

// scalar returns the text of a string, number or boolean.
func (n *node) scalar() (string, bool) {
	switch n.kind {
	case '"', '0':
		return n.text, true
	case 't':
		return "true", true
	case 'f':
		return "false", true
	}
	return "", false
}

// errorf is a refusal of the content that names the node's place.
func (n *node) errorf(format string, args ...any) error {
	return &Error{Code: CodeInvalidContent, Message: fmt.Sprintf(format, args...), Line: n.line, Column: n.column}
}

// errorIn is errorf for a place in the node's text, counted in bytes.
func (n *node) errorIn(offset int, format string, args ...any) error {
	if !n.literal {
		return n.errorf(format, args...)
	}
	line := n.line + 1 + strings.Count(n.text[:offset], "\n")
	return &Error{Code: CodeInvalidContent, Message: fmt.Sprintf(format, args...), Line: line}
}

// sentence is an error for the one who wrote the command; it is shown as it is,
// so it begins and ends like a sentence.
type sentence string

func (s sentence) Error() string { return string(s) }

// parse turns a content into nodes.
func parse(content []byte, format Format) (*node, error) { return parseUpTo(maxSize, content, format) }

func parseUpTo(limit int, content []byte, format Format) (*node, error) {
	if len(content) > limit {
		return nil, &Error{Code: CodeMaxSizeExceeded, Message: fmt.Sprintf("The document has %d bytes; the limit is %d.", len(content), limit)}
	}
	if name := byteOrderMark(content, format); name != "" {
		return nil, &Error{Code: CodeInvalidContent, Message: fmt.Sprintf("The document begins with a byte order mark (%s): write it in UTF-8 without one.", name), Line: 1, Column: 1}
	}
	switch format {
	case JSON, "":
		root, err := parseJSON(content)
		if err != nil && !bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) {
			if other, problem := parseYAML(content); problem == nil && other.kind == '{' {
				return nil, &Error{Code: CodeInvalidContent, Message: "JSON not well-formed: the content looks like YAML. Say so by the document's format.", Line: 1, Column: 1}
			}
		}
		return root, err
	case YAML:
		return parseYAML(content)
	}
	return nil, &Error{Code: CodeInvalidContent, Message: fmt.Sprintf("A document of this type cannot be written as %s: write JSON or YAML.", format)}
}

// byteOrderMark names the mark that a content begins with, "" where that is none or
// the format allows it: editors put it there, and nobody sees it.
func byteOrderMark(content []byte, format Format) string {
	switch {
	case bytes.HasPrefix(content, []byte("\xef\xbb\xbf")) && format != YAML:
		return "U+FEFF, as UTF-8 with BOM"
	case bytes.HasPrefix(content, []byte("\xff\xfe")), bytes.HasPrefix(content, []byte("\xfe\xff")):
		return "of UTF-16"
	}
	return ""
}
