package worker

import (
	"encoding/json"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

// Sizes of reports, encoded, in bytes. A report becomes part of one entry of the
// store, which must stay under 256 KiB.
const (
	maxReport      = 180 << 10
	maxReportBatch = 200 << 10
)

// reportOf is the newest state of a job as the mesh is told. tasks are the
// job's steps, where they are known: those without result follow the others.
func reportOf(entry *executor.Entry, tasks []executor.Task) peer.JobReport {
	report := peer.JobReport{
		CommandID:     entry.JobID,
		Sequence:      entry.Sequence,
		Status:        "InProgress",
		StatusDetails: "InProgress",
		StartedAt:     entry.StartedAt,
	}
	if entry.Finished() {
		report.Status, report.StatusDetails = entry.Status, entry.StatusDetails
		report.FinishedAt, report.Reason = entry.FinishedAt, entry.Reason
	}
	for _, step := range entry.Steps {
		result := raftstore.PluginResult{
			Name: step.Name, Status: step.Status, StatusDetails: step.StatusDetails, ResponseCode: step.ResponseCode,
			StartedAt: step.StartedAt, FinishedAt: step.FinishedAt,
			Stdout: step.Stdout, Stderr: step.Stderr, StdoutBytes: step.StdoutBytes, StderrBytes: step.StderrBytes,
		}
		if step.Stderr == "" {
			result.Reason = step.Reason
		}
		report.Plugins = append(report.Plugins, result)
		if len(step.Report) > 0 {
			if report.Findings == nil {
				report.Findings = make(map[string][]byte)
			}
			report.Findings[step.Name] = step.Report
		}
	}
	if entry.Rebooting {
		report.Reason = rebooting(entry, tasks)
	}
	if !entry.Finished() {
		for i := len(entry.Steps); i < len(tasks); i++ {
			waiting := raftstore.PluginResult{Name: tasks[i].Name, Status: "Pending", StatusDetails: "Pending", ResponseCode: -1}
			if entry.Running && entry.Step == i {
				waiting.Status, waiting.StatusDetails, waiting.StartedAt = "InProgress", "InProgress", entry.StartedAt
			}
			report.Plugins = append(report.Plugins, waiting)
		}
	}
	return report
}

// rebooting says that a job waits for a boot of its machine.
func rebooting(entry *executor.Entry, tasks []executor.Task) string {
	step := "a step"
	if entry.Step < len(tasks) {
		step = "the step " + tasks[entry.Step].Name
	}
	return "rebooting: " + step + " asked for the machine to be started anew"
}

// fitReport shortens the excerpts of outputs until the report has at most limit
// bytes, encoded, and returns that encoded size. The longest go first; a document
// of one step always fits as it is.
func fitReport(report *peer.JobReport, limit int) int {
	size := encodedSize(report)
	for keep := executor.StdoutCharacters / 2; size > limit && keep > 0; keep /= 2 {
		for i := range report.Plugins {
			p := &report.Plugins[i]
			p.Stdout, p.Stderr, p.Reason = executor.Truncate(p.Stdout, keep), executor.Truncate(p.Stderr, keep), executor.Truncate(p.Reason, keep)
		}
		size = encodedSize(report)
	}
	return size
}

func encodedSize(report *peer.JobReport) int {
	data, err := json.Marshal(report)
	if err != nil {
		return 0 // strings, numbers and times: it cannot be
	}
	return len(data)
}

// batch returns how many of reports, in order, go into one call: at least one,
// at most limit bytes by their encoded sizes.
func batch(sizes []int, limit int) int {
	total := 0
	for i, size := range sizes {
		if total += size + 1; total > limit && i > 0 {
			return i
		}
	}
	return len(sizes)
}
