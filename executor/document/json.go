package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonReader makes nodes of JSON.
type jsonReader struct {
	content []byte
	decoder *jsontext.Decoder
	// The place up to which the text is counted: nodes come in its order.
	offset, line, column int
}

func parseJSON(content []byte) (*node, error) {
	r := &jsonReader{content: content, decoder: jsontext.NewDecoder(bytes.NewReader(content)), line: 1, column: 1}
	root, err := r.next(0)
	if err == nil {
		if _, err = r.decoder.ReadToken(); errors.Is(err, io.EOF) {
			return root, nil
		}
		err = r.errorAt(int(r.decoder.InputOffset()), "JSON not well-formed: something follows the document.")
	}
	var refusal *Error
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &refusal):
		return nil, refusal
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return nil, r.errorAt(int(syntactic.ByteOffset), "Duplicate key %q.", syntactic.JSONPointer.LastToken())
	case errors.As(err, &syntactic):
		return nil, r.errorAt(int(syntactic.ByteOffset), "JSON not well-formed.")
	}
	return nil, r.errorAt(len(content), "JSON not well-formed.")
}

// errorAt may go back in the text.
func (r *jsonReader) errorAt(offset int, format string, args ...any) error {
	before := r.content[:min(offset, len(r.content))]
	return &Error{
		Code: CodeInvalidContent, Message: fmt.Sprintf(format, args...),
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
	}
}

// place returns the line and column of an offset; offsets never go down.
func (r *jsonReader) place(offset int) (line, column int) {
	for ; r.offset < offset; r.offset++ {
		switch c := r.content[r.offset]; {
		case c == '\n':
			r.line++
			r.column = 1
		case utf8.RuneStart(c):
			r.column++
		}
	}
	return r.line, r.column
}

func (r *jsonReader) next(depth int) (*node, error) {
	offset := int(r.decoder.InputOffset())
	for offset < len(r.content) && bytes.IndexByte([]byte(" \t\r\n:,"), r.content[offset]) >= 0 {
		offset++
	}
	token, err := r.decoder.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &node{kind: token.Kind()}
	n.line, n.column = r.place(offset)
	if n.kind == '0' || n.kind == '"' {
		n.text = token.String()
	}
	if n.kind != '[' && n.kind != '{' {
		return n, nil
	}
	if depth >= maxDepth {
		return nil, n.errorf("The document nests deeper than %d levels.", maxDepth)
	}
	for r.decoder.PeekKind() != ']' && r.decoder.PeekKind() != '}' {
		name := ""
		if n.kind == '{' {
			token, err := r.decoder.ReadToken()
			if err != nil {
				return nil, err
			}
			name = token.String()
		}
		value, err := r.next(depth + 1)
		if err != nil {
			return nil, err
		}
		if n.kind == '{' {
			n.fields = append(n.fields, namedNode{name: name, value: value})
		} else {
			n.items = append(n.items, value)
		}
	}
	_, err = r.decoder.ReadToken()
	return n, err
}

// writeJSON writes the node with two blanks for each level.
func writeJSON(n *node) ([]byte, error) {
	var out bytes.Buffer
	encoder := jsontext.NewEncoder(&out, jsontext.WithIndent("  "), jsontext.EscapeForHTML(false))
	if err := encodeJSON(encoder, n); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func encodeJSON(encoder *jsontext.Encoder, n *node) error {
	switch n.kind {
	case 'n':
		return encoder.WriteToken(jsontext.Null)
	case 't', 'f':
		return encoder.WriteToken(jsontext.Bool(n.kind == 't'))
	case '0':
		return encoder.WriteValue(jsontext.Value(n.text))
	case '"':
		return encoder.WriteToken(jsontext.String(n.text))
	case '[':
		if err := encoder.WriteToken(jsontext.BeginArray); err != nil {
			return err
		}
		for _, item := range n.items {
			if err := encodeJSON(encoder, item); err != nil {
				return err
			}
		}
		return encoder.WriteToken(jsontext.EndArray)
	}
	if err := encoder.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, f := range n.fields {
		if err := encoder.WriteToken(jsontext.String(f.name)); err != nil {
			return err
		}
		if err := encodeJSON(encoder, f.value); err != nil {
			return err
		}
	}
	return encoder.WriteToken(jsontext.EndObject)
}
