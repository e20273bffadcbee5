package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxDocumentSize is SSM's limit for a document's content, in bytes.
	maxDocumentSize = 64 << 10
	// maxDocumentDepth is how deep lists and maps may nest in a document.
	maxDocumentDepth = 64
)

// node is a value in a document's text. Unlike a Go map it keeps the order of
// what is written, which is the order of parameters and plugins, and the place,
// which errors name.
type node struct {
	kind   jsontext.Kind // of JSON: n t f 0 " [ {
	offset int           // in the content, in bytes
	text   string        // of a string; of a number, as it is written
	items  []*node       // of a list
	fields []namedNode   // of a map; names are unique
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

// sentence is an error for the one who wrote the document or the command; it is
// shown as it is, so it begins and ends like a sentence.
type sentence string

func (s sentence) Error() string { return string(s) }

func sentencef(format string, args ...any) error { return sentence(fmt.Sprintf(format, args...)) }

// errorAt is a sentence with a place in the content.
func (content documentText) errorAt(offset int, format string, args ...any) error {
	before := content[:min(offset, len(content))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return sentencef("%s at Line: %d, Column: %d", fmt.Sprintf(format, args...), line, column)
}

// documentText is the content of a document while it is parsed.
type documentText []byte

// parseJSON turns the content into nodes.
func (content documentText) parseJSON() (*node, error) {
	if len(content) > maxDocumentSize {
		return nil, sentencef("The document has %d bytes; the limit is %d.", len(content), maxDocumentSize)
	}
	dec := jsontext.NewDecoder(bytes.NewReader(content))
	root, err := content.next(dec, 0)
	if err == nil {
		if _, err = dec.ReadToken(); errors.Is(err, io.EOF) {
			return root, nil
		}
		err = content.errorAt(int(dec.InputOffset()), "JSON not well-formed: something follows the document.")
	}
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return nil, content.errorAt(int(syntactic.ByteOffset), "Duplicate key %q.", syntactic.JSONPointer.LastToken())
	case errors.As(err, &syntactic):
		return nil, content.errorAt(int(syntactic.ByteOffset), "JSON not well-formed.")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, content.errorAt(len(content), "JSON not well-formed.")
	}
	return nil, err
}

func (content documentText) next(dec *jsontext.Decoder, depth int) (*node, error) {
	n := &node{offset: int(dec.InputOffset())}
	for n.offset < len(content) && bytes.IndexByte([]byte(" \t\r\n:,"), content[n.offset]) >= 0 {
		n.offset++
	}
	token, err := dec.ReadToken()
	if err != nil {
		return nil, err
	}
	n.kind = token.Kind()
	if n.kind == '0' || n.kind == '"' {
		n.text = token.String()
	}
	if n.kind != '[' && n.kind != '{' {
		return n, nil
	}
	if depth >= maxDocumentDepth {
		return nil, content.errorAt(n.offset, "The document nests deeper than %d levels.", maxDocumentDepth)
	}
	for dec.PeekKind() != ']' && dec.PeekKind() != '}' {
		if n.kind == '{' {
			name, err := dec.ReadToken()
			if err != nil {
				return nil, err
			}
			n.fields = append(n.fields, namedNode{name: name.String()})
		}
		value, err := content.next(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if n.kind == '{' {
			n.fields[len(n.fields)-1].value = value
		} else {
			n.items = append(n.items, value)
		}
	}
	_, err = dec.ReadToken()
	return n, err
}
