package api

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor"
	"fleetmesh/raftstore"
)

func send(t *testing.T, c *ssm.Client, in ssm.SendCommandInput) *types.Command {
	t.Helper()
	if in.DocumentName == nil {
		in.DocumentName = aws.String(shellDocument)
	}
	if in.Parameters == nil {
		in.Parameters = shell("true")
	}
	out, err := c.SendCommand(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return out.Command
}

func TestSendCommandStoresACommand(t *testing.T) {
	b := newBed(t)
	for _, url := range []string{b.leaderURL, b.memberURL} {
		before := time.Now().Add(-time.Second)
		got := send(t, b.ssm(url), ssm.SendCommandInput{
			InstanceIds: []string{memberID}, Comment: aws.String("why"), TimeoutSeconds: aws.Int32(60),
			Parameters: map[string][]string{"commands": {"echo hi"}, "executionTimeout": {"30"}},
		})
		if got.Status != types.CommandStatusPending || *got.StatusDetails != "Pending" || *got.DocumentName != shellDocument || *got.DocumentVersion != "1" ||
			*got.MaxConcurrency != "50" || *got.MaxErrors != "0" || *got.TimeoutSeconds != 60 || *got.Comment != "why" || got.TargetCount != 1 {
			t.Errorf("command %+v", got)
		}
		if d := got.ExpiresAfter.Sub(*got.RequestedDateTime); d != 90*time.Second {
			t.Errorf("expires after %s, want delivery plus execution, 90s", d)
		}
		if got.RequestedDateTime.Before(before) {
			t.Errorf("requested at %s", got.RequestedDateTime)
		}
		b.read(func(r raftstore.Reader) error {
			command, err := raftstore.GetCommand(r, *got.CommandId)
			if err != nil {
				return err
			}
			builtIn, _ := executor.BuiltInByName(shellDocument)
			if command.Caller != adminKeyID || command.Epoch != 1 || !strings.Contains(string(command.Input), "echo hi") ||
				len(command.Document) < len(builtIn.Content)/2 || command.DeliverUntil.Sub(command.RequestedAt) != time.Minute {
				t.Errorf("record %+v", command)
			}
			if ids := raftstore.ActiveCommands(r); len(ids) == 0 {
				t.Error("the command is not among the active ones")
			}
			return nil
		})
	}
}

func TestSendCommandRefusals(t *testing.T) {
	b := newBed(t)
	windows := testNode(3, nil)
	windows.PlatformType = "Windows"
	b.addNodes(windows)
	one := []string{memberID}
	tag := func(key string, values ...string) []types.Target {
		return []types.Target{{Key: &key, Values: values}}
	}
	for name, test := range map[string]struct {
		in         ssm.SendCommandInput
		code, says string
	}{
		"no document":            {ssm.SendCommandInput{DocumentName: aws.String("AWS-RunNothing"), InstanceIds: one}, "InvalidDocument", "AWS-RunNothing"},
		"foreign ARN":            {ssm.SendCommandInput{DocumentName: aws.String("arn:aws:s3:::document/AWS-RunShellScript"), InstanceIds: one}, "InvalidDocument", "ARN"},
		"no version":             {ssm.SendCommandInput{DocumentVersion: aws.String("2"), InstanceIds: one}, "InvalidDocumentVersion", "no version 2"},
		"wrong hash":             {ssm.SendCommandInput{DocumentHash: aws.String("00"), InstanceIds: one}, "InvalidDocument", "hash"},
		"no targets":             {ssm.SendCommandInput{}, "ValidationException", "InstanceIds or Targets"},
		"both":                   {ssm.SendCommandInput{InstanceIds: one, Targets: tag("tag:role", "web")}, "ValidationException", "exclude"},
		"twice":                  {ssm.SendCommandInput{InstanceIds: []string{memberID, memberID}}, "DuplicateInstanceId", ""},
		"unknown nodes":          {ssm.SendCommandInput{InstanceIds: []string{memberID, nodeID(99), nodeID(98)}}, "InvalidInstanceId", nodeID(99) + ", " + nodeID(98)},
		"unknown target node":    {ssm.SendCommandInput{Targets: tag("instanceids", nodeID(99))}, "InvalidInstanceId", nodeID(99)},
		"twice in a target":      {ssm.SendCommandInput{Targets: tag("InstanceIds", memberID, memberID)}, "DuplicateInstanceId", ""},
		"platform":               {ssm.SendCommandInput{InstanceIds: []string{windows.ID}}, "UnsupportedPlatformType", windows.ID},
		"resource group":         {ssm.SendCommandInput{Targets: tag("resource-groups:Name", "g")}, "InvalidTarget", "give the nodes of the group a tag and use tag:KEY"},
		"too many tag values":    {ssm.SendCommandInput{Targets: tag("tag:a", "1", "2", "3", "4", "5", "6")}, "InvalidTarget", "at most 5"},
		"no values":              {ssm.SendCommandInput{Targets: tag("tag:a")}, "InvalidTarget", "no values"},
		"six targets":            {ssm.SendCommandInput{Targets: append(tag("tag:a", "1"), append(tag("tag:b", "1"), append(tag("tag:c", "1"), append(tag("tag:d", "1"), append(tag("tag:e", "1"), tag("tag:f", "1")...)...)...)...)...)}, "ValidationException", "less than or equal to 5"},
		"unknown parameter":      {ssm.SendCommandInput{InstanceIds: one, Parameters: map[string][]string{"commands": {"x"}, "command": {"x"}}}, "InvalidParameters", `"command"`},
		"missing parameter":      {ssm.SendCommandInput{InstanceIds: one, Parameters: map[string][]string{}}, "InvalidParameters", `"commands"`},
		"too large":              {ssm.SendCommandInput{InstanceIds: one, Parameters: shell(strings.Repeat("x", 65<<10))}, "MaxDocumentSizeExceeded", "65536"},
		"too many escapes":       {ssm.SendCommandInput{InstanceIds: one, Parameters: shell(strings.Repeat("\x01", 60<<10))}, "MaxDocumentSizeExceeded", ""},
		"s3":                     {ssm.SendCommandInput{InstanceIds: one, OutputS3BucketName: aws.String("bucket")}, "InvalidOutputFolder", ""},
		"notification":           {ssm.SendCommandInput{InstanceIds: one, NotificationConfig: &types.NotificationConfig{NotificationArn: aws.String("arn:x")}}, "InvalidNotificationConfig", "notifications"},
		"role":                   {ssm.SendCommandInput{InstanceIds: one, ServiceRoleArn: aws.String("arn:aws:iam::123456789012:role/x")}, "InvalidRole", "roles"},
		"cloudwatch":             {ssm.SendCommandInput{InstanceIds: one, CloudWatchOutputConfig: &types.CloudWatchOutputConfig{CloudWatchOutputEnabled: true}}, "ValidationException", "CloudWatch"},
		"alarms":                 {ssm.SendCommandInput{InstanceIds: one, AlarmConfiguration: &types.AlarmConfiguration{Alarms: []types.Alarm{{Name: aws.String("a")}}}}, "ValidationException", "alarms"},
		"bad concurrency":        {ssm.SendCommandInput{InstanceIds: one, MaxConcurrency: aws.String("0")}, "ValidationException", "maxConcurrency"},
		"delivery time too long": {ssm.SendCommandInput{InstanceIds: one, TimeoutSeconds: aws.Int32(2592001)}, "ValidationException", "timeoutSeconds"},
	} {
		t.Run(name, func(t *testing.T) {
			in := test.in
			if in.DocumentName == nil {
				in.DocumentName = aws.String(shellDocument)
			}
			if in.Parameters == nil {
				in.Parameters = shell("true")
			}
			_, err := b.ssm(b.memberURL).SendCommand(t.Context(), &in)
			wantCode(t, err, test.code, test.says)
		})
	}
	b.read(func(r raftstore.Reader) error {
		if ids := raftstore.ActiveCommands(r); len(ids) != 0 {
			t.Errorf("refused requests left commands: %v", ids)
		}
		return nil
	})
}

func TestSendCommandTakesEveryGoodForm(t *testing.T) {
	b := newBed(t)
	builtIn, _ := executor.BuiltInByName(shellDocument)
	tag := func(key string, values ...string) types.Target { return types.Target{Key: &key, Values: values} }
	for _, in := range []ssm.SendCommandInput{
		{Targets: []types.Target{tag("tag:role", "web"), tag("tag-key", "a", "b")}},
		{Targets: []types.Target{tag("InstanceIds", "*")}},
		{Targets: []types.Target{tag("instanceids", memberID)}},
		{InstanceIds: []string{memberID}, DocumentVersion: aws.String("$LATEST")},
		{InstanceIds: []string{memberID}, Parameters: shell(strings.Repeat("x", 62<<10))},
		{InstanceIds: []string{memberID}, Parameters: shell(strings.Repeat("\x01", 15<<10))},
		{InstanceIds: []string{memberID}, DocumentVersion: aws.String("$DEFAULT"), MaxConcurrency: aws.String("10%"), MaxErrors: aws.String("0%")},
		{InstanceIds: []string{memberID}, DocumentVersion: aws.String("1"), DocumentHash: &builtIn.Hash, DocumentHashType: types.DocumentHashTypeSha256},
		{InstanceIds: []string{memberID}, DocumentName: aws.String("arn:aws:ssm:us-east-1::document/AWS-RunShellScript")},
		{InstanceIds: []string{memberID}, NotificationConfig: &types.NotificationConfig{}, CloudWatchOutputConfig: &types.CloudWatchOutputConfig{}},
	} {
		if got := send(t, b.ssm(b.leaderURL), in); *got.DocumentName != shellDocument {
			t.Errorf("document %q", *got.DocumentName)
		}
	}
}

// finish writes what agent/leader would: invocations and the command's state.
func (b *bed) finish(id string, status, details string, invocations ...raftstore.Invocation) {
	b.t.Helper()
	var txn raftstore.Txn
	b.read(func(r raftstore.Reader) error {
		command, err := raftstore.GetCommand(r, id)
		if err != nil {
			return err
		}
		state, err := raftstore.GetCommandState(r, id)
		if err != nil {
			return err
		}
		state.CompletedCount = 0
		state.Resolved, state.TargetCount, state.Status, state.StatusDetails = true, len(invocations), status, details
		for _, i := range invocations {
			i.CommandID, i.RequestedAt = id, command.RequestedAt
			if i.NodeName == "" {
				i.NodeName = "node"
			}
			if old, err := raftstore.GetInvocation(r, id, i.NodeID); err == nil {
				i.ModifyIndex = old.ModifyIndex
			}
			txn.PutInvocation(i)
			if i.Terminal() {
				state.CompletedCount++
			}
		}
		if len(invocations) > 0 && state.CompletedCount == len(invocations) {
			state.FinishedAt = time.Now()
		}
		txn.PutCommandState(state)
		return nil
	})
	b.apply(txn)
}

func ended(nodeID, status, details, stdout, stderr string, code int) raftstore.Invocation {
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return raftstore.Invocation{
		NodeID: nodeID, Status: status, StatusDetails: details, DispatchedAt: start, StartedAt: start, FinishedAt: start.Add(1500 * time.Millisecond),
		Plugins: []raftstore.PluginResult{{
			Name: "aws:runShellScript", Status: status, StatusDetails: details, ResponseCode: code,
			StartedAt: start, FinishedAt: start.Add(1500 * time.Millisecond), Stdout: stdout, Stderr: stderr,
		}},
	}
}

func TestListCommandsFiltersAndPages(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	var ids []string
	for range 5 {
		ids = append(ids, *send(t, c, ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId)
	}
	b.finish(ids[0], "Success", "Success", ended(memberID, "Success", "Success", "", "", 0))
	b.finish(ids[1], "Failed", "Incomplete", ended(memberID, "TimedOut", "DeliveryTimedOut", "", "", -1))
	b.finish(ids[2], "InProgress", "InProgress", raftstore.Invocation{NodeID: memberID, Status: "InProgress", StatusDetails: "InProgress"})

	list := func(in ssm.ListCommandsInput) []string {
		t.Helper()
		var got []string
		pages := ssm.NewListCommandsPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, command := range page.Commands {
				got = append(got, *command.CommandId)
			}
		}
		return got
	}
	filter := func(key types.CommandFilterKey, value string) []types.CommandFilter {
		return []types.CommandFilter{{Key: key, Value: &value}}
	}
	newestFirst := []string{ids[4], ids[3], ids[2], ids[1], ids[0]}
	for _, test := range []struct {
		in   ssm.ListCommandsInput
		want []string
	}{
		{ssm.ListCommandsInput{}, newestFirst},
		{ssm.ListCommandsInput{MaxResults: aws.Int32(2)}, newestFirst},
		{ssm.ListCommandsInput{MaxResults: aws.Int32(5)}, newestFirst},
		{ssm.ListCommandsInput{CommandId: &ids[2]}, ids[2:3]},
		{ssm.ListCommandsInput{InstanceId: aws.String(memberID), MaxResults: aws.Int32(1)}, []string{ids[2], ids[1], ids[0]}},
		{ssm.ListCommandsInput{Filters: filter("Status", "Success")}, ids[0:1]},
		{ssm.ListCommandsInput{Filters: filter("Status", "Incomplete")}, ids[1:2]},
		{ssm.ListCommandsInput{Filters: filter("Status", "Failed")}, ids[1:2]},
		{ssm.ListCommandsInput{Filters: filter("Status", "Pending"), MaxResults: aws.Int32(1)}, []string{ids[4], ids[3]}},
		{ssm.ListCommandsInput{Filters: filter("ExecutionStage", "Complete")}, []string{ids[1], ids[0]}},
		{ssm.ListCommandsInput{Filters: filter("ExecutionStage", "Executing")}, []string{ids[4], ids[3], ids[2]}},
		{ssm.ListCommandsInput{Filters: filter("DocumentName", shellDocument)}, newestFirst},
		{ssm.ListCommandsInput{Filters: filter("DocumentName", "other")}, nil},
		{ssm.ListCommandsInput{Filters: filter("InvokedAfter", "2020-01-01T00:00:00Z")}, newestFirst},
		{ssm.ListCommandsInput{Filters: filter("InvokedBefore", "2020-01-01T00:00:00Z")}, nil},
	} {
		if got := list(test.in); strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%+v: got %v, want %v", test.in, got, test.want)
		}
	}

	first, err := c.ListCommands(t.Context(), &ssm.ListCommandsInput{MaxResults: aws.Int32(2)})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		in   ssm.ListCommandsInput
		code string
	}{
		"token for other filters":    {ssm.ListCommandsInput{NextToken: first.NextToken, Filters: filter("Status", "Success")}, "InvalidNextToken"},
		"no token":                   {ssm.ListCommandsInput{NextToken: aws.String("abc")}, "InvalidNextToken"},
		"long token":                 {ssm.ListCommandsInput{NextToken: aws.String(strings.Repeat("a", 5000))}, "InvalidNextToken"},
		"unknown command":            {ssm.ListCommandsInput{CommandId: aws.String("00000000-0000-0000-0000-000000000000")}, "InvalidCommandId"},
		"unknown node":               {ssm.ListCommandsInput{InstanceId: aws.String(nodeID(99))}, "InvalidInstanceId"},
		"pending on a node":          {ssm.ListCommandsInput{InstanceId: aws.String(memberID), Filters: filter("Status", "Pending")}, "InvalidFilterKey"},
		"no status":                  {ssm.ListCommandsInput{Filters: filter("Status", "Sleeping")}, "ValidationException"},
		"no stage":                   {ssm.ListCommandsInput{Filters: filter("ExecutionStage", "First")}, "ValidationException"},
		"no time":                    {ssm.ListCommandsInput{Filters: filter("InvokedAfter", "yesterday")}, "ValidationException"},
		"no filter":                  {ssm.ListCommandsInput{Filters: filter("Color", "red")}, "ValidationException"},
		"one filter twice":           {ssm.ListCommandsInput{Filters: append(filter("Status", "Success"), filter("Status", "Failed")...)}, "InvalidFilterKey"},
		"page too large":             {ssm.ListCommandsInput{MaxResults: aws.Int32(51)}, "ValidationException"},
		"token of another operation": {ssm.ListCommandsInput{NextToken: otherToken(t, c)}, "InvalidNextToken"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.ListCommands(t.Context(), &test.in)
			wantCode(t, err, test.code, "")
		})
	}
	_, err = c.ListCommandInvocations(t.Context(), &ssm.ListCommandInvocationsInput{Filters: filter("ExecutionStage", "Complete")})
	wantCode(t, err, "InvalidFilterKey", "")
}

func otherToken(t *testing.T, c *ssm.Client) *string {
	t.Helper()
	out, err := c.ListCommandInvocations(t.Context(), &ssm.ListCommandInvocationsInput{MaxResults: aws.Int32(1)})
	if err != nil || out.NextToken == nil {
		t.Fatalf("no token: %+v, %v", out, err)
	}
	return out.NextToken
}

func TestCancelCommand(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	id := *send(t, c, ssm.SendCommandInput{InstanceIds: []string{memberID, leaderID}}).CommandId
	cancel := func(in ssm.CancelCommandInput) error {
		_, err := c.CancelCommand(t.Context(), &in)
		return err
	}
	wantCode(t, cancel(ssm.CancelCommandInput{CommandId: aws.String("00000000-0000-0000-0000-000000000000")}), "InvalidCommandId", "")
	wantCode(t, cancel(ssm.CancelCommandInput{CommandId: &id, InstanceIds: []string{nodeID(99)}}), "InvalidInstanceId", nodeID(99))
	wantCode(t, cancel(ssm.CancelCommandInput{CommandId: &id, InstanceIds: []string{memberID, memberID}}), "DuplicateInstanceId", "")
	for _, in := range []ssm.CancelCommandInput{
		{CommandId: &id, InstanceIds: []string{memberID}},
		{CommandId: &id, InstanceIds: []string{memberID, leaderID}},
		{CommandId: &id},
	} {
		if err := cancel(in); err != nil {
			t.Fatal(err)
		}
	}
	b.read(func(r raftstore.Reader) error {
		request, err := raftstore.GetCommandCancel(r, id)
		if err != nil {
			return err
		}
		if !request.All || strings.Join(request.NodeIDs, " ") != leaderID+" "+memberID || request.Caller != adminKeyID {
			t.Errorf("request %+v", request)
		}
		return nil
	})
	b.finish(id, "Success", "Success", ended(memberID, "Success", "Success", "", "", 0), ended(leaderID, "Success", "Success", "", "", 0))
	if err := cancel(ssm.CancelCommandInput{CommandId: &id}); err != nil {
		t.Errorf("cancel of a command that has ended: %v", err)
	}
	b.read(func(r raftstore.Reader) error {
		if _, err := raftstore.GetCommandCancel(r, id); err == nil {
			t.Error("a command that has ended got a request to cancel it")
		}
		return nil
	})
}
