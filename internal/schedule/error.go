package schedule

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrInvalid is what every refusal of this package is: of an expression, a time
// zone, an offset or a date.
var ErrInvalid = errors.New("invalid schedule")

// SyntaxError is an expression that cannot be read, and the place.
type SyntaxError struct {
	// Expression is the whole of it, as it was given.
	Expression string
	// Offset is the byte of the expression at which the fault begins; it is the
	// expression's length where something is missing at its end.
	Offset int
	// Field names the part of the expression, such as "day of week".
	Field string
	// Value is the faulty text, which begins at Offset; it is empty where something
	// is missing.
	Value string
	// Reason says what is wrong, or what is allowed.
	Reason string
}

func (e *SyntaxError) Error() string {
	what := e.Field
	if e.Value != "" {
		what = fmt.Sprintf("%s %q", e.Field, e.Value)
	}
	return fmt.Sprintf("invalid schedule: %s at character %d: %s", what, e.Column()+1, e.Reason)
}

// Column is the number of characters before Offset.
func (e *SyntaxError) Column() int { return utf8.RuneCountInString(e.Expression[:e.Offset]) }

func (e *SyntaxError) Is(target error) bool { return target == ErrInvalid }
