package awsjson

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrUnknownOperation is returned when the model has no operation of the name.
var ErrUnknownOperation = errors.New("unknown operation")

// maxPathLength bounds what an error repeats of the caller's member names.
const maxPathLength = 200

// serializationError makes a SerializationException of what a decoder returned.
// It tells where, never what: the value may be a secret.
func serializationError(err error) error {
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	var own *smithy.GenericAPIError
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntactic):
		return serialization("the member %s is there twice", place(string(syntactic.JSONPointer)))
	case errors.As(err, &syntactic):
		return serialization("malformed JSON at byte %d", syntactic.ByteOffset)
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return serialization("the member %s is unknown", place(string(semantic.JSONPointer)))
	case errors.As(err, &semantic):
		return serialization("the value at %s has the wrong type or is out of range", place(string(semantic.JSONPointer)))
	default:
		return serialization("malformed JSON")
	}
}

func serialization(format string, args ...any) error {
	return &smithy.GenericAPIError{Code: "SerializationException", Message: fmt.Sprintf(format, args...), Fault: smithy.FaultClient}
}

// place shows a JSON pointer or a path within bounds.
func place(path string) string {
	if path == "" {
		return "the top"
	}
	return "'" + shorten(path, maxPathLength) + "'"
}

// shorten cuts s to at most limit characters.
func shorten(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	n := 0
	for i := range s {
		if n++; n > limit {
			return s[:i] + "…"
		}
	}
	return s
}
