package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
)

const (
	// maxOutputRead bounds what one answer has; on its way it is in the leader's
	// memory several times, encoded and decoded.
	maxOutputRead = 256 << 10
	// maxOutputWait is how long a call waits for output at most.
	maxOutputWait = 10 * time.Second
	// lookInterval is how often a waiting call looks where no event can be had.
	lookInterval = 100 * time.Millisecond
)

// Output reads a part of a step's output, also while the step runs.
func (w *Worker) Output(ctx context.Context, in *peer.OutputRequest) (*peer.OutputResponse, error) {
	if in.Offset < 0 || in.Limit < 0 {
		return nil, &peer.Refusal{Kind: peer.RefusedInput, Message: "offset and limit must not be negative"}
	}
	deadline := time.NewTimer(maxOutputWait)
	defer deadline.Stop()
	for {
		// What is waited for is named before looking, so that nothing is missed.
		w.mu.Lock()
		pulse := w.pulse
		w.mu.Unlock()
		step, err := w.outputStep(in.CommandID, in.Plugin)
		if err != nil {
			return nil, err
		}
		var written <-chan struct{}
		unsubscribe := func() {}
		if in.Wait && !step.ended {
			if written, unsubscribe, err = w.watcher.subscribe(step.dir); err != nil {
				unsubscribe = func() {}
			}
		}
		out, err := readOutput(step, in)
		if err != nil || !in.Wait || len(out.Data) > 0 || out.Ended {
			unsubscribe()
			return out, err
		}
		again := w.awaitOutput(ctx, pulse, written, deadline.C)
		unsubscribe()
		if !again {
			return out, nil
		}
	}
}

// awaitOutput waits for a reason to look again; false when the time is over.
func (w *Worker) awaitOutput(ctx context.Context, pulse, written <-chan struct{}, deadline <-chan time.Time) bool {
	var look <-chan time.Time
	if written == nil {
		timer := time.NewTimer(lookInterval)
		defer timer.Stop()
		look = timer.C
	}
	select {
	case <-pulse:
	case <-written:
	case <-look:
	case <-deadline:
		return false
	case <-ctx.Done():
		return false
	case <-w.ctx.Done():
		return false
	}
	return true
}

// outputStep is a step whose output is read.
type outputStep struct {
	dir   string
	ended bool
	// stdout and stderr are the sizes in bytes, once it has ended.
	stdout, stderr int64
}

// outputStep finds a step of a job that this node knows.
func (w *Worker) outputStep(id, name string) (outputStep, error) {
	entry := w.journal.Entry(id)
	if entry == nil {
		return outputStep{}, &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("node %s does not know command %s, or no longer", w.config.NodeID, id)}
	}
	names := make([]string, 0, len(entry.Steps))
	for _, step := range entry.Steps {
		names = append(names, step.Name)
	}
	if !entry.Finished() {
		var job peer.Job
		if err := json.Unmarshal(entry.Job, &job); err == nil {
			if tasks, err := w.documents.prepare(&job); err == nil {
				for i := len(names); i < len(tasks); i++ {
					names = append(names, tasks[i].Name)
				}
			}
		}
	}
	index := slices.Index(names, name)
	switch {
	case name == "" && len(names) == 1:
		index = 0
	case name == "" && len(names) == 0 && entry.Finished():
		return outputStep{ended: true}, nil // it ended before any step
	case name == "" && index < 0:
		return outputStep{}, &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("command %s has the steps %q; name one", id, names)}
	case index < 0:
		return outputStep{}, &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("command %s has no step %q, but %q", id, name, names)}
	}
	step := outputStep{dir: executor.StepDir(jobsDir(w.config.Dir), id, index, names[index]), ended: entry.Finished()}
	if index < len(entry.Steps) {
		step.ended = true
		step.stdout, step.stderr = entry.Steps[index].StdoutBytes, entry.Steps[index].StderrBytes
	}
	return step, nil
}

func readOutput(step outputStep, in *peer.OutputRequest) (*peer.OutputResponse, error) {
	name, expected := "stdout", step.stdout
	if in.Stderr {
		name, expected = "stderr", step.stderr
	}
	file, err := os.Open(filepath.Join(step.dir, name))
	if errors.Is(err, fs.ErrNotExist) || step.dir == "" {
		if expected > 0 {
			return nil, &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("the output of command %s is no longer kept on this node", in.CommandID)}
		}
		return &peer.OutputResponse{Ended: step.ended}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read output: %w", err)
	}
	out := &peer.OutputResponse{Size: info.Size()}
	limit := int64(maxOutputRead)
	if in.Limit > 0 {
		limit = min(limit, int64(in.Limit))
	}
	if limit = min(limit, out.Size-in.Offset); limit > 0 {
		out.Data = make([]byte, limit)
		n, err := file.ReadAt(out.Data, in.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read output: %w", err)
		}
		out.Data = out.Data[:n]
	}
	out.Ended = step.ended && in.Offset+int64(len(out.Data)) >= out.Size
	return out, nil
}
