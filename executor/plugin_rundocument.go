package executor

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	journal, err := openChild(x)
	if err != nil {
		return Outcome{Result: failedStep(x, err.Error())}, nil
	}
	defer journal.Close()
	if err := journal.Append(Record{Kind: RecordAccepted, JobID: x.JobID, At: x.Now().UTC(), Job: data, ExpiresAt: x.ExpiresAt}); err != nil {
		return Outcome{Result: failedStep(x, "the document is not run, because that could not be journaled: "+err.Error())}, nil
	}
	return runChild(ctx, x, journal, job)
}

func (runDocument) Resume(ctx context.Context, x *Execution) (Outcome, error) {
	journal, err := openChild(x)
	if err != nil {
		return Outcome{}, err
	}
	defer journal.Close()
	entry := journal.Entry(x.JobID)
	if entry == nil {
		result := failedStep(x, "interrupted: meshd ended before the document was begun; nothing of it ran and it is not run again")
		result.ResponseCode = -1
		return Outcome{Result: result, Interrupted: true}, nil
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

func openChild(x *Execution) (*Journal, error) {
	return OpenJournal(JournalConfig{Path: filepath.Join(x.Dir, "journal"), Log: x.runner.Log})
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
	below := &Runner{
		Journal: journal, Processes: x.Processes, Plugins: x.runner.Plugins, Dir: x.Dir, Facts: x.runner.Facts,
		Platform: x.runner.Platform, Nested: x.runner.Nested, Log: x.runner.Log, Now: x.Now, Changed: func(string) {},
		depth: x.depth, nesting: x.runner.nesting + 1, downloads: x.Downloads, job: x.job,
	}
	if err := below.Run(ctx, x.Cancelled, x.JobID, tasks, false); err != nil {
		return Outcome{}, err
	}
	entry := journal.Entry(x.JobID)
	result := StepResult{
		Name: x.Name, Status: entry.Status, StatusDetails: entry.StatusDetails, StartedAt: started, FinishedAt: x.Now().UTC(), Reason: entry.Reason,
	}
	if entry.Started() {
		result.StartedAt = entry.StartedAt
	}
	if entry.Status != statusSuccess {
		result.ResponseCode = 1
		result.Reason = cmp.Or(result.Reason, childFailure(job.Document, entry))
	}
	cut, err := joinOutputs(x, entry)
	switch {
	case err != nil:
		result.Reason = strings.TrimPrefix(result.Reason+"; its output could not be kept: "+err.Error(), "; ")
	case cut != "":
		result.Reason = strings.TrimPrefix(result.Reason+"; its output was truncated: "+cut, "; ")
	}
	if err := addOutputs(&result, x.Dir); err != nil {
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

// joinOutputs makes the step's outputs of those of the child's steps, in order,
// within the limits of any output. cut says why not all is there.
func joinOutputs(x *Execution, entry *Entry) (cut string, err error) {
	limit := x.Processes.outputLimit(x.JobID)
	for _, name := range []string{"stdout", "stderr"} {
		partial := filepath.Join(x.Dir, name+".new")
		if err := os.Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		out := &joinedOutput{stream: stream{path: partial, limit: limit, floor: x.Processes.config.FreeSpace, free: FreeBytes, ended: true}}
		for i, step := range entry.Steps {
			text := step.Stdout
			if name == "stderr" {
				text = step.Stderr
			}
			if err = out.add(filepath.Join(StepDir(x.Dir, x.JobID, i, step.Name), name), text); err != nil {
				break
			}
		}
		out.close()
		if err == nil {
			err = out.failure
		}
		if err == nil && out.file != nil {
			err = os.Rename(partial, filepath.Join(x.Dir, name))
		}
		if err != nil {
			return "", err
		}
		if out.cut != "" && cut == "" {
			cut = name + ": " + out.cut
		}
	}
	return cut, nil
}

type joinedOutput struct {
	stream
	last byte
}

// add adds a file, or where there is none, text. Each begins on a line of its own.
func (o *joinedOutput) add(path, text string) error {
	var from io.Reader = strings.NewReader(text)
	file, err := os.Open(path)
	if err == nil {
		defer file.Close()
		from = file
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	buffer := make([]byte, 64<<10)
	for first := true; o.cut == "" && o.failure == nil; {
		n, err := from.Read(buffer)
		if n > 0 {
			if first && o.size > 0 && o.last != '\n' {
				o.keep([]byte{'\n'})
			}
			first, o.last = false, buffer[n-1]
			o.keep(buffer[:n])
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
