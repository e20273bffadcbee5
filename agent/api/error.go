package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/smithy-go"
)

// Names of errors that more than one noun has. What an SSM operation lists in its
// model is used where it fits; a client can tell them all.
const (
	codeAccessDenied  = "AccessDeniedException"
	codeInternal      = "InternalServerError"
	codeThrottled     = "ThrottlingException"
	codeTooLarge      = "RequestEntityTooLarge"
	codeUnavailable   = "ServiceUnavailable"
	codeUnknown       = "UnknownOperationException"
	codeValidation    = "ValidationException"
	codeSerialization = "SerializationException"

	codeInvalidInstance   = "InvalidInstanceId"
	codeDuplicateInstance = "DuplicateInstanceId"
	codeInvalidFilterKey  = "InvalidFilterKey"
	codeInvalidNextToken  = "InvalidNextToken"
	codeInvalidDocument   = "InvalidDocument"
	codeInvalidCommand    = "InvalidCommandId"
	codeInvalidParameters = "InvalidParameters"
	codeDocumentSize      = "MaxDocumentSizeExceeded"
)

// refuse is an error that the client is told, text and all. It had no effect.
func refuse(code, format string, args ...any) error {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...), Fault: smithy.FaultClient}
}

// errUnavailable: nobody leads. Nothing happened; a client may try again.
var errUnavailable = &smithy.GenericAPIError{
	Code:    codeUnavailable,
	Message: "The mesh has no leader at the moment: too few of its voters can reach each other. Nothing was done. `meshctl mesh status` on a node's local socket shows who is missing.",
	Fault:   smithy.FaultServer,
}

// errOutcome: the write may have happened or may yet. A repetition under the same
// invocation id, as SDKs make it, finds out and does nothing twice.
var errOutcome = &smithy.GenericAPIError{
	Code:    codeInternal,
	Message: "The outcome is unknown: the mesh changed its leader while it wrote. Look whether it happened before you ask again; a repetition with the same amz-sdk-invocation-id is safe.",
	Fault:   smithy.FaultServer,
}

// errCrowded: other writes were always faster. Nothing happened.
var errCrowded = refuse(codeThrottled, "Rate exceeded: many requests change the same thing at once. Nothing was done; try again.")

// errFull: others' large requests fill the memory that there is for them.
var errFull = refuse(codeThrottled, "Rate exceeded: this node has too many large requests at once. Nothing was done; try again, or ask another node.")

// signAgain is a refusal that a client should meet with a new signature. SDKs do
// so by themselves on its HTTP status, 503: the AWS CLI and boto3 sign by the
// second and leave the invocation id out, so that two equal requests of one second
// have one signature, and the second of them looks like a replay. Who replays a
// request cannot sign it.
type signAgain struct{ error }

func (e signAgain) Unwrap() error { return e.error }

// status is the HTTP status of an error's name.
func status(code string) int {
	switch code {
	case codeInternal:
		return http.StatusInternalServerError
	case codeUnavailable:
		return http.StatusServiceUnavailable
	case codeTooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// failure is an error's body. Old shapes of the model write the text with a
// capital M, new ones without; clients look for either.
type failure struct {
	Type  string `json:"__type"`
	Lower string `json:"message"`
	Upper string `json:"Message"`
}

// render turns an error into an answer. known is false for an error whose text
// is for the log only.
func render(err error) (code string, httpStatus int, body []byte, known bool) {
	var refused smithy.APIError
	text := "An error occurred on the server side. The node's log has the reason under this request id."
	code = codeInternal
	if known = errors.As(err, &refused); known {
		code, text = refused.ErrorCode(), refused.ErrorMessage()
	}
	httpStatus = status(code)
	if again := (signAgain{}); errors.As(err, &again) {
		httpStatus = http.StatusServiceUnavailable
	}
	body, err = json.Marshal(failure{Type: code, Lower: text, Upper: text})
	if err != nil {
		body = []byte(`{"__type":"` + codeInternal + `"}`) // three strings can always be encoded
	}
	return code, httpStatus, body, known
}

// isCode reports whether an error is a refusal with this name.
func isCode(err error, code string) bool {
	var refused smithy.APIError
	return errors.As(err, &refused) && refused.ErrorCode() == code
}
