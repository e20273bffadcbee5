package auth

import (
	"fmt"

	"github.com/aws/smithy-go"
)

// The names that SSM clients know.
const (
	codeMissing      = "MissingAuthenticationTokenException"
	codeIncomplete   = "IncompleteSignatureException"
	codeUnrecognized = "UnrecognizedClientException"
	codeInvalid      = "InvalidSignatureException"
)

// refusal is an error that the client is told, text and all.
func refusal(code, format string, args ...any) error {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...), Fault: smithy.FaultClient}
}

func incomplete(format string, args ...any) error { return refusal(codeIncomplete, format, args...) }

func invalid(format string, args ...any) error { return refusal(codeInvalid, format, args...) }

// AlreadyUsed refuses a request whose signature came before with another
// invocation id, or with none.
func AlreadyUsed() error {
	return invalid("The signature of this request was already used by another request. Sign each request anew; a client that repeats a request keeps its amz-sdk-invocation-id.")
}
