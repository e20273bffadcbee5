package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/aws/smithy-go"

	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

// maxRecord bounds what a command takes in one transaction (raftstore.MaxTxnSize),
// in bytes: the request, which is kept and answered, its document, and those that
// it runs.
const maxRecord = 224 << 10

// nestedDocuments are the documents that a command leads to by steps of
// aws:runDocument. One that is not there fails its step, as in SSM, and not the
// command.
func (c *call) nestedDocuments(source *oneDocument, document *executor.Document, parameters map[string][]string) (map[string]raftstore.NestedDocument, error) {
	tasks, err := document.Resolve(parameters, nodePlatform)
	if err != nil {
		return nil, refuse(codeInvalidParameters, "%s", err)
	}
	found, err := executor.NestedDocuments(source.reference(), tasks, nodePlatform, c.nestedDocument)
	if errors.Is(err, executor.ErrNesting) {
		return nil, refuse(codeInvalidDocument, "The document %s cannot be run: %s.", source.head.Name, err)
	}
	if err != nil || len(found) == 0 {
		return nil, err
	}
	nested := make(map[string]raftstore.NestedDocument, len(found))
	for name, d := range found {
		nested[name] = raftstore.NestedDocument{Name: d.Name, Content: d.Content, Problem: d.Problem}
	}
	return nested, nil
}

// nodePlatform is that of every node, in SSM's words.
const nodePlatform = "Linux"

func (d *oneDocument) reference() string { return d.head.Name + ":" + *d.number() }

// nestedDocument finds a document by documentPath: NAME, NAME:VERSION or an ARN
// with one of them.
func (c *call) nestedDocument(documentPath string) (executor.Nested, error) {
	name, version, _ := strings.Cut(path.Base(documentPath), ":")
	source, err := c.findDocument(name, version, "")
	var content json.RawMessage
	if err == nil {
		content, _, err = source.command()
	}
	var refused *smithy.GenericAPIError
	switch {
	case err == nil:
		return executor.Nested{Name: source.reference(), Content: content}, nil
	case errors.As(err, &refused) && status(refused.Code) == http.StatusBadRequest:
		return executor.Nested{Name: documentPath, Problem: fmt.Sprintf("the document %s could not be had when the command was made: %s", documentPath, refused.Message)}, nil
	}
	return executor.Nested{}, err
}

func checkRecordSize(body, document []byte, nested map[string]raftstore.NestedDocument) error {
	size := 2*len(body) + len(document)
	for name, d := range nested {
		size += len(name) + len(d.Content) + len(d.Problem)
	}
	if len(nested) > 0 && size > maxRecord {
		return refuse(codeDocumentSize, "The document, those that it runs and the parameters come to %d bytes; the limit is %d.", size, maxRecord)
	}
	return nil
}
