package main

import (
	"cmp"
	"slices"
	"time"

	"fleetmesh/agent/meshapi"
)

// The states of a node, as the mesh says them.
const (
	patchCompliant    = "COMPLIANT"
	patchNonCompliant = "NON_COMPLIANT"
	patchStale        = "STALE"
)

// patchTotal counts nodes. Compliant, NonCompliant, Stale and Unknown add up to
// Nodes; CompliantPercent is of all of them, so that silence never looks good.
type patchTotal struct {
	PatchGroup       string `json:",omitempty"`
	Nodes            int
	Compliant        int
	NonCompliant     int
	Stale            int
	Unknown          int
	CompliantPercent float64
	PendingReboot    int
	// Of the known nodes, how many lack or have what.
	NodesWithMissing, NodesWithFailed, NodesWithCritical, NodesWithSecurity int
	// OldestOperation is the oldest of what is known, nil where nothing is.
	OldestOperation  *time.Time `json:",omitempty"`
	OldestAgeSeconds int64      `json:",omitempty"`
}

func (t *patchTotal) add(n meshapi.NodePatchStatus) {
	t.Nodes++
	switch n.Status {
	case patchCompliant:
		t.Compliant++
	case patchNonCompliant:
		t.NonCompliant++
	case patchStale:
		t.Stale++
	default:
		t.Unknown++
	}
	t.CompliantPercent = 100 * float64(t.Compliant) / float64(t.Nodes)
	one := func(count *int, has bool) {
		if has {
			*count++
		}
	}
	one(&t.PendingReboot, n.PendingReboot || n.Counts.InstalledPendingReboot > 0)
	one(&t.NodesWithMissing, n.Counts.Missing > 0)
	one(&t.NodesWithFailed, n.Counts.Failed > 0)
	one(&t.NodesWithCritical, n.Counts.CriticalNonCompliant > 0)
	one(&t.NodesWithSecurity, n.Counts.SecurityNonCompliant > 0)
	if at := n.OperationEndTime; at != nil && (t.OldestOperation == nil || at.Before(*t.OldestOperation)) {
		t.OldestOperation, t.OldestAgeSeconds = at, n.AgeSeconds
	}
}

// patchSummary is what `patch status` prints.
type patchSummary struct {
	Now               time.Time
	StaleAfterSeconds int64
	Fleet             patchTotal
	PatchGroups       []patchTotal // by name, nodes without a group first
	// NonCompliantPatches counts the patches that are not compliant on any node by
	// level; NonCompliantNodes the nodes by the gravest of theirs.
	NonCompliantPatches meshapi.PatchLevels
	NonCompliantNodes   map[string]int
	Nodes               []meshapi.NodePatchStatus
}

// summarizePatches adds up.
func summarizePatches(status *meshapi.DescribePatchStatusOutput) patchSummary {
	s := patchSummary{Now: status.Now, StaleAfterSeconds: status.StaleAfterSeconds, PatchGroups: []patchTotal{}, NonCompliantNodes: map[string]int{}, Nodes: status.Nodes}
	groups := map[string]*patchTotal{}
	for _, n := range status.Nodes {
		s.Fleet.add(n)
		if groups[n.PatchGroup] == nil {
			groups[n.PatchGroup] = &patchTotal{PatchGroup: n.PatchGroup}
		}
		groups[n.PatchGroup].add(n)
		l, sum := n.NonCompliant, &s.NonCompliantPatches
		sum.Critical, sum.High, sum.Medium = sum.Critical+l.Critical, sum.High+l.High, sum.Medium+l.Medium
		sum.Low, sum.Informational, sum.Unspecified = sum.Low+l.Low, sum.Informational+l.Informational, sum.Unspecified+l.Unspecified
		if n.Status == patchNonCompliant {
			s.NonCompliantNodes[cmp.Or(n.OverallSeverity, "UNSPECIFIED")]++
		}
	}
	for _, total := range groups {
		s.PatchGroups = append(s.PatchGroups, *total)
	}
	slices.SortFunc(s.PatchGroups, func(a, b patchTotal) int { return cmp.Compare(a.PatchGroup, b.PatchGroup) })
	return s
}
