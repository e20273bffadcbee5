package executor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"fleetmesh/executor/document"
)

// Exit codes that mean more than failure.
const (
	exitSuccessEnds = 168 // success, skip the other steps
	exitFailureEnds = 169 // failure, skip the other steps
	exitReboot      = 194 // start the machine anew, then run the step again
	exitKilled      = 137
)

// scriptFile is the form that a plugin gives to the lines of runCommand.
type scriptFile struct {
	name        string // begins with scriptMark
	prefix      string // before the lines
	interpreter []string
	environment func([]string) []string // nil: as it is
}

// runScript executes the lines of runCommand to their end.
func runScript(ctx context.Context, x *Execution, file scriptFile) (Outcome, error) {
	script, err := scriptText(x.Inputs["runCommand"])
	if err != nil {
		return Outcome{Result: failedStep(x, err.Error())}, nil
	}
	end, err := x.Processes.run(ctx, x.Cancelled, scriptOrder(x, script, file))
	if err != nil {
		return Outcome{}, err
	}
	return scriptOutcome(x, end)
}

// resumeScript goes on with a script that was begun earlier, and begins it where it
// was not and still may; file is nil where that is impossible.
func resumeScript(ctx context.Context, x *Execution, file *scriptFile) (Outcome, error) {
	var begin func() *shimOrder
	if file != nil && x.mayBegin() {
		if script, err := scriptText(x.Inputs["runCommand"]); err == nil {
			begin = func() *shimOrder { return scriptOrder(x, script, *file) }
		}
	}
	end, err := x.Processes.resume(ctx, x.Cancelled, x.RunDir, x.BootID, begin)
	if err != nil {
		return Outcome{}, err
	}
	if x.displaced && end.interrupted == interruptedBefore {
		end.interrupted, end.ran = interruptedDisplaced, true // its claim may have been lost
	}
	return scriptOutcome(x, end)
}

// scriptOrder is what a shim is told of a step.
func scriptOrder(x *Execution, script string, file scriptFile) *shimOrder {
	order := &shimOrder{
		Dir:         x.RunDir,
		OutputDir:   x.Dir,
		Depth:       x.depth,
		Script:      file.prefix + script,
		ScriptName:  file.name,
		Interpreter: file.interpreter,
		Env:         x.Environment,
		WorkingDir:  workingDirectory(x.Inputs["workingDirectory"], x.Downloads),
		Timeout:     document.ScriptTimeout(x.Inputs["timeoutSeconds"]),
		Expiry:      max(x.ExpiresAt.Sub(x.Now()), 0),
		OutputLimit: x.Processes.outputLimit(x.JobID),
	}
	if file.environment != nil {
		order.Env = file.environment(order.Env)
	}
	return order
}

// scriptText joins the lines of runCommand, a list or one string.
func scriptText(input any) (string, error) {
	var lines []string
	switch v := input.(type) {
	case string:
		lines = []string{v}
	case []string:
		lines = v
	case []any:
		for _, line := range v {
			s, ok := line.(string)
			if !ok {
				return "", fmt.Errorf("runCommand holds %v, which is no string", line)
			}
			lines = append(lines, s)
		}
	default:
		return "", fmt.Errorf("runCommand must be a list of strings")
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// workingDirectory is an absolute one as given; a relative one below the job's
// downloads, if it is there; else the root.
func workingDirectory(input any, downloads string) string {
	dir, _ := input.(string)
	if filepath.IsAbs(dir) {
		return dir
	}
	if dir != "" && filepath.IsLocal(dir) {
		path := filepath.Join(downloads, dir)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
	}
	return "/"
}

func scriptOutcome(x *Execution, end ended) (Outcome, error) {
	if end.interrupted != "" {
		result := failedStep(x, end.interrupted)
		result.ResponseCode = -1
		if !end.ran && x.Cancelled.Err() != nil {
			result.Status, result.StatusDetails = statusCancelled, statusCancelled
			result.Reason = "cancelled before the script was started"
		}
		if err := addOutputs(&result, x.Dir); err != nil {
			return Outcome{}, err
		}
		return Outcome{Result: result, Interrupted: true}, nil
	}
	outcome := concludeScript(x.Name, end.exit, x.Cancelled.Err() != nil)
	outcome.Journaled = end.journaled
	// Somebody else than meshd told the shim to end: the machine shuts down.
	outcome.Interrupted = end.exit.Killed == killedCancel && x.Cancelled.Err() == nil
	if err := addOutputs(&outcome.Result, x.Dir); err != nil {
		// The script has run: its end is worth more than its output.
		outcome.Result.Reason = strings.TrimPrefix(outcome.Result.Reason+"; its output cannot be read: "+err.Error(), "; ")
	}
	if end.exit.Failure != "" && outcome.Result.Stderr == "" {
		outcome.Result.Stderr = end.exit.Failure + "\n"
	}
	return outcome, nil
}

// concludeScript says what a script's end means.
func concludeScript(name string, exit processExit, cancelled bool) Outcome {
	result := StepResult{Name: name, ResponseCode: exit.Code, StartedAt: exit.StartedAt, FinishedAt: exit.FinishedAt}
	ends, reboot := false, false
	set := func(status, details, reason string) {
		result.Status, result.StatusDetails, result.Reason = status, details, reason
	}
	switch {
	case exit.Failure != "":
		set(statusFailed, statusFailed, "the script could not be started: "+exit.Failure)
	case exit.Killed == killedCancel && !cancelled:
		set(statusFailed, statusFailed, interruptedShutdown)
	case exit.Killed == killedCancel, exit.Code == exitKilled && exit.Killed == "" && cancelled:
		set(statusCancelled, statusCancelled, "")
	case exit.Killed == killedTimeout:
		set(statusTimedOut, detailsExecutionTimedOut, "the script was killed because its execution timeout was over")
	case exit.Killed == killedExpired:
		set(statusTimedOut, detailsExecutionTimedOut, "the script was killed because the command expired")
	case exit.Code == exitKilled:
		// As SSM's agent has it, which cannot tell who killed a script.
		set(statusTimedOut, detailsExecutionTimedOut, "the script ended with code 137 before its execution timeout: something on the node killed it, or it chose that code")
	case exit.Code == 0:
		set(statusSuccess, statusSuccess, "")
	case exit.Code == exitSuccessEnds:
		set(statusSuccess, statusSuccess, "")
		ends = true
	case exit.Code == exitFailureEnds:
		set(statusFailed, statusFailed, "")
		ends = true
	case exit.Code == exitReboot:
		set(statusFailed, statusFailed, "")
		reboot = true
	case exit.Signal != 0:
		set(statusFailed, statusFailed, "the script was ended by "+unix.SignalName(unix.Signal(exit.Signal)))
	default:
		set(statusFailed, statusFailed, "")
	}
	switch {
	case exit.OutputFailure != "":
		result.Reason = strings.TrimPrefix(result.Reason+"; its output could not be kept: "+exit.OutputFailure, "; ")
	case exit.OutputCut != "":
		result.Reason = strings.TrimPrefix(result.Reason+"; its output was truncated: "+exit.OutputCut, "; ")
	}
	return Outcome{Result: result, EndsDocument: ends, Reboot: reboot}
}

// failedStep is the result of a step that has no exit code to tell.
func failedStep(x *Execution, reason string) StepResult {
	now := x.Now().UTC()
	return StepResult{Name: x.Name, Status: statusFailed, StatusDetails: statusFailed, ResponseCode: 1, StartedAt: now, FinishedAt: now, Reason: reason, Stderr: reason + "\n"}
}

func addOutputs(result *StepResult, dir string) error {
	stdout, stdoutBytes, err := excerpt(filepath.Join(dir, "stdout"), StdoutCharacters)
	if err != nil {
		return err
	}
	stderr, stderrBytes, err := excerpt(filepath.Join(dir, "stderr"), StderrCharacters)
	if err != nil {
		return err
	}
	result.Stdout, result.StdoutBytes, result.StderrBytes = stdout, stdoutBytes, stderrBytes
	if stderr != "" {
		result.Stderr = stderr
	}
	return nil
}
