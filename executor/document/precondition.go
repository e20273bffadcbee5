package document

import (
	"fmt"
	"slices"
	"strings"
)

// precondition is that of a step: {"StringEquals": [a, b]}. A nil one is met.
// Others than these are kept, since SSM lets such a step fail when it is run.
type precondition struct {
	operator string
	args     []string
	odd      bool // it is not one StringEquals of two strings
}

const platformType = "platformType"

func (c *precondition) String() string {
	return fmt.Sprintf("%s: [%s]", c.operator, strings.Join(c.args, ", "))
}

// precondition reads a step's. where names the step.
func (c *checker) precondition(n *node, where string) (*precondition, error) {
	if n.kind != '{' {
		return nil, n.errorf(`"precondition" should be a map %s.`, where)
	}
	if err := c.references(n, where, "precondition"); err != nil {
		return nil, err
	}
	if err := new(Step).secrets(n, where, "precondition"); err != nil {
		return nil, err
	}
	read := &precondition{odd: len(n.fields) != 1}
	for _, f := range n.fields {
		read.operator = f.name
		read.odd = read.odd || f.name != "StringEquals" || f.value.kind != '[' || len(f.value.items) != 2
		for _, item := range f.value.items {
			read.odd = read.odd || item.kind != '"'
			read.args = append(read.args, item.text)
		}
	}
	if wanted, ok := read.platform(); ok && !reference.MatchString(wanted) && !slices.ContainsFunc(platformNames, func(name string) bool { return strings.EqualFold(name, wanted) }) {
		return nil, n.errorf("Invalid precondition, unrecognized values [platformType, %s] encountered. It is %s.", wanted, where)
	}
	return read, nil
}

// platform returns what platformType is compared with, where it is.
func (c *precondition) platform() (string, bool) {
	if c == nil || c.odd {
		return "", false
	}
	switch platformType {
	case c.args[0]:
		return c.args[1], true
	case c.args[1]:
		return c.args[0], true
	}
	return "", false
}

// evaluate tells whether the precondition is met. A problem is why it cannot be
// told; the step fails with it.
func (c *precondition) evaluate(d *Document, values map[string]any, platform string) (met bool, problem string) {
	if c == nil {
		return true, ""
	}
	unrecognized := fmt.Sprintf("Unrecognized precondition: %s.", c)
	switch {
	case d.SchemaVersion != "2.2":
		return false, fmt.Sprintf("Preconditions are not supported in schema version %s.", d.SchemaVersion)
	case c.odd, c.args[0] == c.args[1]:
		return false, unrecognized
	}
	if wanted, ok := c.platform(); ok {
		if reference.MatchString(wanted) {
			return false, "The platformType of a precondition cannot be given by a parameter."
		}
		return strings.EqualFold(wanted, platform), ""
	}
	if !reference.MatchString(c.args[0]) && !reference.MatchString(c.args[1]) {
		return false, unrecognized
	}
	r := &interpolation{values: values}
	a, b := textOf(r.text(c.args[0])), textOf(r.text(c.args[1]))
	if r.store != "" {
		return false, fmt.Sprintf("A precondition cannot use the Parameter Store: %s.", r.store)
	}
	return a == b, ""
}
