package awsjson

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/smithy-go"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxViolations is how many violations a message lists.
	maxViolations = 10
	// maxValueLength is how many characters of a value a message shows.
	maxValueLength = 120
)

// Validate checks the body of a request against the model: JSON, types, required
// members, lengths, ranges, patterns and enums, and that there is no member the
// model does not know. It returns ErrUnknownOperation, or a
// *smithy.GenericAPIError: SerializationException for what is not JSON or of a
// wrong type, else ValidationException, whose message lists what is wrong.
// Values of sensitive members are not in it.
func Validate(operation string, body []byte) error {
	input, ok := inputOf(operation)
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownOperation, shorten(operation, maxPathLength))
	}
	if err := checkBounds(body); err != nil {
		return err
	}
	c := &check{body: body, dec: jsontext.NewDecoder(bytes.NewReader(body)), operation: operation}
	if kind := c.dec.PeekKind(); kind != '{' && kind != 0 {
		return serialization("the request is not an object")
	}
	if err := c.value(input, false); err != nil {
		return serializationError(err)
	}
	if _, err := c.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return serialization("there is more than one value in the request")
	}
	return c.failure()
}

// check is one walk through a body.
type check struct {
	body       []byte
	dec        *jsontext.Decoder
	operation  string
	path       []byte // such as targets.1.member.key
	violations []string
	count      int // of all violations, also those that are not kept
}

func (c *check) failure() error {
	if c.count == 0 {
		return nil
	}
	plural := ""
	if c.count > 1 {
		plural = "s"
	}
	message := fmt.Sprintf("%d validation error%s detected: %s", c.count, plural, strings.Join(c.violations, "; "))
	if more := c.count - len(c.violations); more > 0 {
		message += fmt.Sprintf("; and %d more", more)
	}
	return &smithy.GenericAPIError{Code: "ValidationException", Message: message, Fault: smithy.FaultClient}
}

// violate notes a violation at the current path. value is what is shown, with
// its quotes.
func (c *check) violate(value, constraint string) {
	if c.count++; c.count > maxViolations {
		return
	}
	if value != "" {
		value += " "
	}
	c.violations = append(c.violations, fmt.Sprintf("Value %sat '%s' failed to satisfy constraint: %s",
		value, shorten(string(c.path), maxPathLength), constraint))
}

// enter appends to the path and returns what undoes it.
func (c *check) enter(segment string) (leave func()) {
	before := len(c.path)
	if before > 0 {
		c.path = append(c.path, '.')
	}
	c.path = append(c.path, segment...)
	return func() { c.path = c.path[:before] }
}

// camelCase is a member's name as the messages show it.
func camelCase(name string) string {
	return strings.ToLower(name[:1]) + name[1:]
}

func (c *check) mismatch(want string) error {
	return serialization("the value at %s is not %s", place(string(c.path)), want)
}

// value checks the next value, which is not null. hidden: it is part of something
// sensitive.
func (c *check) value(s *shape, hidden bool) error {
	hidden = hidden || s.sensitive
	switch s.kind {
	case structure:
		return c.structure(s, hidden)
	case list, mapping:
		return c.collection(s, hidden)
	}
	raw, err := c.dec.ReadValue()
	if err != nil {
		return err
	}
	switch s.kind {
	case text:
		if raw.Kind() != '"' {
			return c.mismatch("a string")
		}
		content, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return err
		}
		c.text(s, string(content), hidden)
	case boolean:
		if raw.Kind() != 't' && raw.Kind() != 'f' {
			return c.mismatch("true or false")
		}
	case integer, long:
		bits := 64
		if s.kind == integer {
			bits = 32
		}
		number, err := strconv.ParseInt(string(raw), 10, bits)
		if raw.Kind() != '0' || err != nil {
			return c.mismatch(fmt.Sprintf("a whole number of %d bits", bits))
		}
		c.bounds(s, number, "value", show(string(raw), hidden))
	case timestamp:
		if _, err := parseTime(raw); err != nil {
			return c.mismatch("a number of epoch seconds")
		}
	case blob:
		if raw.Kind() != '"' {
			return c.mismatch("a base64 string")
		}
		content, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return err
		}
		decoded, err := base64.StdEncoding.Strict().DecodeString(string(content))
		if err != nil || bytes.ContainsAny(content, "\r\n") {
			return c.mismatch("a base64 string")
		}
		c.bounds(s, int64(len(decoded)), "length", show(string(content), hidden))
	}
	return nil
}

func (c *check) text(s *shape, content string, hidden bool) {
	shown := show(content, hidden)
	c.bounds(s, int64(utf8.RuneCountInString(content)), "length", shown)
	if s.pattern > 0 && !matches(s.pattern, content) {
		c.violate(shown, "Member must satisfy regular expression pattern: "+patterns[s.pattern].source)
	}
	if len(s.enum) > 0 && !slices.Contains(s.enum, content) {
		c.violate(shown, "Member must satisfy enum value set: ["+strings.Join(s.enum, ", ")+"]")
	}
}

func matches(pattern int, content string) bool {
	expression := expressions()[pattern]
	return expression != nil && expression.MatchString(content)
}

func (c *check) bounds(s *shape, n int64, what, shown string) {
	if n < s.min {
		c.violate(shown, fmt.Sprintf("Member must have %s greater than or equal to %d", what, s.min))
	}
	if n > s.max {
		c.violate(shown, fmt.Sprintf("Member must have %s less than or equal to %d", what, s.max))
	}
}

// show quotes a value for a message, or hides it.
func show(value string, hidden bool) string {
	if hidden {
		return ""
	}
	return "'" + shorten(value, maxValueLength) + "'"
}

func (c *check) structure(s *shape, hidden bool) error {
	if c.dec.PeekKind() != '{' {
		return c.wrongKind("an object")
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	var seen uint64 // bits of the members that are there and not null
	given := 0
	for c.dec.PeekKind() != '}' {
		token, err := c.dec.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		at := s.member(name)
		if at < 0 {
			leave := c.enter(name)
			c.violate("", "Member is unknown to "+c.operation+suggestion(s, name))
			leave()
			if err := c.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if c.dec.PeekKind() == 'n' {
			if err := c.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		seen |= 1 << at
		given++
		leave := c.enter(camelCase(name))
		err = c.value(&shapes[s.members[at].shape], hidden)
		if err != nil {
			return err
		}
		leave()
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	for i, m := range s.members {
		if m.required && seen&(1<<i) == 0 {
			leave := c.enter(camelCase(m.name))
			c.violate("null", "Member must not be null")
			leave()
		}
	}
	if s.union && given != 1 {
		c.violate("", "Member must have exactly one of its members set")
	}
	return nil
}

// suggestion names the member that differs from name in case only.
func suggestion(s *shape, name string) string {
	for _, m := range s.members {
		if strings.EqualFold(m.name, name) {
			return ", which has " + m.name
		}
	}
	return ""
}

// wrongKind consumes the value, so that a syntax error in it comes first.
func (c *check) wrongKind(want string) error {
	if err := c.dec.SkipValue(); err != nil {
		return err
	}
	return c.mismatch(want)
}

// collection checks a list or a mapping.
func (c *check) collection(s *shape, hidden bool) error {
	open, closing, want := jsontext.Kind('['), jsontext.Kind(']'), "a list"
	if s.kind == mapping {
		open, closing, want = '{', '}', "an object"
	}
	if c.dec.PeekKind() != open {
		return c.wrongKind(want)
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	start := c.dec.InputOffset() - 1
	n := int64(0)
	for c.dec.PeekKind() != closing {
		n++
		segment := strconv.FormatInt(n, 10) + ".member"
		if s.kind == mapping {
			token, err := c.dec.ReadToken()
			if err != nil {
				return err
			}
			segment = token.String()
			leave := c.enter(segment)
			key := &shapes[s.key]
			c.text(key, segment, hidden || key.sensitive)
			leave()
		}
		leave := c.enter(segment)
		if c.dec.PeekKind() == 'n' {
			if err := c.dec.SkipValue(); err != nil {
				return err
			}
			c.violate("null", "Member must not be null")
		} else if err := c.value(&shapes[s.value], hidden); err != nil {
			return err
		}
		leave()
	}
	if _, err := c.dec.ReadToken(); err != nil {
		return err
	}
	if n < s.min || n > s.max {
		c.bounds(s, n, "length", show(string(c.body[start:c.dec.InputOffset()]), hidden || s.secret))
	}
	return nil
}
