package document

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// validateOther checks what is stored and not run by this program's language: it
// parses, and is a map.
func validateOther(root *node, docType string) (*Summary, error) {
	if docType == typeSchema {
		if err := jsonSchema(root, ""); err != nil {
			return nil, err
		}
		return &Summary{}, nil
	}
	if root.kind != '{' && docType != typeConfiguration {
		return nil, root.errorf("The document is not an object.")
	}
	if docType == typeCloudFormation && (root.field("schemaVersion") == nil || root.field("templateBody") == nil) {
		return nil, root.errorf(`[message: "object has missing required properties (["schemaVersion","templateBody"])" - parent node: /]`)
	}
	s := &Summary{}
	for name, target := range map[string]*string{"schemaVersion": &s.SchemaVersion, "description": &s.Description} {
		if f := root.field(name); f != nil && f.kind == '"' {
			*target = f.text
		}
	}
	return s, nil
}

// schemaTypes are the types of JSON Schema.
var schemaTypes = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

// jsonSchema checks the form of a JSON Schema: what its best-known words hold.
func jsonSchema(n *node, path string) error {
	wrong := func(f *node, name, what string) error {
		return f.errorf("The document is no JSON Schema: %q should be %s at %s.", name, what, cmp.Or(path, "the top"))
	}
	if n.kind == 't' || n.kind == 'f' {
		return nil
	}
	if n.kind != '{' {
		return n.errorf("The document is no JSON Schema: it should be an object at %s.", cmp.Or(path, "the top"))
	}
	for _, f := range n.fields {
		below := strings.TrimPrefix(path+"."+f.name, ".")
		switch f.name {
		case "$schema", "$id", "$ref", "title", "description", "pattern":
			if f.value.kind != '"' {
				return wrong(f.value, f.name, "a string")
			}
		case "type":
			types := []*node{f.value}
			if f.value.kind == '[' {
				types = f.value.items
			}
			for _, t := range types {
				if t.kind != '"' || !slices.Contains(schemaTypes, t.text) {
					return wrong(t, "type", "one of "+strings.Join(schemaTypes, ", "))
				}
			}
		case "required":
			if f.value.kind != '[' || slices.ContainsFunc(f.value.items, func(i *node) bool { return i.kind != '"' }) {
				return wrong(f.value, f.name, "a list of strings")
			}
		case "properties", "patternProperties", "definitions", "$defs":
			if f.value.kind != '{' {
				return wrong(f.value, f.name, "a map of schemas")
			}
			for _, property := range f.value.fields {
				if err := jsonSchema(property.value, below+"."+property.name); err != nil {
					return err
				}
			}
		case "allOf", "anyOf", "oneOf":
			if f.value.kind != '[' || len(f.value.items) == 0 {
				return wrong(f.value, f.name, "a list of schemas")
			}
			for _, item := range f.value.items {
				if err := jsonSchema(item, below); err != nil {
					return err
				}
			}
		case "not", "additionalProperties", "propertyNames", "contains":
			if err := jsonSchema(f.value, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// validateText checks documents that are no maps: a calendar in iCalendar's form,
// or a configuration.
func validateText(content []byte, format Format, docType string) (*Summary, error) {
	refuse := func(line int, message string, args ...any) (*Summary, error) {
		return nil, &Error{Code: CodeInvalidContent, Message: fmt.Sprintf(message, args...), Line: line, Column: min(line, 1)}
	}
	switch {
	case len(content) > maxSize:
		return nil, &Error{Code: CodeMaxSizeExceeded, Message: fmt.Sprintf("The document has %d bytes; the limit is %d.", len(content), maxSize)}
	case format != TEXT:
		return refuse(0, "A %s document is written as TEXT, not as %s.", docType, format)
	case !utf8.Valid(content):
		return refuse(0, "The document is not UTF-8.")
	case docType != typeCalendar:
		return &Summary{}, nil
	}
	var open []string
	calendar := ""
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	for i, raw := range lines {
		line := strings.TrimRight(string(raw), "\r")
		name, value, isProperty := strings.Cut(line, ":")
		switch {
		case line == "" || line[0] == ' ' || line[0] == '\t': // folded
		case !isProperty:
			return refuse(i+1, "The calendar is no iCalendar text: the line has no colon.")
		case i == 0 && !strings.EqualFold(line, "BEGIN:VCALENDAR"):
			return refuse(1, "The calendar does not begin with BEGIN:VCALENDAR.")
		case strings.EqualFold(name, "BEGIN"):
			open = append(open, strings.ToUpper(value))
		case strings.EqualFold(name, "END"):
			if len(open) == 0 || open[len(open)-1] != strings.ToUpper(value) {
				return refuse(i+1, "The calendar ends %s, which is not open.", value)
			}
			if open = open[:len(open)-1]; len(open) == 0 && i+1 < len(lines) {
				return refuse(i+2, "Something follows the end of the calendar.")
			}
		case strings.EqualFold(name, "X-CALENDAR-TYPE"):
			calendar = value
		}
	}
	switch {
	case len(open) > 0 || len(lines) < 2:
		return refuse(len(lines), "The calendar does not end with END:VCALENDAR.")
	case calendar != "DEFAULT_OPEN" && calendar != "DEFAULT_CLOSED":
		return refuse(0, "The calendar needs X-CALENDAR-TYPE, DEFAULT_OPEN or DEFAULT_CLOSED.")
	}
	return &Summary{}, nil
}
