package api

import (
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// resourceCompliance is one type of compliance on one node, in figures.
type resourceCompliance struct {
	kind, nodeID             string
	compliant, nonCompliant  raftstore.SeverityCounts
	status                   types.ComplianceStatus
	severity                 types.ComplianceSeverity
	executedAt               time.Time // zero where nothing was
	executionID, executionBy string
	patchGroup               string
}

// patchCompliance is a node's compliance of type Patch. Whoever only asks for
// compliant and not compliant must not take silence for compliance: a node whose
// patches are not known, or no longer, is not compliant, of no severity.
func patchCompliance(n raftstore.Node, s *raftstore.PatchState, now time.Time, staleAfter time.Duration) resourceCompliance {
	r := resourceCompliance{
		kind: compliancePatch, nodeID: n.ID, status: types.ComplianceStatusNonCompliant, severity: types.ComplianceSeverityUnspecified,
		patchGroup: raftstore.PatchGroupOf(n.Tags),
	}
	if s != nil && s.Known() {
		r.compliant, r.nonCompliant = s.Compliant, s.NonCompliant
		r.executedAt, r.executionID, r.executionBy = s.EndedAt, s.CommandID, "Command"
		if r.nonCompliant.Total() > 0 {
			r.severity = types.ComplianceSeverity(s.OverallSeverity)
		}
	}
	if status, _ := judgePatches(s, now, staleAfter); status == patchCompliant {
		r.status = types.ComplianceStatusCompliant
	}
	return r
}

func customCompliance(c raftstore.Compliance, group string) resourceCompliance {
	r := resourceCompliance{
		kind: c.Type, nodeID: c.NodeID, compliant: c.Compliant, nonCompliant: c.NonCompliant, status: types.ComplianceStatusCompliant,
		severity: gravest(c.NonCompliant), executedAt: c.ExecutionTime, executionID: c.ExecutionID, executionBy: c.ExecutionType, patchGroup: group,
	}
	if c.NonCompliant.Total() > 0 {
		r.status = types.ComplianceStatusNonCompliant
	}
	return r
}

// complianceKinds are the types of compliance that there are, in order. Patch is one
// as soon as any node has been scanned.
func (c *call) complianceKinds() ([]string, error) {
	kinds := raftstore.ComplianceTypes(c)
	any := false
	err := raftstore.ScanPatchStates(c, "", func(raftstore.PatchState) bool {
		any = true
		return false
	})
	if any {
		kinds = append(kinds, compliancePatch)
	}
	slices.Sort(kinds)
	return kinds, err
}

// scanCompliance calls fn for each node with a type of compliance, from node start
// on, until fn returns false.
func (c *call) scanCompliance(kind, start string, fn func(resourceCompliance) bool) error {
	var failed error
	err := raftstore.ScanNodes(c, start, func(n raftstore.Node) bool {
		if kind == compliancePatch {
			state, err := raftstore.GetPatchState(c, n.ID)
			switch {
			case errors.Is(err, raftstore.ErrNotFound):
				return fn(patchCompliance(n, nil, c.now, c.face.cfg.PatchStaleAfter))
			case err != nil:
				failed = err
				return false
			}
			return fn(patchCompliance(n, &state, c.now, c.face.cfg.PatchStaleAfter))
		}
		record, err := raftstore.GetCompliance(c, kind, n.ID)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
			return true
		case err != nil:
			failed = err
			return false
		}
		return fn(customCompliance(record, raftstore.PatchGroupOf(n.Tags)))
	})
	return errors.Join(err, failed)
}

// summaryFilters are the filters of both summaries.
var summaryFilters = []string{"ComplianceType", "ResourceId", "ResourceType", "Status", "OverallSeverity", "ExecutionType", "ExecutionId", "PatchGroup"}

func (r *resourceCompliance) fits(filters []types.ComplianceStringFilter) bool {
	return complianceFits(filters, func(key string) string {
		switch key {
		case "ComplianceType":
			return r.kind
		case "ResourceId":
			return r.nodeID
		case "ResourceType":
			return resourceManagedInstance
		case "Status":
			return string(r.status)
		case "OverallSeverity":
			return string(r.severity)
		case "ExecutionType":
			return r.executionBy
		case "ExecutionId":
			return r.executionID
		}
		return r.patchGroup
	})
}

func (c *call) listComplianceSummaries(in *ssm.ListComplianceSummariesInput) (*ssm.ListComplianceSummariesOutput, error) {
	if err := checkComplianceFilters(in.Filters, summaryFilters); err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	kinds, err := c.complianceKinds()
	if err != nil {
		return nil, err
	}
	out := &ssm.ListComplianceSummariesOutput{ComplianceSummaryItems: []types.ComplianceSummaryItem{}}
	for _, kind := range kinds {
		if kind < start {
			continue
		}
		var compliant, nonCompliant raftstore.SeverityCounts
		err := c.scanCompliance(kind, "", func(r resourceCompliance) bool {
			switch {
			case !r.fits(in.Filters):
			case r.status == types.ComplianceStatusCompliant:
				addSeverity(&compliant, string(r.severity))
			default:
				addSeverity(&nonCompliant, string(r.severity))
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		if compliant.Total()+nonCompliant.Total() == 0 {
			continue
		}
		if len(out.ComplianceSummaryItems) == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, kind)
			return out, err
		}
		out.ComplianceSummaryItems = append(out.ComplianceSummaryItems, types.ComplianceSummaryItem{
			ComplianceType: aws.String(kind), CompliantSummary: compliantSummary(compliant), NonCompliantSummary: nonCompliantSummary(nonCompliant),
		})
	}
	return out, nil
}

func (c *call) listResourceComplianceSummaries(in *ssm.ListResourceComplianceSummariesInput) (*ssm.ListResourceComplianceSummariesOutput, error) {
	if err := checkComplianceFilters(in.Filters, summaryFilters); err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	kinds, err := c.complianceKinds()
	if err != nil {
		return nil, err
	}
	out := &ssm.ListResourceComplianceSummariesOutput{ResourceComplianceSummaryItems: []types.ResourceComplianceSummaryItem{}}
	next := ""
	for _, kind := range kinds {
		position := func(nodeID string) string { return kind + "\x00" + nodeID }
		err := c.scanCompliance(kind, "", func(r resourceCompliance) bool {
			if position(r.nodeID) < start || !r.fits(in.Filters) {
				return true
			}
			if len(out.ResourceComplianceSummaryItems) == pageSize(in.MaxResults) {
				next = position(r.nodeID)
				return false
			}
			out.ResourceComplianceSummaryItems = append(out.ResourceComplianceSummaryItems, r.describe())
			return true
		})
		if err != nil {
			return nil, err
		}
		if next != "" {
			break
		}
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

func (r resourceCompliance) describe() types.ResourceComplianceSummaryItem {
	out := types.ResourceComplianceSummaryItem{
		ComplianceType: aws.String(r.kind), ResourceType: aws.String(resourceManagedInstance), ResourceId: aws.String(r.nodeID),
		Status: r.status, OverallSeverity: r.severity,
		CompliantSummary: compliantSummary(r.compliant), NonCompliantSummary: nonCompliantSummary(r.nonCompliant),
	}
	if !r.executedAt.IsZero() {
		out.ExecutionSummary = executionSummary(r.executedAt, r.executionID, r.executionBy)
	}
	return out
}

func compliantSummary(c raftstore.SeverityCounts) *types.CompliantSummary {
	return &types.CompliantSummary{CompliantCount: int32(c.Total()), SeveritySummary: severitySummary(c)}
}

func nonCompliantSummary(c raftstore.SeverityCounts) *types.NonCompliantSummary {
	return &types.NonCompliantSummary{NonCompliantCount: int32(c.Total()), SeveritySummary: severitySummary(c)}
}

func severitySummary(c raftstore.SeverityCounts) *types.SeveritySummary {
	return &types.SeveritySummary{
		CriticalCount: int32(c.Critical), HighCount: int32(c.High), MediumCount: int32(c.Medium), LowCount: int32(c.Low),
		InformationalCount: int32(c.Informational), UnspecifiedCount: int32(c.Unspecified),
	}
}
