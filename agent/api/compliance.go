package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

const (
	codeInvalidItem         = "InvalidItemContentException"
	codeItemSize            = "ItemSizeLimitExceededException"
	codeTotalSize           = "TotalSizeLimitExceededException"
	codeComplianceTypes     = "ComplianceTypeCountLimitExceededException"
	codeInvalidResourceType = "InvalidResourceType"

	compliancePatch       = "Patch"
	complianceAssociation = "Association"
	complianceCustom      = "Custom:"

	// maxComplianceTypes is Systems Manager's number of custom types.
	maxComplianceTypes = 10
	// maxComplianceItem is how many bytes of JSON one item may have.
	maxComplianceItem = 32 << 10
)

// putComplianceItems keeps what somebody else has found out of a node.
func (c *call) putComplianceItems(in *ssm.PutComplianceItemsInput) (*ssm.PutComplianceItemsOutput, error) {
	id, kind := aws.ToString(in.ResourceId), aws.ToString(in.ComplianceType)
	if t := aws.ToString(in.ResourceType); t != resourceManagedInstance {
		return nil, refuse(codeInvalidResourceType, "The resource type isn't valid: compliance is kept of nodes (%s), not of %s.", resourceManagedInstance, t)
	}
	if _, err := raftstore.GetNode(c, id); errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidResource, "The resource ID isn't valid: %s is not enrolled in this mesh.", id)
	} else if err != nil {
		return nil, err
	}
	if kind == compliancePatch {
		return nil, refuse(codeInvalidItem, "The compliance type Patch comes from the operations of AWS-RunPatchBaseline. Use a type of your own, as %sAVCheck.", complianceCustom)
	}
	partial := in.UploadType == types.ComplianceUploadTypePartial
	if partial && kind != complianceAssociation {
		return nil, refuse(codeValidation, "The upload type PARTIAL is for the compliance type %s only: give all items and COMPLETE.", complianceAssociation)
	}
	items, err := complianceItems(in.Items)
	if err != nil {
		return nil, err
	}
	record, err := raftstore.GetCompliance(c, kind, id)
	switch {
	case errors.Is(err, raftstore.ErrNotFound):
		if err := c.checkComplianceTypes(kind); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	}
	hash := aws.ToString(in.ItemContentHash)
	if record.ModifyIndex != 0 && hash != "" && hash == record.ContentHash {
		return &ssm.PutComplianceItemsOutput{}, nil // as in Systems Manager: it is known
	}
	if partial && record.ModifyIndex != 0 {
		kept, err := record.Items()
		if err != nil {
			return nil, err
		}
		items = mergeItems(kept, items)
	}
	s := in.ExecutionSummary
	record.NodeID, record.Type, record.ContentHash, record.UpdatedAt = id, kind, hash, c.now
	record.ExecutionTime, record.ExecutionID, record.ExecutionType = aws.ToTime(s.ExecutionTime).UTC(), aws.ToString(s.ExecutionId), aws.ToString(s.ExecutionType)
	record.Compliant, record.NonCompliant = countItems(items)
	if err := record.SetItems(items); errors.Is(err, raftstore.ErrComplianceTooLarge) {
		return nil, refuse(codeTotalSize, "The size of the items has exceeded the limit: a node has %d KiB for a compliance type, compressed.", raftstore.MaxCompliance>>10)
	} else if err != nil {
		return nil, err
	}
	c.txn.PutCompliance(record)
	c.resource = id
	return &ssm.PutComplianceItemsOutput{}, nil
}

// maskItems shows of the items in the audit log their hash alone: they are many.
func maskItems(body []byte) json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil
	}
	sum := sha256.Sum256(members["Items"])
	shown, err := json.Marshal("sha256:" + hex.EncodeToString(sum[:]))
	if err != nil {
		return nil
	}
	members["Items"] = shown
	masked, err := json.Marshal(members)
	if err != nil {
		return nil
	}
	return masked
}

// checkComplianceTypes refuses one custom type too many.
func (c *call) checkComplianceTypes(kind string) error {
	custom := slices.DeleteFunc(raftstore.ComplianceTypes(c), func(t string) bool { return t == complianceAssociation })
	if kind != complianceAssociation && !slices.Contains(custom, kind) && len(custom) >= maxComplianceTypes {
		return refuse(codeComplianceTypes, "You specified too many custom compliance types: there are at most %d, and these are in use: %s.", maxComplianceTypes, strings.Join(custom, ", "))
	}
	return nil
}

func complianceItems(entries []types.ComplianceItemEntry) ([]raftstore.ComplianceItem, error) {
	items := make([]raftstore.ComplianceItem, 0, len(entries))
	seen := map[string]bool{}
	for _, e := range entries {
		item := raftstore.ComplianceItem{
			ID: aws.ToString(e.Id), Title: aws.ToString(e.Title), Severity: string(e.Severity), Status: string(e.Status), Details: e.Details,
		}
		if item.ID != "" && seen[item.ID] {
			return nil, refuse(codeInvalidItem, "The item %q is given twice.", item.ID)
		}
		seen[item.ID] = true
		size, err := json.Marshal(item)
		if err != nil {
			return nil, err
		}
		if len(size) > maxComplianceItem {
			return nil, refuse(codeItemSize, "The item %q has exceeded the limit of %d KiB.", item.ID, maxComplianceItem>>10)
		}
		items = append(items, item)
	}
	return items, nil
}

// mergeItems replaces the items of the same ids.
func mergeItems(kept, items []raftstore.ComplianceItem) []raftstore.ComplianceItem {
	merged := slices.DeleteFunc(kept, func(k raftstore.ComplianceItem) bool {
		return slices.ContainsFunc(items, func(i raftstore.ComplianceItem) bool { return i.ID == k.ID })
	})
	return append(merged, items...)
}

func countItems(items []raftstore.ComplianceItem) (compliant, nonCompliant raftstore.SeverityCounts) {
	for _, i := range items {
		if i.Status == string(types.ComplianceStatusCompliant) {
			addSeverity(&compliant, i.Severity)
		} else {
			addSeverity(&nonCompliant, i.Severity)
		}
	}
	return compliant, nonCompliant
}

func addSeverity(c *raftstore.SeverityCounts, severity string) {
	switch types.ComplianceSeverity(severity) {
	case types.ComplianceSeverityCritical:
		c.Critical++
	case types.ComplianceSeverityHigh:
		c.High++
	case types.ComplianceSeverityMedium:
		c.Medium++
	case types.ComplianceSeverityLow:
		c.Low++
	case types.ComplianceSeverityInformational:
		c.Informational++
	default:
		c.Unspecified++
	}
}

// gravest is the gravest level that is counted, UNSPECIFIED for none.
func gravest(c raftstore.SeverityCounts) types.ComplianceSeverity {
	for _, level := range []struct {
		count int
		name  types.ComplianceSeverity
	}{
		{c.Critical, types.ComplianceSeverityCritical}, {c.High, types.ComplianceSeverityHigh}, {c.Medium, types.ComplianceSeverityMedium},
		{c.Low, types.ComplianceSeverityLow}, {c.Informational, types.ComplianceSeverityInformational},
	} {
		if level.count > 0 {
			return level.name
		}
	}
	return types.ComplianceSeverityUnspecified
}

// itemFilters are the filters of ListComplianceItems; what is in Details has its own
// name.
var itemFilters = []string{
	"ComplianceType", "ResourceId", "ResourceType", "Id", "Title", "Status", "Severity", "ExecutionId", "ExecutionType", "ExecutionTime",
	"PatchGroup", "PatchBaselineId", "PatchState", "PatchSeverity", "Classification",
}

func (c *call) listComplianceItems(in *ssm.ListComplianceItemsInput) (*ssm.ListComplianceItemsOutput, error) {
	if err := checkComplianceFilters(in.Filters, itemFilters); err != nil {
		return nil, err
	}
	for _, t := range in.ResourceTypes {
		if t != resourceManagedInstance {
			return nil, refuse(codeInvalidResourceType, "The resource type isn't valid: compliance is kept of nodes (%s), not of %s.", resourceManagedInstance, t)
		}
	}
	if len(in.ResourceIds) > 1 {
		return nil, refuse(codeInvalidResource, "Give one node in ResourceIds, or none for all.")
	}
	for _, id := range in.ResourceIds {
		if _, err := raftstore.GetNode(c, id); errors.Is(err, raftstore.ErrNotFound) {
			return nil, refuse(codeInvalidResource, "The resource ID isn't valid: %s is not enrolled in this mesh.", id)
		} else if err != nil {
			return nil, err
		}
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	// A page begins at an item of a node, by its number.
	node, number, _ := strings.Cut(start, "/")
	from, _ := strconv.Atoi(number)
	out := &ssm.ListComplianceItemsOutput{ComplianceItems: []types.ComplianceItem{}}
	next := ""
	var failed error
	err = raftstore.ScanNodes(c, node, func(n raftstore.Node) bool {
		if len(in.ResourceIds) == 1 && n.ID != in.ResourceIds[0] {
			return true
		}
		var items []types.ComplianceItem
		if items, failed = c.itemsOf(n.ID); failed != nil {
			return false
		}
		for i := range items {
			if n.ID == node && i < from || !itemFits(in.Filters, &items[i]) {
				continue
			}
			if len(out.ComplianceItems) == pageSize(in.MaxResults) {
				next = n.ID + "/" + strconv.Itoa(i)
				return false
			}
			out.ComplianceItems = append(out.ComplianceItems, items[i])
		}
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// itemsOf are all items of a node: patches, then the other types, each in its order.
func (c *call) itemsOf(nodeID string) ([]types.ComplianceItem, error) {
	var all []types.ComplianceItem
	state, err := c.patchState(nodeID)
	if err != nil {
		return nil, err
	}
	if state != nil {
		list, err := raftstore.GetPatchList(c, nodeID)
		if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
			return nil, err
		}
		for i := range list.Patches {
			all = append(all, patchItem(nodeID, *state, &list.Patches[i]))
		}
	}
	for _, kind := range raftstore.ComplianceTypes(c) {
		record, err := raftstore.GetCompliance(c, kind, nodeID)
		if errors.Is(err, raftstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		items, err := record.Items()
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			all = append(all, types.ComplianceItem{
				ComplianceType: aws.String(kind), ResourceType: aws.String(resourceManagedInstance), ResourceId: aws.String(nodeID),
				Id: aws.String(i.ID), Title: aws.String(i.Title), Severity: types.ComplianceSeverity(i.Severity), Status: types.ComplianceStatus(i.Status),
				ExecutionSummary: executionSummary(record.ExecutionTime, record.ExecutionID, record.ExecutionType), Details: i.Details,
			})
		}
	}
	return all, nil
}

// patchItem is a patch as an item of compliance.
func patchItem(nodeID string, s raftstore.PatchState, p *raftstore.PatchEntry) types.ComplianceItem {
	shown := describePatch(p)
	status := types.ComplianceStatusNonCompliant
	if patcher.CompliantState(shown.State) {
		status = types.ComplianceStatusCompliant
	}
	severity := types.ComplianceSeverity(p.ComplianceLevel)
	if severity == "" {
		severity = types.ComplianceSeverityUnspecified
	}
	details := map[string]string{
		"Classification": *shown.Classification, "PatchSeverity": *shown.Severity, "PatchState": p.State,
		"PatchBaselineId": s.BaselineID, "PatchGroup": s.PatchGroup, "InstalledTime": "",
	}
	if !p.InstalledAt.IsZero() {
		details["InstalledTime"] = p.InstalledAt.UTC().Format(time.RFC3339)
	}
	if shown.CVEIds != nil {
		details["CVEIds"] = *shown.CVEIds
	}
	return types.ComplianceItem{
		ComplianceType: aws.String(compliancePatch), ResourceType: aws.String(resourceManagedInstance), ResourceId: aws.String(nodeID),
		Id: shown.KBId, Title: shown.Title, Severity: severity, Status: status,
		ExecutionSummary: executionSummary(s.EndedAt, s.CommandID, "Command"), Details: details,
	}
}

func executionSummary(at time.Time, id, kind string) *types.ComplianceExecutionSummary {
	return &types.ComplianceExecutionSummary{ExecutionTime: &at, ExecutionId: optional(id), ExecutionType: optional(kind)}
}

func itemFits(filters []types.ComplianceStringFilter, i *types.ComplianceItem) bool {
	return complianceFits(filters, func(key string) string {
		switch key {
		case "ComplianceType":
			return aws.ToString(i.ComplianceType)
		case "ResourceId":
			return aws.ToString(i.ResourceId)
		case "ResourceType":
			return aws.ToString(i.ResourceType)
		case "Id":
			return aws.ToString(i.Id)
		case "Title":
			return aws.ToString(i.Title)
		case "Status":
			return string(i.Status)
		case "Severity":
			return string(i.Severity)
		case "ExecutionId":
			return aws.ToString(i.ExecutionSummary.ExecutionId)
		case "ExecutionType":
			return aws.ToString(i.ExecutionSummary.ExecutionType)
		case "ExecutionTime":
			return aws.ToTime(i.ExecutionSummary.ExecutionTime).UTC().Format(time.RFC3339)
		}
		return i.Details[key]
	})
}

func checkComplianceFilters(filters []types.ComplianceStringFilter, keys []string) error {
	for _, f := range filters {
		key := aws.ToString(f.Key)
		if !slices.Contains(keys, key) {
			return refuse(codeInvalidFilter, "The filter key %q isn't valid: use %s.", key, strings.Join(keys, ", "))
		}
		if len(f.Values) == 0 {
			return refuse(codeInvalidFilter, "The filter %s has no values.", key)
		}
	}
	return nil
}

// complianceFits reports whether all filters fit; the values of one are alternatives.
func complianceFits(filters []types.ComplianceStringFilter, have func(key string) string) bool {
	for _, f := range filters {
		value := have(aws.ToString(f.Key))
		is := func(fit func(v string) bool) bool { return slices.ContainsFunc(f.Values, fit) }
		fit := false
		switch f.Type {
		case types.ComplianceQueryOperatorTypeNotEqual:
			fit = !slices.Contains(f.Values, value)
		case types.ComplianceQueryOperatorTypeBeginWith:
			fit = is(func(v string) bool { return strings.HasPrefix(value, v) })
		case types.ComplianceQueryOperatorTypeLessThan:
			fit = is(func(v string) bool { return value < v })
		case types.ComplianceQueryOperatorTypeGreaterThan:
			fit = is(func(v string) bool { return value > v })
		default:
			fit = slices.Contains(f.Values, value)
		}
		if !fit {
			return false
		}
	}
	return true
}
