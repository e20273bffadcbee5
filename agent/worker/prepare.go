package worker

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

// platform is this program's, in SSM's words; documents may have preconditions
// on it.
const platform = "Linux"

// nested are the documents that came with a job, for its steps that run them.
func nested(data json.RawMessage) map[string]executor.Nested {
	var job peer.Job
	if err := json.Unmarshal(data, &job); err != nil {
		return nil // it does not run: prepare cannot read it either
	}
	documents := make(map[string]executor.Nested, len(job.Nested))
	for path, d := range job.Nested {
		documents[path] = executor.Nested{Name: d.Name, Content: d.Content, Problem: d.Problem}
	}
	return documents
}

// startUntil is until when a job may start.
func startUntil(data json.RawMessage) time.Time {
	var job peer.Job
	if err := json.Unmarshal(data, &job); err != nil {
		return time.Time{} // it does not run: prepare cannot read it either
	}
	return job.StartUntil
}

// keptDocuments bounds documents.
const keptDocuments = 16

// documents keeps the documents of the newest jobs parsed: to parse one costs more
// than all else that is done to run a short script, and most jobs run the same few.
type documents struct {
	mu     sync.Mutex
	parsed map[string]*executor.Document // by content
	order  []string                      // oldest first
}

func (d *documents) parse(content []byte) (*executor.Document, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if document := d.parsed[string(content)]; document != nil {
		return document, nil
	}
	document, err := executor.ParseDocument(content)
	if err != nil {
		return nil, err
	}
	if len(d.order) == keptDocuments {
		delete(d.parsed, d.order[0])
		d.order = d.order[1:]
	}
	if d.parsed == nil {
		d.parsed = make(map[string]*executor.Document)
	}
	d.parsed[string(content)] = document
	d.order = append(d.order, string(content))
	return document, nil
}

// prepare makes tasks of a job's document and parameters: the same job gives the
// same tasks after a restart.
func (d *documents) prepare(job *peer.Job) ([]executor.Task, error) {
	document, err := d.parse(job.Document)
	if err != nil {
		return nil, fmt.Errorf("the document %s cannot be run: %w", job.DocumentName, err)
	}
	tasks, err := document.Resolve(job.Parameters, platform)
	if err != nil {
		return nil, fmt.Errorf("the document %s cannot be run with these parameters: %w", job.DocumentName, err)
	}
	return tasks, nil
}
