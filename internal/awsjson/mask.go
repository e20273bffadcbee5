package awsjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// masked stands for a value that is not shown; it is what CloudTrail writes.
const masked = `"HIDDEN_DUE_TO_SECURITY_REASONS"`

// Mask returns the body of a request with the values hidden that the model marks
// as sensitive, and those of members that the model does not know. Of an unknown
// operation, or of a body that is no JSON object, nothing is shown.
func Mask(operation string, body []byte) json.RawMessage {
	input, ok := inputOf(operation)
	if !ok || checkBounds(body) != nil {
		return json.RawMessage(masked)
	}
	var out bytes.Buffer
	m := masking{dec: jsontext.NewDecoder(bytes.NewReader(body)), enc: jsontext.NewEncoder(&out)}
	if err := m.value(input); err != nil {
		return json.RawMessage(masked)
	}
	if _, err := m.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return json.RawMessage(masked)
	}
	return bytes.TrimSpace(out.Bytes())
}

type masking struct {
	dec *jsontext.Decoder
	enc *jsontext.Encoder
}

// value copies the next value. A nil shape, and a value of another kind than its
// shape, are hidden.
func (m masking) value(s *shape) error {
	got := m.dec.PeekKind()
	switch {
	case got == 'n':
	case s == nil || s.sensitive || !s.admits(got):
		if err := m.dec.SkipValue(); err != nil {
			return err
		}
		return m.enc.WriteValue(jsontext.Value(masked))
	case got == '{' || got == '[':
		return m.container(s)
	}
	value, err := m.dec.ReadValue()
	if err != nil {
		return err
	}
	return m.enc.WriteValue(value)
}

func (m masking) container(s *shape) error {
	begin, err := m.dec.ReadToken()
	if err != nil {
		return err
	}
	closing := jsontext.Kind('}')
	if begin.Kind() == '[' {
		closing = ']'
	}
	if err := m.enc.WriteToken(begin); err != nil {
		return err
	}
	for m.dec.PeekKind() != closing {
		var next *shape
		if s.kind != structure {
			next = &shapes[s.value]
		}
		if s.kind != list {
			name, err := m.dec.ReadToken()
			if err != nil {
				return err
			}
			if s.kind == structure {
				if at := s.member(name.String()); at >= 0 {
					next = &shapes[s.members[at].shape]
				}
			}
			if err := m.enc.WriteToken(name); err != nil {
				return err
			}
		}
		if err := m.value(next); err != nil {
			return err
		}
	}
	end, err := m.dec.ReadToken()
	if err != nil {
		return err
	}
	return m.enc.WriteToken(end)
}

// admits tells whether a JSON value of the kind can be one of the shape.
func (s *shape) admits(got jsontext.Kind) bool {
	switch s.kind {
	case structure, mapping:
		return got == '{'
	case list:
		return got == '['
	case boolean:
		return got == 't' || got == 'f'
	case integer, long, timestamp:
		return got == '0'
	default:
		return got == '"'
	}
}
