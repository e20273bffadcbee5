package leader

import (
	"strconv"
	"strings"

	"fleetmesh/raftstore"
)

const (
	defaultMaxConcurrency = 50
	defaultMaxErrors      = 0
)

// maxConcurrency is how many of total targets may be in flight: a number, or a
// percentage, rounded down so that it is never exceeded, but at least 1. What
// cannot be read is the careful 1; the API has refused it long before.
func maxConcurrency(spec *string, total int) int {
	if spec == nil || *spec == "" {
		return defaultMaxConcurrency
	}
	n, ok := bound(*spec, total)
	if !ok {
		return 1
	}
	return max(n, 1)
}

// maxErrors is how many errors are tolerated: starts end when there are more. A
// percentage is rounded down: 10% of 50 stops at the 6th error. What cannot be
// read is the careful 0.
func maxErrors(spec *string, total int) int {
	if spec == nil || *spec == "" {
		return defaultMaxErrors
	}
	n, ok := bound(*spec, total)
	if !ok {
		return 0
	}
	return n
}

func bound(spec string, total int) (int, bool) {
	digits, percent := strings.CutSuffix(spec, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || percent && n > 100 {
		return 0, false
	}
	if percent {
		n = n * total / 100
	}
	return n, true
}

// nextBatch returns which of the pending nodes to start now, in their order:
// those that answer, as many as MaxConcurrency leaves free, and at most most. Once the errors are
// over the threshold or the command is being cancelled it is none, ever.
func nextBatch(state raftstore.CommandState, pending []string, most int, answers func(nodeID string) bool) []string {
	if overThreshold(state) || state.Cancelling {
		return nil
	}
	free := min(most, state.MaxConcurrency-state.InFlight)
	var batch []string
	for _, id := range pending {
		if len(batch) >= free {
			break
		}
		if answers(id) {
			batch = append(batch, id)
		}
	}
	return batch
}

// rampUp is how many invocations may start now so that a command grows slowly: one
// at first, and with each that is heard of two more. started counts the ones that
// were ever dispatched, heard those of them that have reported or ended.
func rampUp(started, heard int) int { return 2*heard + 1 - started }

// overThreshold reports whether the command has had more errors than it may.
func overThreshold(state raftstore.CommandState) bool {
	return state.Stopped || state.ErrorCount > state.MaxErrors
}
