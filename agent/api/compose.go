package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

// ComposeCommand makes the records of a command that the leader itself sends, with
// all of SendCommand's checks on the moment r. refusal is what SendCommand would
// have answered, "" when the records are good to put (raftstore.Txn.PutNewCommand).
// The same id again is for the caller to prevent: putting a command twice fails.
func ComposeCommand(r raftstore.Reader, in *ssm.SendCommandInput, id, caller string, now time.Time) (command raftstore.Command, state raftstore.CommandState, refusal string, err error) {
	command, state, err = composeCommand(r, in, id, caller, now)
	var refused smithy.APIError
	if errors.As(err, &refused) && status(refused.ErrorCode()) == http.StatusBadRequest {
		return raftstore.Command{}, raftstore.CommandState{}, refused.ErrorMessage(), nil
	}
	return command, state, "", err
}

func composeCommand(r raftstore.Reader, in *ssm.SendCommandInput, id, name string, now time.Time) (raftstore.Command, raftstore.CommandState, error) {
	body, err := awsjson.Marshal(in)
	if err != nil {
		return raftstore.Command{}, raftstore.CommandState{}, err
	}
	if err := awsjson.Validate("SendCommand", body); err != nil {
		return raftstore.Command{}, raftstore.CommandState{}, err
	}
	c := &call{Reader: r, in: &peer.ForwardRequest{Body: body}, now: now, who: caller{name: name, administrator: true}}
	return c.composeCommand(in, id)
}

// composeCommand checks all that can be known of a command before its dispatch, and
// makes its records. c.in.Body is the wire form of in.
func (c *call) composeCommand(in *ssm.SendCommandInput, id string) (raftstore.Command, raftstore.CommandState, error) {
	fail := func(err error) (raftstore.Command, raftstore.CommandState, error) {
		return raftstore.Command{}, raftstore.CommandState{}, err
	}
	if err := checkUnsupported(in); err != nil {
		return fail(err)
	}
	source, err := c.findDocument(aws.ToString(in.DocumentName), aws.ToString(in.DocumentVersion), "")
	if err != nil {
		return fail(err)
	}
	if err := checkDocumentHash(in, source.content); err != nil {
		return fail(err)
	}
	content, document, err := source.command()
	if err != nil {
		return fail(err)
	}
	if len(c.in.Body) > maxSendBody {
		return fail(refuse(codeDocumentSize, "The request has %d bytes; the limit is %d.", len(c.in.Body), maxSendBody))
	}
	if size := commandSize(source.content, in.Parameters); size > maxDocumentSize {
		return fail(refuse(codeDocumentSize, "The document and its parameters have %d bytes; the limit is %d.", size, maxDocumentSize))
	}
	if err := document.CheckParameters(in.Parameters); err != nil {
		return fail(refuse(codeInvalidParameters, "%s", err))
	}
	if err := c.checkNodes(in, document.Platforms()); err != nil {
		return fail(err)
	}
	nested, err := c.nestedDocuments(source, document, in.Parameters)
	if err != nil {
		return fail(err)
	}
	if err := checkRecordSize(c.in.Body, content, nested); err != nil {
		return fail(err)
	}
	meshRecord, err := c.readMesh()
	if err != nil {
		return fail(err)
	}
	delivery := time.Duration(aws.ToInt32(in.TimeoutSeconds)) * time.Second
	if delivery == 0 {
		delivery = defaultDelivery * time.Second
	}
	command := raftstore.Command{
		ID: id, Input: c.in.Body,
		DocumentName: source.head.Name, DocumentVersion: *source.number(), Document: content, Nested: nested,
		Caller: c.who.name, RequestedAt: c.now,
		DeliverUntil: c.now.Add(delivery),
		ExpiresAt:    c.now.Add(delivery + executor.ExecutionTimeout(document, in.Parameters)),
		Epoch:        meshRecord.Epoch,
	}
	state := raftstore.CommandState{ID: command.ID, Status: string(types.CommandStatusPending), StatusDetails: string(types.CommandStatusPending)}
	return command, state, nil
}
