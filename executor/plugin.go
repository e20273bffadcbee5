package executor

import (
	"context"
	"encoding/json"
	"time"
)

// Plugin executes the steps of one action. An implementation is one file,
// plugin_<name>.go, and is named in Plugins; agent may plug in more.
type Plugin interface {
	// Run executes a step to its end. That the step starts is durable before Run is
	// called, and Run is never called twice for a step, but after a boot that it has
	// asked for by Outcome.Reboot: then with another RunDir. When ctx ends, meshd stops:
	// Run leaves the step running, if it can be resumed, and returns ErrDetached.
	// When x.Cancelled ends, Run ends the step at once. Any other error than
	// ErrDetached means that the end cannot be told now; Resume is called later.
	Run(ctx context.Context, x *Execution) (Outcome, error)
	// Resume goes on with a step that Run, maybe of an earlier process, has begun,
	// and never begins it anew: only where it is certain that nothing of it ran, and
	// it still may, is it begun now. What cannot be resumed is interrupted.
	Resume(ctx context.Context, x *Execution) (Outcome, error)
}

// Execution is a step as its plugin sees it.
type Execution struct {
	JobID string
	Name  string
	// Inputs are the step's, all parameters replaced.
	Inputs map[string]any
	// Environment is that of the scripts: NAME=value, each name once.
	Environment []string
	// Dir is the step's directory and has its outputs; RunDir, the same or below it,
	// has what belongs to this run alone; Downloads is where downloads of the job go.
	// The first two are there.
	Dir       string
	RunDir    string
	Downloads string
	ExpiresAt time.Time
	// StartUntil is when it is too late to begin, where it is set.
	StartUntil time.Time
	// BootID is the boot of the machine on which the step was started.
	BootID string
	// Cancelled ends when the job is to be cancelled.
	Cancelled context.Context
	Processes *Processes
	Now       func() time.Time
	// displaced is set where the job's directory is not the one, or not on the mount,
	// that the step was started in: what was written there may be lost.
	displaced bool
	// depth is how many directories lead to RunDir, from that of all jobs on.
	depth  int
	job    json.RawMessage // as it was accepted
	runner *Runner
}

// Job is the job that the step belongs to, as it was accepted.
func (x *Execution) Job() json.RawMessage { return x.job }

// mayBegin reports whether a step that was to start earlier may start now if it is
// found that it did not. On another boot, and in another directory, that cannot be
// found out: what was written last may be lost.
func (x *Execution) mayBegin() bool {
	now := x.Now()
	return x.BootID == x.Processes.BootID() && !x.displaced && x.Cancelled.Err() == nil && now.Before(x.ExpiresAt) && (x.StartUntil.IsZero() || now.Before(x.StartUntil))
}

// Outcome is how a step ended.
type Outcome struct {
	Result StepResult
	// EndsDocument: the steps that follow are skipped, as exit codes 168 and 169
	// ask for.
	EndsDocument bool
	// Reboot: the machine is to be started anew, and the step to be run again then.
	// Result is what the step ends with where that is not possible.
	Reboot bool
	// Interrupted: nobody saw the end. The job ends with it.
	Interrupted bool
	// Journaled, when not nil, is called once the result is durable.
	Journaled func()
}

// Plugins returns the plugins that need nothing but this package, by action, and
// for each action of SSM that there is no plugin for yet one that says so.
// powerShell is the program of aws:runPowerShellScript, "" for one on the PATH.
func Plugins(powerShell string) map[string]Plugin {
	plugins := map[string]Plugin{
		"aws:runShellScript":      shellScript{},
		"aws:runPowerShellScript": powerShellScript{program: powerShell},
		actionRunDocument:         runDocument{},
	}
	for action, reason := range missing {
		plugins[action] = missingPlugin{action: action, reason: reason}
	}
	return plugins
}
