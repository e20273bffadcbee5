package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// The exit codes. Scripts rely on them: none is ever reused.
const (
	exitDone        = 0
	exitRefused     = 1
	exitUsage       = 2
	exitNotAll      = 3
	exitUnreachable = 4
	exitInterrupted = 130
)

// exitMeaning documents the exit codes in each command's help.
var exitMeaning = []struct {
	code int
	text string
}{
	{exitDone, "done, everywhere"},
	{exitRefused, "refused or failed; the SSM error name and what to do are on stderr"},
	{exitUsage, "wrong usage or configuration, or not in this version"},
	{exitNotAll, "it ran, but not with success on every target"},
	{exitUnreachable, "no node could be reached, or the mesh has no leader"},
	{exitInterrupted, "interrupted"},
}

// usageError is wrong usage; path is the command whose help tells more.
type usageError struct {
	message string
	path    string
}

func (e *usageError) Error() string { return e.message }

func usagef(format string, arguments ...any) error {
	return &usageError{message: fmt.Sprintf(format, arguments...)}
}

// outcome ends a command with a code of its own; its message is talk.
type outcome struct {
	exit    int
	code    string
	message string
	hint    string
}

func (e *outcome) Error() string { return e.message }

// unreachableError says that no endpoint could be connected to: nothing was sent.
type unreachableError struct{ tries []error }

func (e *unreachableError) Error() string {
	texts := make([]string, len(e.tries))
	for i, err := range e.tries {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e *unreachableError) Unwrap() []error { return e.tries }

// failure is an error as the user sees it.
type failure struct {
	Code    string
	Message string
	Hint    string `json:",omitempty"`
	Exit    int    `json:"ExitCode"`
}

// hints say what to do about the errors whose own message cannot know meshctl.
var hints = map[string]string{
	"InvalidInstanceId":                     "`meshctl node list` shows the nodes",
	"InvalidResourceId":                     "`meshctl node list` shows the nodes",
	"InvalidDocument":                       "`meshctl document list` shows the documents",
	"InvalidDocumentVersion":                "`meshctl document versions NAME` shows the versions",
	"InvalidDocumentContent":                "`meshctl document validate FILE` checks a file without a mesh",
	"InvalidCommandId":                      "`meshctl command list` shows the commands",
	"InvocationDoesNotExist":                "`meshctl command show ID` shows the nodes of a command",
	"InvalidPluginName":                     "choose a step with --step; `meshctl command show ID -o json` names them",
	"InvalidActivationId":                   "`meshctl activation list` shows the activations",
	"InvalidActivation":                     "`meshctl activation list` shows the activations",
	"UnrecognizedClientException":           "the access key of the configuration is not one of this mesh: is it from another mesh, or from before this one was made anew?",
	"InvalidSignatureException":             "check the secret key of the configuration and this machine's clock (at most 15 minutes off)",
	"MissingAuthenticationTokenException":   "give a configuration with an access key (--config)",
	"ServiceUnavailable":                    "as root on a node, `meshctl mesh status` tells what that node sees and what to do",
	"UnknownOperationException":             "the nodes are of another version than this meshctl",
	"ThrottlingException":                   "try again in a while",
	"InternalServerError":                   "the node's log tells more, under the request id",
	"TooManyUpdates":                        "someone else changed the same thing at the same moment; try again",
	"InvalidInstanceInformationFilterValue": "`meshctl node list` shows the nodes",
}

// explain turns an error into what the user sees and the exit code. interrupted
// is true when the process was told to end: then what failed, failed by that.
func explain(err error, interrupted bool) failure {
	var (
		usage       *usageError
		ended       *outcome
		refusal     smithy.APIError
		unreachable *unreachableError
		foreignCA   x509.UnknownAuthorityError
		wrongName   x509.HostnameError
		sending     *smithyhttp.RequestSendError
		network     *net.OpError
	)
	switch {
	case errors.As(err, &ended):
		return failure{Code: ended.code, Message: ended.message, Hint: ended.hint, Exit: ended.exit}
	case errors.As(err, &usage):
		return failure{Code: "Usage", Message: usage.message, Hint: usageHint(usage), Exit: exitUsage}
	case interrupted:
		return failure{Code: "Interrupted", Message: "interrupted", Exit: exitInterrupted}
	case errors.As(err, &refusal):
		f := failure{Code: refusal.ErrorCode(), Message: refusal.ErrorMessage(), Hint: hints[refusal.ErrorCode()], Exit: exitRefused}
		if f.Code == "ServiceUnavailable" {
			f.Exit = exitUnreachable
		}
		return f
	case errors.As(err, &foreignCA):
		return failure{Code: "Unreachable", Message: "no node of this mesh could be reached: " + reachText(err), Hint: "the certificate there is not of this configuration's mesh: is the configuration from another mesh, or from before this one was made anew?", Exit: exitUnreachable}
	case errors.As(err, &wrongName):
		return failure{Code: "Unreachable", Message: "no node could be reached under its name: " + reachText(err), Hint: "address nodes by their bind address or node name; certificates carry these", Exit: exitUnreachable}
	case errors.As(err, &unreachable):
		return failure{Code: "Unreachable", Message: "no node could be reached: " + reachText(err), Hint: "is meshd running there? --endpoint names another node", Exit: exitUnreachable}
	case errors.Is(err, context.DeadlineExceeded):
		return failure{Code: "Timeout", Message: "no answer in time; what was asked may still be done", Hint: "--timeout sets how long to wait", Exit: exitUnreachable}
	case errors.As(err, &sending), errors.As(err, &network):
		return failure{Code: "Unreachable", Message: "the connection broke before an answer came; what was asked may have been done: " + reachText(err), Exit: exitUnreachable}
	}
	return failure{Code: "Error", Message: err.Error(), Exit: exitRefused}
}

// reachText is the innermost part of an error that says where and why.
func reachText(err error) string {
	var unreachable *unreachableError
	if errors.As(err, &unreachable) {
		return unreachable.Error()
	}
	var sending *smithyhttp.RequestSendError
	if errors.As(err, &sending) {
		return sending.Err.Error()
	}
	return err.Error()
}

func usageHint(e *usageError) string {
	if e.path == "" {
		return ""
	}
	return fmt.Sprintf("`%s --help` tells how it is used", e.path)
}

// ownCodes are meshctl's own; people read the sentence alone.
var ownCodes = []string{"Usage", "NotInThisVersion", "Unreachable", "NoLeader", "Timeout", "Error", "Declined", "Interrupted"}

// report tells a failure on stderr, as an object when the data is one as well.
func (a *app) report(f failure) {
	if f.Message == "" {
		f.Message = "refused, and no reason was given" // a failure is never silent
	}
	if a.output == "json" {
		object, err := json.Marshal(map[string]failure{"Error": f})
		if err == nil {
			fmt.Fprintf(a.err, "%s\n", object)
			return
		}
	}
	line := printable(f.Message, "\n")
	if !slices.Contains(ownCodes, f.Code) {
		line = f.Code + ": " + line
	}
	fmt.Fprintf(a.err, "%s %s\n", a.paint(a.errTerminal, red, "meshctl:"), line)
	if f.Hint != "" {
		fmt.Fprintf(a.err, "  %s\n", f.Hint)
	}
}
