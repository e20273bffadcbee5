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
	// stdout and stderr are the sizes in bytes, once it has ended. told and toldStderr
	// are what its result has instead, where nothing was written: why it was skipped
	// or refused.
	stdout, stderr   int64
	told, toldStderr string
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
		result := &entry.Steps[index]
		step.stdout, step.stderr = result.StdoutBytes, result.StderrBytes
		step.told, step.toldStderr = result.Stdout, result.Stderr
	}
	return step, nil
}

func readOutput(step outputStep, in *peer.OutputRequest) (*peer.OutputResponse, error) {
	name, expected, told := "stdout", step.stdout, step.told
	if in.Stderr {
		name, expected, told = "stderr", step.stderr, step.toldStderr
	}
	file, err := os.Open(filepath.Join(step.dir, name))
	if errors.Is(err, fs.ErrNotExist) || step.dir == "" {
		if expected > 0 {
			return nil, &peer.Refusal{Kind: peer.RefusedInput, Message: fmt.Sprintf("the output of command %s is no longer kept on this node", in.CommandID)}
		}
		// Size stays 0: the node forgets these words once the mesh has them.
		rest := told[min(in.Offset, int64(len(told))):]
		rest = rest[:min(readLimit(in), int64(len(rest)))]
		return &peer.OutputResponse{Data: []byte(rest), Ended: step.ended && in.Offset+int64(len(rest)) >= int64(len(told))}, nil
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
	if limit := min(readLimit(in), out.Size-in.Offset); limit > 0 {
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

func readLimit(in *peer.OutputRequest) int64 {
	if in.Limit > 0 {
		return min(int64(in.Limit), maxOutputRead)
	}
	return maxOutputRead
}
