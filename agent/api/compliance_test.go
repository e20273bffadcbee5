package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

func TestCompliance(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	entry := func(id, status, severity string) types.ComplianceItemEntry {
		return types.ComplianceItemEntry{Id: &id, Title: aws.String("title of " + id), Status: types.ComplianceStatus(status), Severity: types.ComplianceSeverity(severity), Details: map[string]string{"k": "v"}}
	}
	put := func(kind string, change func(*ssm.PutComplianceItemsInput), entries ...types.ComplianceItemEntry) error {
		in := &ssm.PutComplianceItemsInput{
			ResourceId: aws.String(memberID), ResourceType: aws.String("ManagedInstance"), ComplianceType: &kind,
			ExecutionSummary: &types.ComplianceExecutionSummary{ExecutionTime: aws.Time(time.Unix(1700000000, 0)), ExecutionId: aws.String("run"), ExecutionType: aws.String("Command")},
			Items:            append([]types.ComplianceItemEntry{}, entries...),
		}
		if change != nil {
			change(in)
		}
		_, err := c.PutComplianceItems(t.Context(), in)
		return err
	}
	items := func(filters ...types.ComplianceStringFilter) string {
		t.Helper()
		text := ""
		pages := ssm.NewListComplianceItemsPaginator(c, &ssm.ListComplianceItemsInput{ResourceIds: []string{memberID}, ResourceTypes: []string{"ManagedInstance"}, Filters: filters, MaxResults: aws.Int32(1)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range page.ComplianceItems {
				text += fmt.Sprintf("%s/%s %s %s;", *i.ComplianceType, *i.Id, i.Status, i.Severity)
			}
		}
		return text
	}
	summaries := func(filters ...types.ComplianceStringFilter) string {
		t.Helper()
		out, err := c.ListComplianceSummaries(t.Context(), &ssm.ListComplianceSummariesInput{Filters: filters})
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, s := range out.ComplianceSummaryItems {
			text += fmt.Sprintf("%s %d/%d;", *s.ComplianceType, s.CompliantSummary.CompliantCount, s.NonCompliantSummary.NonCompliantCount)
		}
		return text
	}
	filter := func(key string, operator types.ComplianceQueryOperatorType, values ...string) types.ComplianceStringFilter {
		return types.ComplianceStringFilter{Key: &key, Values: values, Type: operator}
	}
	if got := summaries(); got != "" {
		t.Errorf("of nothing the summary is %s", got)
	}
	if err := put("Custom:AV", nil, entry("1", "COMPLIANT", "LOW"), entry("2", "NON_COMPLIANT", "HIGH")); err != nil {
		t.Fatal(err)
	}
	if err := put("Custom:Disk", nil, entry("1", "COMPLIANT", "LOW")); err != nil {
		t.Fatal(err)
	}
	if got := items(); got != "Custom:AV/1 COMPLIANT LOW;Custom:AV/2 NON_COMPLIANT HIGH;Custom:Disk/1 COMPLIANT LOW;" {
		t.Errorf("items %s", got)
	}
	for want, f := range map[string]types.ComplianceStringFilter{
		"Custom:AV/2 NON_COMPLIANT HIGH;":                           filter("Status", types.ComplianceQueryOperatorTypeEqual, "NON_COMPLIANT"),
		"Custom:Disk/1 COMPLIANT LOW;":                              filter("ComplianceType", types.ComplianceQueryOperatorTypeNotEqual, "Custom:AV", "x"),
		"Custom:AV/1 COMPLIANT LOW;Custom:Disk/1 COMPLIANT LOW;":    filter("Severity", types.ComplianceQueryOperatorTypeBeginWith, "LO"),
		"Custom:AV/1 COMPLIANT LOW;Custom:AV/2 NON_COMPLIANT HIGH;": filter("ComplianceType", types.ComplianceQueryOperatorTypeLessThan, "Custom:B"),
	} {
		if got := items(f); got != want {
			t.Errorf("%s %s %v: %s", *f.Key, f.Type, f.Values, got)
		}
	}
	if got := summaries(); got != "Custom:AV 0/1;Custom:Disk 1/0;" {
		t.Errorf("summaries %s", got)
	}
	if got := summaries(filter("Status", "", "COMPLIANT")); got != "Custom:Disk 1/0;" {
		t.Errorf("of what is compliant %s", got)
	}
	// COMPLETE replaces all; the same hash again changes nothing.
	hash := func(h string) func(*ssm.PutComplianceItemsInput) {
		return func(in *ssm.PutComplianceItemsInput) { in.ItemContentHash = &h }
	}
	if err := put("Custom:AV", hash("h1"), entry("3", "COMPLIANT", "LOW")); err != nil {
		t.Fatal(err)
	}
	if err := put("Custom:AV", hash("h1"), entry("4", "COMPLIANT", "LOW")); err != nil {
		t.Fatal(err)
	}
	if got := items(filter("ComplianceType", "", "Custom:AV")); got != "Custom:AV/3 COMPLIANT LOW;" {
		t.Errorf("after COMPLETE %s", got)
	}
	partial := func(in *ssm.PutComplianceItemsInput) { in.UploadType = types.ComplianceUploadTypePartial }
	for _, e := range []types.ComplianceItemEntry{entry("a", "COMPLIANT", "LOW"), entry("b", "COMPLIANT", "LOW"), entry("a", "NON_COMPLIANT", "HIGH")} {
		if err := put("Association", partial, e); err != nil {
			t.Fatal(err)
		}
	}
	if got := items(filter("ComplianceType", "", "Association")); got != "Association/b COMPLIANT LOW;Association/a NON_COMPLIANT HIGH;" {
		t.Errorf("after PARTIAL %s", got)
	}

	wantCode(t, put("Custom:AV", partial, entry("1", "COMPLIANT", "LOW")), "ValidationException", "PARTIAL")
	wantCode(t, put("Patch", nil, entry("1", "COMPLIANT", "LOW")), "InvalidItemContentException", "AWS-RunPatchBaseline")
	wantCode(t, put("Custom:AV", nil, entry("1", "COMPLIANT", "LOW"), entry("1", "COMPLIANT", "LOW")), "InvalidItemContentException", "twice")
	wantCode(t, put("Custom:AV", func(in *ssm.PutComplianceItemsInput) { in.ResourceType = aws.String("Bucket") }), "InvalidResourceType", "")
	wantCode(t, put("Custom:AV", func(in *ssm.PutComplianceItemsInput) { in.ResourceId = aws.String(nodeID(99)) }), "InvalidResourceId", "")
	many := make([]types.ComplianceItemEntry, 5000)
	for i := range many {
		many[i] = entry(fmt.Sprint("item-", i), "COMPLIANT", "LOW")
	}
	if err := put("Custom:AV", nil, many...); err != nil {
		t.Errorf("5000 items: %v", err)
	}
	large := entry("1", "COMPLIANT", "LOW")
	large.Details["k"] = strings.Repeat("x", 4096)
	for i := range 10 {
		large.Details[fmt.Sprint(i)] = large.Details["k"]
	}
	wantCode(t, put("Custom:AV", nil, large), "ItemSizeLimitExceededException", "32 KiB")
	for i := range 8 {
		if err := put(fmt.Sprintf("Custom:T%d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, put("Custom:T9", nil), "ComplianceTypeCountLimitExceededException", "Custom:AV")
	_, err := c.ListComplianceItems(t.Context(), &ssm.ListComplianceItemsInput{Filters: []types.ComplianceStringFilter{filter("Colour", "", "red")}})
	wantCode(t, err, "InvalidFilter", "Colour")
}

func TestJudgePatches(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	at := func(days int) raftstore.PatchState {
		return raftstore.PatchState{EndedAt: now.AddDate(0, 0, -days), MetadataAt: now.AddDate(0, 0, -days)}
	}
	change := func(s raftstore.PatchState, fn func(*raftstore.PatchState)) *raftstore.PatchState {
		fn(&s)
		return &s
	}
	missing := func(s *raftstore.PatchState) { s.Counts.Missing, s.NonCompliant.High = 2, 2 }
	for name, test := range map[string]struct {
		state *raftstore.PatchState
		want  patchStatus
		says  string
	}{
		"never":                   {nil, patchUnknown, "never"},
		"failed only":             {&raftstore.PatchState{Problem: "busy", ProblemAt: now}, patchUnknown, "busy"},
		"good":                    {change(at(1), func(*raftstore.PatchState) {}), patchCompliant, ""},
		"at the edge":             {change(at(7), func(*raftstore.PatchState) {}), patchCompliant, ""},
		"old":                     {change(at(8), func(*raftstore.PatchState) {}), patchStale, "8 days"},
		"old and bad":             {change(at(8), missing), patchStale, "8 days"},
		"bad":                     {change(at(1), missing), patchNonCompliant, "2 missing"},
		"old metadata":            {change(at(1), func(s *raftstore.PatchState) { s.MetadataAt = now.AddDate(0, 0, -30) }), patchStale, "30 days"},
		"half read":               {change(at(1), func(s *raftstore.PatchState) { s.Incomplete = true }), patchUnknown, "source"},
		"half read and bad":       {change(at(1), func(s *raftstore.PatchState) { s.Incomplete = true; missing(s) }), patchNonCompliant, "missing"},
		"ended with a problem":    {change(at(1), func(s *raftstore.PatchState) { s.Problem, s.ProblemAt = "disk", s.EndedAt }), patchUnknown, "disk"},
		"a problem before":        {change(at(1), func(s *raftstore.PatchState) { s.Problem, s.ProblemAt = "disk", now.AddDate(0, 0, -2) }), patchCompliant, ""},
		"waits for a reboot only": {change(at(1), func(s *raftstore.PatchState) { s.Counts.InstalledPendingReboot, s.NonCompliant.Low = 1, 1 }), patchNonCompliant, "reboot"},
	} {
		if got, why := judgePatches(test.state, now, DefaultPatchStaleAfter); got != test.want || !strings.Contains(why, test.says) {
			t.Errorf("%s: %s %q, want %s saying %q", name, got, why, test.want, test.says)
		}
	}
}
