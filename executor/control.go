package executor

import (
	"fmt"
	"strings"
)

// Words of SSM for the state of a step and of a job.
const (
	statusSuccess   = "Success"
	statusFailed    = "Failed"
	statusTimedOut  = "TimedOut"
	statusCancelled = "Cancelled"

	detailsExecutionTimedOut = "ExecutionTimedOut"
	detailsDeliveryTimedOut  = "DeliveryTimedOut"
)

// move is what a job does next.
type move int

const (
	moveRun    move = iota // execute the next step
	moveResult             // the next step has its result without being executed
	moveFinish             // every step has its result
)

// nextMove decides what comes after the results so far. Results of steps that
// are not executed carry no times.
func nextMove(tasks []Task, results []StepResult, cancelled, expired bool) (move, StepResult) {
	index := len(results)
	if index >= len(tasks) {
		return moveFinish, StepResult{}
	}
	task := tasks[index]
	result := StepResult{Name: task.Name, Status: statusSuccess, StatusDetails: statusSuccess}
	switch {
	case cancelled:
		result.Status, result.StatusDetails, result.ResponseCode = statusCancelled, statusCancelled, -1
		return moveResult, result
	case expired:
		result.Status, result.StatusDetails, result.ResponseCode = statusTimedOut, detailsExecutionTimedOut, -1
		result.Reason = "the command expired before this step"
		return moveResult, result
	case documentEnded(results) && !isFinally(tasks, index):
		result.Stdout = fmt.Sprintf("Plugin with name %s and id %s skipped due to prior step with an exit condition", task.Action, task.Name)
		return moveResult, result
	case task.Skip != "":
		result.Stdout = task.Skip
		return moveResult, result
	case task.Refuse != "":
		result.Status, result.StatusDetails, result.ResponseCode = statusFailed, statusFailed, 1
		result.Reason, result.Stderr = task.Refuse, task.Refuse+"\n"
		return moveResult, result
	}
	return moveRun, StepResult{}
}

func documentEnded(results []StepResult) bool {
	for _, r := range results {
		if r.EndsDocument {
			return true
		}
	}
	return false
}

// isFinally: finallyStep counts on the last step only.
func isFinally(tasks []Task, index int) bool {
	return index == len(tasks)-1 && strings.EqualFold(fmt.Sprint(tasks[index].Inputs["finallyStep"]), "true")
}

// control applies a step's onFailure and onSuccess to its result.
func control(task Task, outcome Outcome) StepResult {
	result := outcome.Result
	result.EndsDocument = outcome.EndsDocument
	onFailure, _ := task.Inputs["onFailure"].(string)
	onSuccess, _ := task.Inputs["onSuccess"].(string)
	switch {
	case result.Status == statusFailed && onFailure == "exit":
		result.EndsDocument = true
	case result.Status == statusFailed && onFailure == "successAndExit":
		result.Status, result.StatusDetails, result.ResponseCode = statusSuccess, statusSuccess, exitSuccessEnds
		result.EndsDocument = true
	case result.Status == statusSuccess && onSuccess == "exit":
		result.EndsDocument = true
	}
	return result
}

// aggregate says how a job ended whose steps all have results: the worst of
// Failed, TimedOut, Cancelled, Success, in this order, and the first reason that
// a step of that kind gives.
func aggregate(results []StepResult) (status, details, reason string) {
	for _, worst := range []string{statusFailed, statusTimedOut, statusCancelled} {
		found := false
		for _, r := range results {
			if r.Status == worst {
				if !found {
					status, details, found = r.Status, r.StatusDetails, true
				}
				if reason == "" {
					reason = r.Reason
				}
			}
		}
		if found {
			return status, details, reason
		}
	}
	for _, r := range results {
		if reason == "" {
			reason = r.Reason
		}
	}
	return statusSuccess, statusSuccess, reason
}
