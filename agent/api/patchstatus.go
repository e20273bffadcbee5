package api

import (
	"fmt"
	"time"

	"fleetmesh/raftstore"
)

// patchStatus is what the mesh says of a node's patches.
type patchStatus string

const (
	patchCompliant    patchStatus = "COMPLIANT"
	patchNonCompliant patchStatus = "NON_COMPLIANT"
	// patchStale: it is too long ago that the node told what it has.
	patchStale patchStatus = "STALE"
	// patchUnknown: it never did, or could not know.
	patchUnknown patchStatus = "UNKNOWN"
)

// DefaultPatchStaleAfter is how old what is known of a node's patches may be before
// it counts for nothing: a week, the rhythm in which most scan.
const DefaultPatchStaleAfter = 7 * 24 * time.Hour

// judgePatches says how a node stands, and why in a sentence. A node counts as
// compliant only by what it has told itself, wholly and lately; s is nil for one that
// has told nothing.
func judgePatches(s *raftstore.PatchState, now time.Time, staleAfter time.Duration) (patchStatus, string) {
	if s == nil || !s.Known() {
		if s != nil && s.Problem != "" {
			return patchUnknown, "no operation has succeeded yet: " + s.Problem
		}
		return patchUnknown, "it was never scanned"
	}
	if age := now.Sub(s.EndedAt); age > staleAfter {
		return patchStale, fmt.Sprintf("its last operation was %s ago", days(age))
	}
	failed := s.Problem != "" && !s.ProblemAt.Before(s.EndedAt)
	if s.NonCompliant.Total() > 0 {
		reason := nonCompliantText(s.Counts)
		if failed {
			reason += "; its last operation failed"
		}
		return patchNonCompliant, reason
	}
	switch {
	case failed:
		return patchUnknown, "its last operation failed: " + s.Problem
	case s.Incomplete:
		return patchUnknown, "a source of its packages could not be read, or it has none"
	}
	if age := now.Sub(s.MetadataAt); !s.MetadataAt.IsZero() && age > staleAfter {
		return patchStale, fmt.Sprintf("what it knows of its sources is %s old", days(age))
	}
	if s.Gaps > 0 {
		return patchCompliant, fmt.Sprintf("as far as is known; gaps: %d", s.Gaps)
	}
	return patchCompliant, ""
}

func nonCompliantText(n raftstore.PatchCounts) string {
	text := ""
	for _, part := range []struct {
		count int
		what  string
	}{{n.Missing, "missing"}, {n.Failed, "failed"}, {n.InstalledPendingReboot, "waiting for a reboot"}, {n.InstalledRejected, "rejected but installed"}} {
		if part.count == 0 {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", part.count, part.what)
	}
	return text
}

// days is an age in words, in whole days from two on.
func days(age time.Duration) string {
	if age >= 48*time.Hour {
		return fmt.Sprintf("%d days", int(age.Hours()/24))
	}
	return fmt.Sprintf("%d hours", int(age.Hours()))
}
