package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// echoEverywhere is an association that the mesh takes.
func echoEverywhere() ssm.CreateAssociationInput {
	return ssm.CreateAssociationInput{
		Name: aws.String(shellDocument), AssociationName: aws.String("state"), Parameters: map[string][]string{"commands": {"echo"}},
		Targets: []types.Target{{Key: aws.String("InstanceIds"), Values: []string{"*"}}}, ScheduleExpression: aws.String("rate(1 hour)"),
		MaxErrors: aws.String("10%"), ComplianceSeverity: types.AssociationComplianceSeverityHigh,
		Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	}
}

func TestAssociations(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	in := echoEverywhere()
	made, err := c.CreateAssociation(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	d := made.AssociationDescription
	id := *d.AssociationId
	if *d.AssociationVersion != "1" || *d.Name != shellDocument || *d.DocumentVersion != "$DEFAULT" || *d.Overview.Status != "Pending" || *d.Overview.DetailedStatus != "Creating" ||
		*d.MaxErrors != "10%" || d.ComplianceSeverity != "HIGH" || d.Date == nil || d.LastExecutionDate != nil || d.Parameters["commands"][0] != "echo" {
		t.Errorf("made: %+v", d)
	}
	due := func() (causes []string) {
		b.read(func(r raftstore.Reader) error {
			return raftstore.ScanAssociationsDue(r, func(d raftstore.AssociationDue) bool {
				causes = append(causes, d.Cause+" "+d.At.Sub(*made.AssociationDescription.Date).Round(time.Minute).String())
				return true
			})
		})
		return causes
	}
	if got := due(); !slices.Equal(got, []string{"version-1 0s", "scheduled 1h0m0s"}) {
		t.Errorf("due: %v", got)
	}

	// An update replaces all but document and targets.
	changed, err := c.UpdateAssociation(t.Context(), &ssm.UpdateAssociationInput{AssociationId: &id, Parameters: map[string][]string{"commands": {"true"}}})
	if err != nil {
		t.Fatal(err)
	}
	d = changed.AssociationDescription
	if *d.AssociationVersion != "2" || *d.Name != shellDocument || len(d.Targets) != 1 || d.ScheduleExpression != nil || d.AssociationName != nil || d.MaxErrors != nil ||
		d.ComplianceSeverity != "" || d.Parameters["commands"][0] != "true" {
		t.Errorf("changed: %+v", d)
	}
	if got := due(); !slices.Equal(got, []string{"version-1 0s", "targets-2 0s", "version-2 0s"}) {
		t.Errorf("due after the change: %v", got)
	}
	_, err = c.UpdateAssociation(t.Context(), &ssm.UpdateAssociationInput{AssociationId: &id, AssociationVersion: aws.String("1")})
	wantCode(t, err, "InvalidAssociationVersion", "version 2")
	versions, err := c.ListAssociationVersions(t.Context(), &ssm.ListAssociationVersionsInput{AssociationId: &id, MaxResults: aws.Int32(1)})
	if err != nil || len(versions.AssociationVersions) != 1 || *versions.AssociationVersions[0].AssociationVersion != "2" || versions.NextToken == nil {
		t.Fatalf("versions: %+v, %v", versions, err)
	}
	versions, err = c.ListAssociationVersions(t.Context(), &ssm.ListAssociationVersionsInput{AssociationId: &id, MaxResults: aws.Int32(1), NextToken: versions.NextToken})
	if err != nil || len(versions.AssociationVersions) != 1 || *versions.AssociationVersions[0].MaxErrors != "10%" || versions.NextToken != nil {
		t.Errorf("the first version: %+v, %v", versions, err)
	}
	old, err := c.DescribeAssociation(t.Context(), &ssm.DescribeAssociationInput{AssociationId: &id, AssociationVersion: aws.String("1")})
	if err != nil || *old.AssociationDescription.AssociationName != "state" {
		t.Errorf("version 1: %+v, %v", old, err)
	}
	_, err = c.DescribeAssociation(t.Context(), &ssm.DescribeAssociationInput{AssociationId: &id, AssociationVersion: aws.String("7")})
	wantCode(t, err, "InvalidAssociationVersion", "version 2")

	if _, err := c.StartAssociationsOnce(t.Context(), &ssm.StartAssociationsOnceInput{AssociationIds: []string{id}}); err != nil {
		t.Error(err)
	}
	if got := due(); len(got) != 4 || !slices.ContainsFunc(got, func(c string) bool { return strings.HasPrefix(c, "once-") }) {
		t.Errorf("due after start-once: %v", got)
	}
	_, err = c.StartAssociationsOnce(t.Context(), &ssm.StartAssociationsOnceInput{AssociationIds: []string{id, id}})
	wantCode(t, err, "InvalidAssociation", "twice")

	tags, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingAssociation, ResourceId: &id})
	if err != nil || len(tags.TagList) != 1 || *tags.TagList[0].Key != "a" {
		t.Errorf("tags: %+v, %v", tags, err)
	}
	effective, err := c.DescribeEffectiveInstanceAssociations(t.Context(), &ssm.DescribeEffectiveInstanceAssociationsInput{InstanceId: aws.String(memberID)})
	if err != nil || len(effective.Associations) != 1 || *effective.Associations[0].AssociationId != id || !strings.Contains(*effective.Associations[0].Content, "schemaVersion") {
		t.Errorf("effective: %+v, %v", effective, err)
	}
	stands, err := c.DescribeInstanceAssociationsStatus(t.Context(), &ssm.DescribeInstanceAssociationsStatusInput{InstanceId: aws.String(memberID)})
	if err != nil || len(stands.InstanceAssociationStatusInfos) != 1 || *stands.InstanceAssociationStatusInfos[0].Status != "Associated" {
		t.Errorf("on a node: %+v, %v", stands, err)
	}

	if _, err := c.DeleteAssociation(t.Context(), &ssm.DeleteAssociationInput{AssociationId: &id}); err != nil {
		t.Fatal(err)
	}
	forgets := false
	b.read(func(r raftstore.Reader) error {
		return raftstore.ScanAssociationsDue(r, func(d raftstore.AssociationDue) bool {
			forgets = forgets || d.AssociationID == id && strings.HasPrefix(d.Cause, raftstore.AssociationTargets)
			return true
		})
	})
	if !forgets {
		t.Error("nothing is due that forgets how the deleted association stands on nodes")
	}
	for _, err := range []error{
		func() error {
			_, err := c.DeleteAssociation(t.Context(), &ssm.DeleteAssociationInput{AssociationId: &id})
			return err
		}(),
		func() error {
			_, err := c.DescribeAssociationExecutions(t.Context(), &ssm.DescribeAssociationExecutionsInput{AssociationId: &id})
			return err
		}(),
		func() error {
			_, err := c.StartAssociationsOnce(t.Context(), &ssm.StartAssociationsOnceInput{AssociationIds: []string{id}})
			return err
		}(),
	} {
		wantCode(t, err, "AssociationDoesNotExist", id)
	}
}

func TestAssociationRefusals(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	for name, test := range map[string]struct {
		change     func(*ssm.CreateAssociationInput)
		code, text string
	}{
		"no document":       {func(in *ssm.CreateAssociationInput) { in.Name = aws.String("No-Such") }, "InvalidDocument", "No-Such"},
		"no such version":   {func(in *ssm.CreateAssociationInput) { in.DocumentVersion = aws.String("9") }, "InvalidDocumentVersion", "9"},
		"no parameter":      {func(in *ssm.CreateAssociationInput) { in.Parameters = nil }, "InvalidParameters", "commands"},
		"unknown parameter": {func(in *ssm.CreateAssociationInput) { in.Parameters["no"] = []string{"x"} }, "InvalidParameters", "no"},
		"no targets":        {func(in *ssm.CreateAssociationInput) { in.Targets = nil }, "InvalidTarget", "all nodes"},
		"an unknown node":   {func(in *ssm.CreateAssociationInput) { in.Targets[0].Values = []string{"mi-ffffffffffffffff0"} }, "InvalidInstanceId", "mi-ffffffffffffffff0"},
		"a group":           {func(in *ssm.CreateAssociationInput) { in.Targets[0].Key = aws.String("resource-groups:Name") }, "InvalidTarget", "tag"},
		"a command's rest": {func(in *ssm.CreateAssociationInput) {
			in.Targets[0] = types.Target{Key: aws.String("mesh:unsuccessful"), Values: []string{"8a0bd0a6-5d0c-4a4e-9a43-0a1b2c3d4e5f"}}
		}, "InvalidTarget", "commands"},
		"a month":                  {func(in *ssm.CreateAssociationInput) { in.ScheduleExpression = aws.String("cron(0 2 ? JAN SUN *)") }, "InvalidSchedule", "character 12"},
		"too often":                {func(in *ssm.CreateAssociationInput) { in.ScheduleExpression = aws.String("rate(29 minutes)") }, "InvalidSchedule", "30 minutes"},
		"too seldom":               {func(in *ssm.CreateAssociationInput) { in.ScheduleExpression = aws.String("rate(31 days)") }, "InvalidSchedule", "31 days"},
		"only at times, by a rate": {func(in *ssm.CreateAssociationInput) { in.ApplyOnlyAtCronInterval = true }, "InvalidSchedule", "rate"},
		"only at no times":         {func(in *ssm.CreateAssociationInput) { in.ApplyOnlyAtCronInterval, in.ScheduleExpression = true, nil }, "InvalidSchedule", "never run"},
		"only at a past time": {func(in *ssm.CreateAssociationInput) {
			in.ApplyOnlyAtCronInterval, in.ScheduleExpression = true, aws.String("at(2020-01-01T00:00:00)")
		}, "InvalidSchedule", "never run"},
		"an offset of a rate":       {func(in *ssm.CreateAssociationInput) { in.ScheduleOffset = aws.Int32(1) }, "InvalidSchedule", "ScheduleOffset"},
		"an offset too wide":        {func(in *ssm.CreateAssociationInput) { in.ScheduleOffset = aws.Int32(7) }, "ValidationException", "scheduleOffset"},
		"a duration at all times":   {func(in *ssm.CreateAssociationInput) { in.Duration = aws.Int32(1) }, "ValidationException", "ApplyOnlyAtCronInterval"},
		"a duration too long":       {func(in *ssm.CreateAssociationInput) { in.Duration = aws.Int32(25) }, "ValidationException", "duration"},
		"no concurrency":            {func(in *ssm.CreateAssociationInput) { in.MaxConcurrency = aws.String("0") }, "ValidationException", "maxConcurrency"},
		"severity of a custom type": {func(in *ssm.CreateAssociationInput) { in.ComplianceSeverity = "INFORMATIONAL" }, "ValidationException", "complianceSeverity"},
		"a name too short":          {func(in *ssm.CreateAssociationInput) { in.AssociationName = aws.String("ab") }, "ValidationException", "associationName"},
		"a calendar":                {func(in *ssm.CreateAssociationInput) { in.CalendarNames = []string{"holidays"} }, "ValidationException", "calendar"},
		"S3": {func(in *ssm.CreateAssociationInput) {
			in.OutputLocation = &types.InstanceAssociationOutputLocation{S3Location: &types.S3OutputLocation{OutputS3BucketName: aws.String("bucket")}}
		}, "InvalidOutputLocation", ""},
		"target maps": {func(in *ssm.CreateAssociationInput) { in.TargetMaps = []map[string][]string{{"a": {"b"}}} }, "InvalidTargetMaps", "Automation"},
		"locations": {func(in *ssm.CreateAssociationInput) {
			in.TargetLocations = []types.TargetLocation{{Accounts: []string{"123456789012"}}}
		}, "InvalidTarget", "account"},
		"an alarm": {func(in *ssm.CreateAssociationInput) {
			in.AlarmConfiguration = &types.AlarmConfiguration{Alarms: []types.Alarm{{Name: aws.String("a")}}}
		}, "ValidationException", "alarm"},
		"a role": {func(in *ssm.CreateAssociationInput) {
			in.AssociationDispatchAssumeRole = aws.String("arn:aws:iam::123456789012:role/r")
		}, "ValidationException", "role"},
		"a reserved tag":          {func(in *ssm.CreateAssociationInput) { in.Tags[0].Key = aws.String("aws:x") }, "ValidationException", "aws:"},
		"one node and targets":    {func(in *ssm.CreateAssociationInput) { in.InstanceId = aws.String(memberID) }, "InvalidTarget", "exclude"},
		"one node and a schedule": {func(in *ssm.CreateAssociationInput) { in.InstanceId, in.Targets = aws.String(memberID), nil }, "ValidationException", "ScheduleExpression"},
		"one node and a new document": {func(in *ssm.CreateAssociationInput) {
			*in = ssm.CreateAssociationInput{Name: aws.String("AWS-RunPatchBaseline"), Parameters: map[string][]string{"Operation": {"Scan"}}, InstanceId: aws.String(memberID)}
		}, "ValidationException", "1.x"},
	} {
		in := echoEverywhere()
		test.change(&in)
		_, err := c.CreateAssociation(t.Context(), &in)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		t.Run(name, func(t *testing.T) { wantCode(t, err, test.code, test.text) })
	}
	listed, err := c.ListAssociations(t.Context(), &ssm.ListAssociationsInput{})
	if err != nil || len(listed.Associations) != 0 {
		t.Errorf("something was made: %+v, %v", listed, err)
	}
}

func TestAssociationLists(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	var entries []types.CreateAssociationBatchRequestEntry
	for i := range 5 {
		e := types.CreateAssociationBatchRequestEntry{Name: aws.String(shellDocument), AssociationName: aws.String(fmt.Sprintf("name-%d", i%2)),
			Parameters: map[string][]string{"commands": {"echo"}}, Targets: []types.Target{{Key: aws.String("InstanceIds"), Values: []string{memberID}}}}
		if i == 4 {
			e.Name = aws.String("No-Such")
		}
		entries = append(entries, e)
	}
	made, err := c.CreateAssociationBatch(t.Context(), &ssm.CreateAssociationBatchInput{Entries: entries})
	if err != nil || len(made.Successful) != 4 || len(made.Failed) != 1 || *made.Failed[0].Entry.Name != "No-Such" || made.Failed[0].Fault != "Client" || !strings.HasPrefix(*made.Failed[0].Message, "InvalidDocument: ") {
		t.Fatalf("made: %+v, %v", made, err)
	}
	list := func(filters ...types.AssociationFilter) (ids []string) {
		t.Helper()
		in := &ssm.ListAssociationsInput{MaxResults: aws.Int32(1)}
		if len(filters) > 0 {
			in.AssociationFilterList = filters
		}
		pages := ssm.NewListAssociationsPaginator(c, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range page.Associations {
				ids = append(ids, *a.AssociationId)
			}
		}
		return ids
	}
	filter := func(key types.AssociationFilterKey, value string) types.AssociationFilter {
		return types.AssociationFilter{Key: key, Value: &value}
	}
	for _, test := range []struct {
		filters []types.AssociationFilter
		want    int
	}{
		{nil, 4},
		{[]types.AssociationFilter{filter("InstanceId", memberID)}, 4},
		{[]types.AssociationFilter{filter("InstanceId", "mi-ffffffffffffffff0")}, 0},
		{[]types.AssociationFilter{filter("AssociationName", "name-1")}, 2},
		{[]types.AssociationFilter{filter("Name", shellDocument), filter("AssociationName", "name-0")}, 2},
		{[]types.AssociationFilter{filter("AssociationId", *made.Successful[0].AssociationId)}, 1},
		{[]types.AssociationFilter{filter("AssociationStatusName", "Pending")}, 4},
		{[]types.AssociationFilter{filter("AssociationStatusName", "Failed")}, 0},
		{[]types.AssociationFilter{filter("LastExecutedAfter", "2020-01-01T00:00:00Z")}, 0},
		{[]types.AssociationFilter{filter("ResourceGroupName", "g")}, 0},
	} {
		if got := list(test.filters...); len(got) != test.want {
			t.Errorf("%v: %v", test.filters, got)
		}
	}
	_, err = c.ListAssociations(t.Context(), &ssm.ListAssociationsInput{AssociationFilterList: []types.AssociationFilter{filter("LastExecutedAfter", "yesterday")}})
	wantCode(t, err, "ValidationException", "LastExecutedAfter")
	_, err = c.ListAssociations(t.Context(), &ssm.ListAssociationsInput{NextToken: aws.String("x")})
	wantCode(t, err, "InvalidNextToken", "")
	id := made.Successful[0].AssociationId
	_, err = c.DescribeAssociationExecutions(t.Context(), &ssm.DescribeAssociationExecutionsInput{AssociationId: id,
		Filters: []types.AssociationExecutionFilter{{Key: "Status", Value: aws.String("Success"), Type: "LESS_THAN"}}})
	wantCode(t, err, "ValidationException", "EQUAL")
	_, err = c.DescribeAssociationExecutionTargets(t.Context(), &ssm.DescribeAssociationExecutionTargetsInput{AssociationId: id, ExecutionId: id})
	wantCode(t, err, "AssociationExecutionDoesNotExist", *id)
	_, err = c.DescribeInstanceAssociationsStatus(t.Context(), &ssm.DescribeInstanceAssociationsStatusInput{InstanceId: aws.String("mi-ffffffffffffffff0")})
	wantCode(t, err, "InvalidInstanceId", "")
}

// Associations of schema 1.x are named by document and node, and have a status that
// others report.
func TestAssociationsOfOneNode(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	content := `{"schemaVersion":"1.2","description":"old","runtimeConfig":{"aws:runShellScript":{"properties":[{"id":"0.aws:runShellScript","runCommand":["echo"]}]}}}`
	_, err := c.CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: aws.String("Old"), Content: &content})
	if err != nil {
		t.Fatal(err)
	}
	in := &ssm.CreateAssociationInput{Name: aws.String("Old"), InstanceId: aws.String(memberID)}
	if _, err := c.CreateAssociation(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateAssociation(t.Context(), in)
	wantCode(t, err, "AssociationAlreadyExists", "")
	report := func(message string) error {
		_, err := c.UpdateAssociationStatus(t.Context(), &ssm.UpdateAssociationStatusInput{Name: in.Name, InstanceId: in.InstanceId,
			AssociationStatus: &types.AssociationStatus{Date: aws.Time(time.Unix(1, 0)), Name: "Success", Message: &message}})
		return err
	}
	if err := report("done"); err != nil {
		t.Error(err)
	}
	wantCode(t, report("done"), "StatusUnchanged", "")
	got, err := c.DescribeAssociation(t.Context(), &ssm.DescribeAssociationInput{Name: in.Name, InstanceId: in.InstanceId})
	if err != nil || *got.AssociationDescription.Status.Message != "done" {
		t.Errorf("described: %+v, %v", got, err)
	}
	_, err = c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: in.Name})
	wantCode(t, err, "AssociatedInstances", "")
	if _, err := c.DeleteAssociation(t.Context(), &ssm.DeleteAssociationInput{Name: in.Name, InstanceId: in.InstanceId}); err != nil {
		t.Error(err)
	}
	if _, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: in.Name}); err != nil {
		t.Error(err)
	}
}
