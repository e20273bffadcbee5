package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/internal/durable"
	"fleetmesh/patcher"
)

const (
	// maxList bounds an install override list and a list of baselines, in bytes.
	maxList = 1 << 20
	// listTime is how long it may take to get one.
	listTime = 30 * time.Second
	// Files in the run's directory: what the program that patches is told, and what it
	// found.
	patchOrderFile  = "order.json"
	patchReportFile = "report.json"
	// maxPatchReport bounds that file, in bytes.
	maxPatchReport = 32 << 20
)

// patchScript starts the program that patches: this very one, though its file may be
// replaced meanwhile, in a scope of its own where systemd runs, so that neither an
// upgrade of meshd nor a restart of its unit ends it. Its parent is the shim.
const patchScript = `program=/proc/$PPID/exe
if [ -d /run/systemd/system ] && systemd-run --quiet --scope --collect true </dev/null >/dev/null 2>&1; then
  exec systemd-run --quiet --scope --collect --description='fleetmesh: patching' "$program" "$@"
fi
exec "$program" "$@"
`

// patchBaseline is mesh:runPatchBaseline, the step of AWS-RunPatchBaseline. It runs
// `meshd patch-run` behind a shim, as a script is run: the machine's package manager
// is never a child of meshd, which may be upgraded by it.
type patchBaseline struct {
	// script runs scripts; the step's survival of a restart of meshd, and of a reboot,
	// is that of its script.
	script executor.Plugin
	// dir is where the program keeps metadata and what it has installed.
	dir string
	// bootIDFile has what names the boot of the machine, "" the kernel's.
	bootIDFile string
	// transport gets lists; nil: one that trusts what the machine trusts.
	transport http.RoundTripper
}

func (p patchBaseline) Run(ctx context.Context, x *executor.Execution) (executor.Outcome, error) {
	if err := p.writeOrder(ctx, x); err != nil {
		return refusedStep(x, err.Error()), nil
	}
	outcome, err := p.script.Run(ctx, p.execution(x))
	return p.conclude(x, outcome, err)
}

func (p patchBaseline) Resume(ctx context.Context, x *executor.Execution) (executor.Outcome, error) {
	if _, err := os.Stat(filepath.Join(x.RunDir, patchOrderFile)); errors.Is(err, os.ErrNotExist) {
		// Nothing was begun; the script, if it still may begin, finds the order.
		if err := p.writeOrder(ctx, x); err != nil {
			return refusedStep(x, err.Error()), nil
		}
	}
	outcome, err := p.script.Resume(ctx, p.execution(x))
	return p.conclude(x, outcome, err)
}

// writeOrder writes what the program is told to where it looks for it.
func (p patchBaseline) writeOrder(ctx context.Context, x *executor.Execution) error {
	order, err := p.order(ctx, x)
	if err != nil {
		return err
	}
	data, err := json.Marshal(order)
	if err == nil {
		err = durable.WriteFile(filepath.Join(x.RunDir, patchOrderFile), data)
	}
	if err != nil {
		return fmt.Errorf("the order cannot be written: %w", err)
	}
	return nil
}

// execution is the step as its script sees it. It is the same after a restart.
func (p patchBaseline) execution(x *executor.Execution) *executor.Execution {
	quoted := func(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }
	arguments := []string{
		"patch-run", "--order", filepath.Join(x.RunDir, patchOrderFile), "--report", filepath.Join(x.RunDir, patchReportFile),
		"--state", p.dir, "--cache", filepath.Join(p.dir, "cache"),
	}
	if p.bootIDFile != "" {
		arguments = append(arguments, "--boot-id-file", p.bootIDFile)
	}
	for i := range arguments {
		arguments[i] = quoted(arguments[i])
	}
	script := "set -- " + strings.Join(arguments, " ") + "\n" + patchScript
	step := *x
	step.Inputs = map[string]any{"runCommand": script, "timeoutSeconds": x.Inputs["timeoutSeconds"]}
	return &step
}

// order is what the program is told.
func (p patchBaseline) order(ctx context.Context, x *executor.Execution) (*patcher.Order, error) {
	var job peer.Job
	if err := json.Unmarshal(x.Job(), &job); err != nil {
		return nil, fmt.Errorf("the job in this node's journal cannot be read: %w", err)
	}
	if len(job.Patch) == 0 {
		if job.PatchProblem == "" {
			return nil, errors.New("no patch baseline came with the command: patching is part of a document of the mesh only, not of one in a file on the node")
		}
		return nil, errors.New(job.PatchProblem)
	}
	order := &patcher.Order{}
	if err := json.Unmarshal(job.Patch, order); err != nil {
		return nil, fmt.Errorf("the patch baseline that came with the command cannot be read: %w", err)
	}
	input := func(name string) string {
		value, _ := x.Inputs[name].(string)
		return value
	}
	if err := order.Direct(input("operation"), input("rebootOption")); err != nil {
		return nil, err
	}
	list, override := input("installOverrideList"), input("baselineOverride")
	if list != "" && override != "" {
		return nil, errors.New("InstallOverrideList and BaselineOverride cannot be given together")
	}
	if override != "" {
		content, err := p.fetch(ctx, override)
		if err != nil {
			return nil, fmt.Errorf("BaselineOverride: %w", err)
		}
		baselines, err := patcher.ParseBaselineOverride(content)
		if err != nil {
			return nil, fmt.Errorf("BaselineOverride %s: %w", override, err)
		}
		baseline, err := patcher.ChooseBaseline(baselines, order.Baseline.OperatingSystem)
		if err != nil {
			return nil, fmt.Errorf("BaselineOverride %s: %w", override, err)
		}
		order.Baseline = *baseline
	}
	if list != "" && order.Installs() {
		content, err := p.fetch(ctx, list)
		if err != nil {
			return nil, fmt.Errorf("InstallOverrideList: %w", err)
		}
		order.Override, order.OverrideName = string(content), list
	}
	return order, nil
}

// fetch gets a list from where an operator has put it.
func (p patchBaseline) fetch(ctx context.Context, address string) ([]byte, error) {
	location, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("the address cannot be read: %w", err)
	}
	var content io.ReadCloser
	switch location.Scheme {
	case "file":
		content, err = os.Open(location.Path)
		if err != nil {
			return nil, fmt.Errorf("cannot be read on this node: %w", err)
		}
	case "https":
		ctx, cancel := context.WithTimeout(ctx, listTime)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		client := http.Client{Transport: p.transport, CheckRedirect: func(to *http.Request, via []*http.Request) error {
			if to.URL.Scheme != "https" || len(via) > 5 {
				return fmt.Errorf("it leads to %s", to.URL.Redacted())
			}
			return nil
		}}
		response, err := client.Do(request)
		if err != nil {
			return nil, fmt.Errorf("cannot be fetched from this node: %w", err)
		}
		content = response.Body
		if response.StatusCode != http.StatusOK {
			content.Close()
			return nil, fmt.Errorf("%s answers %s", address, response.Status)
		}
	default:
		return nil, fmt.Errorf("%s: this mesh has no S3: put the list where every node reaches it by https, or on the nodes as file:///PATH", address)
	}
	defer content.Close()
	data, err := io.ReadAll(io.LimitReader(content, maxList+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case len(data) > maxList:
		return nil, fmt.Errorf("%s has more than %d bytes", address, maxList)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, fmt.Errorf("%s is empty", address)
	}
	return data, nil
}

// conclude adds what the program found to how it ended.
func (p patchBaseline) conclude(x *executor.Execution, outcome executor.Outcome, err error) (executor.Outcome, error) {
	if err != nil || outcome.Reboot {
		return outcome, err
	}
	report, err := readPatchReport(filepath.Join(x.RunDir, patchReportFile))
	switch {
	case errors.Is(err, os.ErrNotExist):
		// It was ended before it could say anything: what was known of the machine's
		// patches may be true no more, and the mesh must not take it for that.
		report = unreported(x, outcome.Result)
	case err != nil:
		outcome.Result.Reason = strings.TrimPrefix(outcome.Result.Reason+"; the report cannot be read: "+err.Error(), "; ")
		return outcome, nil
	}
	if report.Problem != "" && outcome.Result.Reason == "" {
		outcome.Result.Reason = report.Problem
	}
	outcome.Result.Report, err = patcher.EncodeReport(report, executor.MaxReport)
	if err != nil {
		outcome.Result.Reason = strings.TrimPrefix(outcome.Result.Reason+"; the report cannot be sent: "+err.Error(), "; ")
	}
	return outcome, nil
}

// unreported is the report of a run that left none: killed, or the machine lost power.
func unreported(x *executor.Execution, result executor.StepResult) *patcher.Report {
	report := &patcher.Report{
		StartedAt: result.StartedAt, EndedAt: result.FinishedAt,
		Problem: "the run was ended before it reported; what it changed is known after the next scan",
	}
	if report.EndedAt.IsZero() {
		report.EndedAt = x.Now().UTC()
	}
	var order patcher.Order
	if data, err := os.ReadFile(filepath.Join(x.RunDir, patchOrderFile)); err == nil && json.Unmarshal(data, &order) == nil {
		report.Operation, report.RebootOption, report.BaselineId = order.Operation, order.RebootOption, order.Baseline.BaselineId
	}
	if result.Reason != "" {
		report.Problem += ": " + result.Reason
	}
	return report
}

func readPatchReport(path string) (*patcher.Report, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxPatchReport+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxPatchReport {
		return nil, fmt.Errorf("it has more than %d bytes", maxPatchReport)
	}
	report := &patcher.Report{}
	if err := json.Unmarshal(data, report); err != nil {
		return nil, err
	}
	return report, nil
}

// refusedStep is the outcome of a step of which nothing ran.
func refusedStep(x *executor.Execution, reason string) executor.Outcome {
	return executor.Outcome{Result: executor.StepResult{
		Name: x.Name, Status: "Failed", StatusDetails: "Failed", ResponseCode: 1, Reason: reason, StartedAt: x.Now().UTC(), FinishedAt: x.Now().UTC(),
	}}
}
