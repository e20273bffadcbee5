package awsjson

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

const (
	// maxSize is the size of the largest JSON text that is read, in bytes; the
	// peers' and the API's own limits are not above it.
	maxSize = 4 << 20
	// maxDepth is how deep objects and arrays may nest. The model's own shapes
	// need less than 20, but for the aggregators, which contain themselves.
	maxDepth = 64
)

var (
	encoding = json.JoinOptions(
		json.WithMarshalers(json.JoinMarshalers(json.MarshalToFunc(marshalTime), json.MarshalToFunc(marshalStructure))),
		json.Deterministic(true),
		// What a script prints is not always UTF-8; what is not becomes U+FFFD.
		jsontext.AllowInvalidUTF8(true),
		// In meshapi "omitempty" is meant as everywhere in Go: a pointer to an empty
		// list is not empty.
		jsonv1.OmitEmptyWithLegacySemantics(true),
	)
	decoding = json.WithUnmarshalers(json.JoinUnmarshalers(
		json.UnmarshalFromFunc(unmarshalTime), json.UnmarshalFromFunc(unmarshalStructure)))
)

// Marshal returns the wire form of an input or output. The same value always
// gives the same bytes.
func Marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v, encoding)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return data, nil
}

// Unmarshal reads an input or output from its wire form into v, a pointer.
// Members that v has no field for are skipped, so that what a newer version wrote
// can be read. An error is a *smithy.GenericAPIError, SerializationException.
func Unmarshal(data []byte, v any) error {
	return unmarshal(data, v, decoding)
}

// UnmarshalStrict is Unmarshal, but a member that v has no field for is an error.
// It is for requests that Validate does not know: the Mesh operations.
func UnmarshalStrict(data []byte, v any) error {
	return unmarshal(data, v, json.JoinOptions(decoding, json.RejectUnknownMembers(true)))
}

func unmarshal(data []byte, v any, options json.Options) error {
	if err := checkBounds(data); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v, options); err != nil {
		return serializationError(err)
	}
	return nil
}

// checkBounds refuses what is too large or nests too deep, before anything is
// allocated for it. That it is JSON is for others to say.
func checkBounds(data []byte) error {
	if len(data) > maxSize {
		return serialization("the request is larger than %d bytes", maxSize)
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return serialization("the request nests deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
