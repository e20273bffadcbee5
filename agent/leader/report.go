package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"fleetmesh/agent/peer"
	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

// Limits of what a report may put into a record, in characters. A node keeps to
// them; one that does not is cut.
const (
	maxStdout  = executor.StdoutCharacters
	maxStderr  = executor.StderrCharacters
	maxReason  = 2_000
	maxPlugins = 200
	maxName    = 256
	// maxReports is how many reports a node may send at once: many more than fit
	// into what a node makes one call of.
	maxReports = 5_000
	// maxRecord is the largest invocation record, in encoded bytes. A transaction
	// holds at least one.
	maxRecord = 220 << 10
)

// applyReport returns what a report makes of an invocation; changed is false for
// a repetition and for what adds nothing. Terminal states never change: how it
// really ended is kept as detail in Reason.
func applyReport(was raftstore.Invocation, report peer.JobReport, now time.Time) (is raftstore.Invocation, changed bool) {
	if report.Sequence <= was.Sequence {
		return was, false
	}
	ended := !report.FinishedAt.IsZero()
	is = was
	is.Sequence = report.Sequence
	status, details := statusOf(report.Status, report.StatusDetails, ended)
	if was.Terminal() {
		if !ended {
			return was, false
		}
		is.Reason = first(join(was.Reason, lateDetail(report, details)), maxReason)
		return is, true
	}
	if was.DispatchedAt.IsZero() {
		// A start that this store does not know: the node's word is the truth.
		is.DispatchedAt = now
	}
	is.Status, is.StatusDetails = status, details
	if was.Cancelling && !ended {
		is.Status, is.StatusDetails = invocationCancelling, detailCancelling
	}
	is.StartedAt, is.FinishedAt = sane(report.StartedAt, now), sane(report.FinishedAt, now)
	is.Plugins = boundPlugins(report.Plugins, now)
	is.Reason = first(report.Reason, maxReason)
	return is, true
}

// statusOf maps a node's words to SSM's; what is none of them is taken by whether
// the job has ended.
func statusOf(status, details string, ended bool) (string, string) {
	if !ended {
		return invocationInProgress, detailInProgress
	}
	switch status {
	case invocationSuccess:
		return status, detailSuccess
	case invocationCancelled:
		return status, detailCancelled
	case invocationTimedOut:
		if details == detailDeliveryTimedOut {
			return status, detailDeliveryTimedOut
		}
		return status, detailExecutionTimeout
	case invocationFailed:
		if details == detailInvalidPlatform {
			return status, detailInvalidPlatform
		}
	}
	return invocationFailed, detailFailed
}

// disown makes sure that the mesh does not know the commands that a node reports,
// before the node is told so and drops what it has to say. A leader that is deposed
// and has not noticed knows nothing of what its successor has started.
func disown(ctx context.Context, store Store, nodeID string, unknown []string) error {
	if len(unknown) == 0 {
		return nil
	}
	err := store.ConfirmedView(ctx, func(r raftstore.Reader) error {
		for _, id := range unknown {
			_, err := raftstore.GetInvocation(r, id, nodeID)
			switch {
			case errors.Is(err, raftstore.ErrNotFound):
			case err != nil:
				return err
			default:
				return &peer.Refusal{Kind: peer.RefusedUnavailable, Message: "command " + id + " has just become known; report it again"}
			}
		}
		return nil
	})
	if errors.Is(err, raftstore.ErrNotLeader) {
		return notLeading()
	}
	return err
}

// lateDetail says what a report that came too late would have been.
func lateDetail(report peer.JobReport, details string) string {
	text := fmt.Sprintf("the node reported later: %s, finished at %s", details, report.FinishedAt.UTC().Format(time.RFC3339))
	if n := len(report.Plugins); n > 0 {
		text += fmt.Sprintf(", exit code %d", report.Plugins[n-1].ResponseCode)
	}
	return join(text, report.Reason)
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// sane keeps times that no record can hold, or no clock can show, out of records.
func sane(t, now time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	if t = t.UTC(); t.Year() < 1970 || t.Year() > 9000 {
		return now
	}
	return t
}

func boundPlugins(plugins []raftstore.PluginResult, now time.Time) []raftstore.PluginResult {
	plugins = slices.Clone(plugins[:min(len(plugins), maxPlugins)])
	for i := range plugins {
		p := &plugins[i]
		p.Stdout, p.Stderr = executor.Truncate(p.Stdout, maxStdout), executor.Truncate(p.Stderr, maxStderr)
		p.StartedAt, p.FinishedAt = sane(p.StartedAt, now), sane(p.FinishedAt, now)
		p.Name, p.Status, p.StatusDetails = first(p.Name, maxName), first(p.Status, maxName), first(p.StatusDetails, maxName)
	}
	return plugins
}

// shortened is reports whose steps have room in a record.
func shortened(reports []peer.JobReport, now time.Time) []peer.JobReport {
	reports = slices.Clone(reports)
	for i := range reports {
		reports[i].Plugins = fit(raftstore.Invocation{Plugins: boundPlugins(reports[i].Plugins, now)}).Plugins
	}
	return reports
}

// fit shortens outputs until the record fits into one entry. One step with the
// outputs that SSM shows fits as it is; many steps share the room. Steps are left
// out when nothing else helps: no document makes so many with such names, but a
// node with a thief in it may, and what cannot be committed would hold up all
// others.
func fit(i raftstore.Invocation) raftstore.Invocation {
	for keep := maxStdout / 2; keep > 0 && encodedSize(i) > maxRecord; keep /= 2 {
		i.Plugins = slices.Clone(i.Plugins)
		for p := range i.Plugins {
			i.Plugins[p].Stdout, i.Plugins[p].Stderr = executor.Truncate(i.Plugins[p].Stdout, keep), executor.Truncate(i.Plugins[p].Stderr, keep)
		}
	}
	for len(i.Plugins) > 0 && encodedSize(i) > maxRecord {
		i.Plugins = i.Plugins[:len(i.Plugins)/2]
	}
	return i
}

// encodedSize is the record's size as JSON, in bytes.
func encodedSize(i raftstore.Invocation) int {
	data, err := json.Marshal(i)
	if err != nil {
		return maxRecord + 1 // a time out of JSON's range; shortening cannot help, the store says what is wrong
	}
	return len(data)
}

// first returns at most limit characters of s.
func first(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	if utf8.RuneCountInString(s) <= limit {
		return s
	}
	for at := range s {
		if limit == 0 {
			return s[:at]
		}
		limit--
	}
	return s
}
