package executor

import (
	"context"
	"errors"
	"fmt"
)

// Rebooter starts the machine anew for steps that ask for it.
type Rebooter interface {
	// Prepare is called before a job's wish is made durable: from then on no other job
	// begins. withdraw takes it back, where the wish could not be written.
	Prepare(jobID string) (withdraw func())
	// Reboot has the machine started anew for a job whose wish is durable. Each
	// attempt it makes durable as well, before it is made. It returns ErrDetached
	// when ctx ends, as it does when the machine goes down; a sentence when the
	// machine will not be started anew; and "" when cancelled has ended or the job
	// has expired.
	Reboot(ctx, cancelled context.Context, jobID string) (refusal string, err error)
}

// maxReboots is how many boots one step may ask for, as in SSM's agent. A script
// that always asks would never let its machine come to rest.
const maxReboots = 15

// rebootMove is what comes for a step that waits for a boot.
type rebootMove int

const (
	rebootAsk   rebootMove = iota // the machine is still to be started anew
	rebootAgain                   // it was: run the step again
	rebootOver                    // the step has its result
)

// afterReboot decides for a step that waits for a boot, on the boot bootID. It
// does not matter how often the machine has booted since.
func afterReboot(e *Entry, bootID string, cancelled, expired bool) (rebootMove, StepResult) {
	result := StepResult{ResponseCode: exitReboot}
	switch {
	case cancelled:
		result.Status, result.StatusDetails = statusCancelled, statusCancelled
		result.Reason = "cancelled while the machine was to be started anew"
		return rebootOver, result
	case expired:
		result.Status, result.StatusDetails = statusTimedOut, detailsExecutionTimedOut
		result.Reason = "the command expired while the machine was to be started anew"
		return rebootOver, result
	case bootID != e.BootID:
		return rebootAgain, StepResult{}
	}
	return rebootAsk, StepResult{}
}

// mayReboot says why a step that asks for a boot gets none, "" when it does.
func mayReboot(able bool, reboots int) string {
	switch {
	case !able:
		return "the script asks for a reboot (exit code 194), which is not possible here: in a document that aws:runDocument runs, or on a node that does not reboot"
	case reboots >= maxReboots:
		return fmt.Sprintf("the script asks for a reboot (exit code 194) once more after %d reboots; it must end with another code once it has what it needs", reboots)
	}
	return ""
}

// askReboot journals that the step which has just ended its run asks for a boot.
// Where that is impossible, the step has its result.
func (j *jobRun) askReboot(entry *Entry, index int, outcome Outcome) error {
	refusal := mayReboot(j.Rebooter != nil, entry.Reboots)
	if refusal == "" && j.cancelled.Err() != nil {
		_, result := afterReboot(entry, entry.BootID, true, false)
		outcome.Result.Status, outcome.Result.StatusDetails, outcome.Result.Reason = result.Status, result.StatusDetails, result.Reason
		j.addOutcome(index, outcome)
		return nil
	}
	if refusal == "" {
		records := []Record{{Kind: RecordRebooting, JobID: j.id, At: j.Now().UTC(), Step: index}}
		if len(j.results) > 0 {
			records = append([]Record{{Kind: RecordStep, JobID: j.id, At: records[0].At, Results: j.results}}, records...)
		}
		withdraw := j.Rebooter.Prepare(j.id)
		err := j.Journal.Append(records...)
		if err == nil {
			if outcome.Journaled != nil {
				j.journaled = append(j.journaled, outcome.Journaled)
			}
			j.durable()
			return nil
		}
		withdraw()
		if !errors.Is(err, ErrJournalWrite) {
			return fmt.Errorf("journal that job %s asks for a reboot: %w", j.id, err)
		}
		refusal = "the machine is not started anew, because that could not be journaled: " + err.Error()
	}
	outcome.Result.Status, outcome.Result.StatusDetails = statusFailed, statusFailed
	outcome.Result.Reason = refusal
	j.addOutcome(index, outcome)
	return nil
}

// awaitReboot takes a step that waits for a boot on from there.
func (j *jobRun) awaitReboot(ctx context.Context, entry *Entry) error {
	move, result := afterReboot(entry, j.Processes.BootID(), j.cancelled.Err() != nil, !j.Now().Before(entry.ExpiresAt))
	if move == rebootAgain {
		if err := j.start(entry.Step); err != nil {
			j.endReboot(entry, StepResult{Status: statusFailed, StatusDetails: statusFailed, ResponseCode: exitReboot, Reason: "not run again after the reboot, because that could not be journaled: " + err.Error()})
			return nil
		}
		return j.execute(ctx, j.Journal.Entry(j.id), entry.Step, false)
	}
	if move == rebootAsk {
		refusal, err := mayReboot(j.Rebooter != nil, entry.Reboots-1), error(nil)
		if refusal == "" {
			refusal, err = j.Rebooter.Reboot(ctx, j.cancelled, j.id)
		}
		if err != nil || refusal == "" {
			return err
		}
		result = StepResult{Status: statusFailed, StatusDetails: statusFailed, ResponseCode: exitReboot, Reason: refusal}
	}
	j.endReboot(entry, result)
	return nil
}

// endReboot gives a step that waited for a boot its result, with the outputs of
// its runs.
func (j *jobRun) endReboot(entry *Entry, result StepResult) {
	task := j.tasks[entry.Step]
	result.Name, result.StartedAt = task.Name, entry.StartedAt
	if err := addOutputs(&result, StepDir(j.Dir, j.id, entry.Step, task.Name)); err != nil {
		result.Reason += "; its output cannot be read: " + err.Error()
	}
	j.addOutcome(entry.Step, Outcome{Result: result})
}
