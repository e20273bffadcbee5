package api

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

// statusPage is how many nodes one answer of DescribePatchStatus has at most.
const statusPage = 1000

// describePatchStatus shows how all nodes stand.
func (c *call) describePatchStatus(in *meshapi.DescribePatchStatusInput) (*meshapi.DescribePatchStatusOutput, error) {
	bound := meshapi.DescribePatchStatusInput{}
	start, err := c.pageStart(&bound, &in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &meshapi.DescribePatchStatusOutput{
		Now: c.now, StaleAfterSeconds: int64(c.face.cfg.PatchStaleAfter / time.Second), Nodes: []meshapi.NodePatchStatus{},
	}
	next := ""
	var failed error
	err = raftstore.ScanNodes(c, start, func(n raftstore.Node) bool {
		if len(out.Nodes) == statusPage {
			next = n.ID
			return false
		}
		var status meshapi.NodePatchStatus
		if status, failed = c.nodePatchStatus(n); failed != nil {
			return false
		}
		out.Nodes = append(out.Nodes, status)
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	token, err := c.nextPage(&bound, next)
	if token != nil {
		out.NextToken = *token
	}
	return out, err
}

func (c *call) nodePatchStatus(n raftstore.Node) (meshapi.NodePatchStatus, error) {
	var state *raftstore.PatchState
	stored, err := raftstore.GetPatchState(c, n.ID)
	switch {
	case err == nil:
		state = &stored
	case !errors.Is(err, raftstore.ErrNotFound):
		return meshapi.NodePatchStatus{}, err
	}
	return viewPatchStatus(n, state, c.now, c.face.cfg.PatchStaleAfter), nil
}

// viewPatchStatus is how a node stands; s is nil for one that has told nothing.
func viewPatchStatus(n raftstore.Node, s *raftstore.PatchState, now time.Time, staleAfter time.Duration) meshapi.NodePatchStatus {
	status, reason := judgePatches(s, now, staleAfter)
	view := meshapi.NodePatchStatus{
		NodeId: n.ID, Name: n.Name, Platform: strings.TrimSpace(n.PlatformName + " " + n.PlatformVersion), PatchGroup: raftstore.PatchGroupOf(n.Tags),
		OperatingSystem: string(patcher.OperatingSystemOf(n.PlatformName, n.PlatformVersion)), Status: string(status), Reason: reason,
	}
	if s == nil {
		return view
	}
	view.Problem, view.ProblemTime = s.Problem, optionalTime(s.ProblemAt)
	if !s.Known() {
		return view
	}
	view.BaselineId, view.Operation, view.CommandId, view.PendingReboot = s.BaselineID, s.Operation, s.CommandID, s.PendingReboot
	view.OperationEndTime, view.AgeSeconds, view.MetadataTime = &s.EndedAt, int64(now.Sub(s.EndedAt)/time.Second), optionalTime(s.MetadataAt)
	view.Counts, view.NonCompliant = meshapi.PatchCounts(s.Counts), meshapi.PatchLevels(s.NonCompliant)
	if s.NonCompliant.Total() > 0 {
		view.OverallSeverity = s.OverallSeverity
	}
	return view
}

// getPatchReport shows all that is known of a node's patches.
func (c *call) getPatchReport(in *meshapi.GetPatchReportInput) (*meshapi.GetPatchReportOutput, error) {
	n, err := raftstore.GetNode(c, in.NodeId)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidInstance, "%s is not enrolled in this mesh.", in.NodeId)
	}
	if err != nil {
		return nil, err
	}
	status, err := c.nodePatchStatus(n)
	if err != nil {
		return nil, err
	}
	out := &meshapi.GetPatchReportOutput{Now: c.now, Node: status, Patches: []meshapi.PatchDetail{}}
	list, err := raftstore.GetPatchList(c, n.ID)
	if errors.Is(err, raftstore.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	state, err := raftstore.GetPatchState(c, n.ID)
	if err != nil {
		return nil, err
	}
	out.Omitted = state.Omitted
	for i := range list.Patches {
		p := &list.Patches[i]
		cves := p.CVEs
		if len(cves) == 0 && len(p.Notices) > 0 {
			// Nodes tell the CVEs of what is not installed only.
			if _, cves, err = c.noticesOf(&state, p.Title); err != nil {
				return nil, err
			}
		}
		out.Patches = append(out.Patches, meshapi.PatchDetail{
			Title: p.Title, KBId: p.KBID, State: p.State, Classification: p.Classification, Severity: p.Severity, ComplianceLevel: p.ComplianceLevel,
			Security: p.Security, InstalledTime: optionalTime(p.InstalledAt), Replaces: p.Replaces, Held: p.Held, CVEIds: cves, AdvisoryIds: p.Notices, Reason: p.Reason,
		})
	}
	for _, p := range list.Pending {
		advisories, cves, err := c.noticesOf(&state, p.Title)
		if err != nil {
			return nil, err
		}
		out.Pending = append(out.Pending, meshapi.PendingPatch{Title: p.Title, Reason: p.Reason, ApprovalDate: optionalTime(p.From), AdvisoryIds: advisories, CVEIds: cves})
	}
	for _, s := range list.Sources {
		out.Sources = append(out.Sources, meshapi.PatchSource{Name: s.Name, UpdatedAt: optionalTime(s.UpdatedAt), FetchedAt: optionalTime(s.FetchedAt), Problem: s.Problem})
	}
	out.Evidence, out.Services, out.Interruptions = list.Evidence, list.Services, list.Interruptions
	out.Repaired, out.Gaps, out.Notes = list.Repaired, list.Gaps, list.Notes
	return out, nil
}

// noticesOf are the advisories and CVEs that the catalogue has of a version on a node.
func (c *call) noticesOf(s *raftstore.PatchState, title string) (advisories, cves []string, err error) {
	at := raftstore.PatchOffer{OperatingSystem: s.OperatingSystem, Product: cmp.Or(s.Product, s.OperatingSystem), Title: title}
	var failed error
	err = raftstore.ScanPatchOffers(c, s.OperatingSystem, at.Position(), func(record raftstore.PatchOffer) bool {
		if record.Position() != at.Position() {
			return false
		}
		var p *offeredPatch
		if p, failed = readOffer(record); failed == nil {
			advisories = p.texts(func(n *patcher.Notice) []string { return []string{n.ID} })
			cves = p.texts(func(n *patcher.Notice) []string { return n.CVEs })
		}
		return false
	})
	return advisories, cves, errors.Join(err, failed)
}
