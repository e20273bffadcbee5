package worker

import (
	"fmt"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

// platform is this program's, in SSM's words; documents may have preconditions
// on it.
const platform = "Linux"

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
