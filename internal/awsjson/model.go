package awsjson

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
)

//go:generate go run ./gen

// unbounded stands for no limit in a shape's min (negated) and max.
const unbounded = math.MaxInt64

// kind is what a shape is on the wire.
type kind uint8

const (
	structure kind = iota
	list
	mapping
	text
	boolean
	integer // 32 bits
	long
	timestamp // epoch seconds
	blob      // base64
)

// shape is one type of the model. min and max bound a number's value, a text's
// characters, a blob's bytes, a list's elements or a mapping's entries.
type shape struct {
	kind     kind
	min, max int64
	pattern  int // index in patterns, 0 is none
	enum     []string
	members  []member
	key      int // index in shapes
	value    int // index in shapes, of list elements and mapping values
	union    bool
	// sensitive values are shown nowhere; secret shapes are sensitive or contain
	// what is.
	sensitive, secret bool
}

type member struct {
	name     string
	shape    int // index in shapes
	required bool
}

type operation struct {
	name  string
	input int // index in shapes
}

// pattern is an expression as the model has it and, where that is not RE2's
// language, as RE2 has it. It matches whole values.
type pattern struct {
	source, translation string
}

func (p pattern) compile() (*regexp.Regexp, error) {
	expression := p.source
	if p.translation != "" {
		expression = p.translation
	}
	return regexp.Compile(`\A(?:` + expression + `)\z`)
}

// expressions has the compiled patterns at the same indexes; a nil entry matches
// nothing (a test holds that all compile).
var expressions = sync.OnceValue(func() []*regexp.Regexp {
	compiled := make([]*regexp.Regexp, len(patterns))
	for i, p := range patterns {
		compiled[i], _ = p.compile()
	}
	return compiled
})

// Operations returns the names of all operations of Systems Manager, sorted.
func Operations() []string {
	names := make([]string, len(operations))
	for i, o := range operations {
		names[i] = o.name
	}
	return names
}

// inputOf returns the shape of the operation's input.
func inputOf(name string) (*shape, bool) {
	i, ok := slices.BinarySearchFunc(operations[:], name, func(o operation, name string) int {
		return strings.Compare(o.name, name)
	})
	if !ok {
		return nil, false
	}
	return &shapes[operations[i].input], true
}

// member returns the member's index, or -1.
func (s *shape) member(name string) int {
	return slices.IndexFunc(s.members, func(m member) bool { return m.name == name })
}
