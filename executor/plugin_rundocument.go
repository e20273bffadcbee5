package executor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"fleetmesh/executor/document"
)

// runDocument is aws:runDocument: another document whose steps run as part of this
// one. It is a job of its own in the step's directory, with a journal of its own,
// so that each of its steps runs at most once as well.
type runDocument struct{}

// childJob is what the child's journal keeps of it: a file may have changed, or be
// gone, by the time it is resumed.
type childJob struct {
	Document   string
	Content    string
	YAML       bool `json:",omitempty"`
	Parameters map[string]any
}

func (runDocument) Run(ctx context.Context, x *Execution) (Outcome, error) {
	job, err := x.runner.childJob(x)
	if err != nil {
		return Outcome{Result: failedStep(x, err.Error())}, nil
	}
	data, err := json.Marshal(job)
	if err != nil {
		return Outcome{Result: failedStep(x, "the document cannot be kept: "+err.Error())}, nil
	}
	journal, err := beginInner(x, data)
	if err != nil {
		return Outcome{Result: failedStep(x, err.Error())}, nil
	}
	defer journal.Close()
	return runChild(ctx, x, journal, job)
}

func (d runDocument) Resume(ctx context.Context, x *Execution) (Outcome, error) {
	journal, entry, err := openInner(x)
	if err != nil {
		return Outcome{}, err
	}
	defer journal.Close()
	if entry == nil {
		if mayBeginInner(x) {
			journal.Close()
			return d.Run(ctx, x)
		}
		return neverBegun(x), nil
	}
	var job childJob
	if err := json.Unmarshal(entry.Job, &job); err != nil {
		return Outcome{Result: failedStep(x, "the document in the step's journal cannot be read: "+err.Error())}, nil
	}
	return runChild(ctx, x, journal, &job)
}

// childJob finds the document that a step names.
func (r *Runner) childJob(x *Execution) (*childJob, error) {
	child, problem := childOf(x.Inputs)
	if problem != "" {
		return nil, errors.New(problem)
	}
	if r.nesting >= maxNesting {
		//lint:ignore ST1005 the words of the agent of SSM
		return nil, fmt.Errorf("Maximum depth for document execution exceeded. Maximum depth permitted - %d and current depth - %d", maxNesting, r.nesting+1)
	}
	job := &childJob{Document: child.path, Parameters: child.parameters}
	if !child.local {
		nested, known := r.nested(x)[child.path]
		switch {
		case !known:
			return nil, fmt.Errorf("the document %s did not come with the command: a document from a file on the node cannot run documents of the mesh", child.path)
		case nested.Problem != "":
			return nil, errors.New(nested.Problem)
		}
		job.Document, job.Content = nested.Name, string(nested.Content)
		return job, nil
	}
	content, err := readLocal(child.path, x.Downloads)
	if err != nil {
		return nil, err
	}
	job.Content = string(content)
	job.YAML = !bytes.HasPrefix(bytes.TrimSpace(content), []byte("{"))
	return job, nil
}

// maxLocal bounds a document's file, in bytes.
const maxLocal = 512 << 10

// readLocal reads a document's file: at an absolute path, or below the downloads.
func readLocal(path, downloads string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		if !filepath.IsLocal(path) {
			return nil, fmt.Errorf("documentPath %q leads out of the downloads directory", path)
		}
		path = filepath.Join(downloads, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the document cannot be read: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the document %s is no file", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxLocal+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the document cannot be read: %w", err)
	case len(content) > maxLocal:
		return nil, fmt.Errorf("the document %s has more than %d bytes", path, maxLocal)
	case len(bytes.TrimSpace(content)) == 0:
		return nil, fmt.Errorf("the document %s is empty", path)
	}
	return content, nil
}

// runChild takes the child to its end, from wherever it is.
func runChild(ctx context.Context, x *Execution, journal *Journal, job *childJob) (Outcome, error) {
	started := x.Now().UTC()
	format := document.JSON
	if job.YAML {
		format = document.YAML
	}
	d, err := document.Parse([]byte(job.Content), format)
	if err != nil {
		return Outcome{Result: failedStep(x, fmt.Sprintf("the document %s cannot be run: %s", job.Document, err))}, nil
	}
	tasks, err := childTasks(d, job.Parameters, x.runner.Platform)
	if err != nil {
		return Outcome{Result: failedStep(x, fmt.Sprintf("the document %s cannot be run with these parameters: %s", job.Document, err))}, nil
	}
	entry, err := runInner(ctx, x, journal, tasks, &Runner{nesting: x.runner.nesting + 1})
	if err != nil {
		return Outcome{}, err
	}
	result := innerResult(x, entry, started)
	if entry.Status != statusSuccess {
		result.ResponseCode = 1
		result.Reason = cmp.Or(result.Reason, childFailure(job.Document, entry))
	}
	if err := innerOutputs(x, entry, &result); err != nil {
		return Outcome{}, err
	}
	return Outcome{Result: result, Interrupted: strings.HasPrefix(entry.Reason, interrupted)}, nil
}

// childFailure says which step made a document end as it did, where the step itself
// gives no reason but its exit code.
func childFailure(name string, entry *Entry) string {
	for _, step := range entry.Steps {
		if step.Status == entry.Status {
			return fmt.Sprintf("step %q of %s ended %s with exit code %d", step.Name, name, step.StatusDetails, step.ResponseCode)
		}
	}
	return ""
}
