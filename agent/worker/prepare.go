package worker

import (
	"encoding/json"
	"fmt"
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

// prepare makes tasks of a job's document and parameters. It is pure: the same
// job gives the same tasks after a restart.
func prepare(job *peer.Job) ([]executor.Task, error) {
	document, err := executor.ParseDocument(job.Document)
	if err != nil {
		return nil, fmt.Errorf("the document %s cannot be run: %w", job.DocumentName, err)
	}
	tasks, err := document.Resolve(job.Parameters, platform)
	if err != nil {
		return nil, fmt.Errorf("the document %s cannot be run with these parameters: %w", job.DocumentName, err)
	}
	return tasks, nil
}
