package executor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// propertyList is a step of schema 1.2 with several properties: they run one after
// another, and are one step to whoever asks. It stands in front of the plugin of
// the step's action, whichever that is.
type propertyList struct{ entries []Task }

func (p propertyList) Run(ctx context.Context, x *Execution) (Outcome, error) {
	if x.RunDir != x.Dir {
		return p.Resume(ctx, x) // after the boot that an entry has asked for
	}
	started := x.Now().UTC()
	journal, err := beginInner(x, json.RawMessage("{}"))
	if err != nil {
		return Outcome{Result: failedStep(x, err.Error())}, nil
	}
	defer journal.Close()
	return p.run(ctx, x, journal, started)
}

func (p propertyList) Resume(ctx context.Context, x *Execution) (Outcome, error) {
	journal, entry, err := openInner(x)
	if err != nil {
		return Outcome{}, err
	}
	defer journal.Close()
	if entry == nil {
		if mayBeginInner(x) {
			journal.Close()
			return p.Run(ctx, x)
		}
		return neverBegun(x), nil
	}
	return p.run(ctx, x, journal, entry.AcceptedAt)
}

func (p propertyList) run(ctx context.Context, x *Execution, journal *Journal, started time.Time) (Outcome, error) {
	below := &Runner{nesting: x.runner.nesting}
	if x.runner.Rebooter != nil {
		below.Rebooter = outerReboot{}
	}
	entry, err := runInner(ctx, x, journal, p.entries, below)
	if errors.Is(err, errOuterReboot) {
		return p.reboot(x, entry, started)
	}
	if err != nil {
		return Outcome{}, err
	}
	result := innerResult(x, entry, started)
	result.ResponseCode = listCode(entry)
	if err := innerOutputs(x, entry, &result); err != nil {
		return Outcome{}, err
	}
	return Outcome{Result: result, EndsDocument: documentEnded(entry.Steps), Interrupted: strings.HasPrefix(entry.Reason, interrupted)}, nil
}

// reboot asks for the boot that an entry waits for. The result counts where there
// will be none.
func (p propertyList) reboot(x *Execution, entry *Entry, started time.Time) (Outcome, error) {
	result := innerResult(x, entry, started)
	result.Status, result.StatusDetails, result.ResponseCode = statusFailed, statusFailed, exitReboot
	soFar := *entry
	soFar.Steps = append(slices.Clip(entry.Steps), StepResult{Name: p.entries[entry.Step].Name})
	if err := innerOutputs(x, &soFar, &result); err != nil {
		return Outcome{}, err
	}
	return Outcome{Result: result, Reboot: true}, nil
}

// listCode is the exit code of a list: that of the first entry which made it end as
// it did; of a success the first code that is not 0.
func listCode(entry *Entry) int {
	for _, step := range entry.Steps {
		if step.Status == entry.Status && (step.ResponseCode != 0 || step.Status != statusSuccess) {
			return step.ResponseCode
		}
	}
	return 0
}

// outerReboot is the Rebooter of a list's entries: their wish becomes that of the
// step, whose job waits for the boot.
type outerReboot struct{}

// errOuterReboot ends the run of a list's entries until the boot.
var errOuterReboot = errors.New("an entry waits for a boot")

func (outerReboot) Prepare(string) (withdraw func()) { return func() {} }

func (outerReboot) Reboot(_, _ context.Context, _ string) (string, error) {
	return "", errOuterReboot
}
