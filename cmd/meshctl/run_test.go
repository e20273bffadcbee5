package main

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"fleetmesh/agent/meshapi"
)

const commandID = "1f0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a99"

// change is a node's place in a command.
func change(id, name, status string, code int, line string) meshapi.InvocationChange {
	i := meshapi.InvocationChange{InstanceId: id, Name: name, Status: status, StatusDetails: status, ResponseCode: code, FirstLine: line}
	if status != "Pending" {
		i.StartedAt = aws.Time(testNow)
	}
	if ended(status) {
		i.FinishedAt = aws.Time(testNow.Add(1230 * time.Millisecond))
	}
	return i
}

// commandOn scripts a command: one answer of WatchCommand after the other.
func commandOn(m *fakeMesh, watch ...meshapi.WatchCommandOutput) {
	m.always("SendCommand", &ssm.SendCommandOutput{Command: &types.Command{CommandId: aws.String(commandID), DocumentName: aws.String(shellDocument), Status: types.CommandStatusPending, RequestedDateTime: aws.Time(testNow)}})
	at := 0
	var mu sync.Mutex
	m.on("Mesh.WatchCommand", func(body []byte) (any, error) {
		var in meshapi.WatchCommandInput
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		mu.Lock()
		defer mu.Unlock()
		if want := uint64(at); in.AfterIndex != want || in.CommandId != commandID {
			return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: fmt.Sprintf("asked %+v at %d", in, want)}
		}
		out := watch[min(at, len(watch)-1)]
		at++
		out.Index = uint64(at)
		return &out, nil
	})
	m.always("ListCommands", &ssm.ListCommandsOutput{Commands: []types.Command{{CommandId: aws.String(commandID), DocumentName: aws.String(shellDocument), Status: types.CommandStatusFailed, StatusDetails: aws.String("Failed"), RequestedDateTime: aws.Time(testNow), TargetCount: 3, CompletedCount: 3, ErrorCount: 1, Targets: []types.Target{{Key: aws.String("tag:role"), Values: []string{"web"}}}, Parameters: map[string][]string{"commands": {"uptime\nfalse"}}}}})
	m.on("ListCommandInvocations", func(body []byte) (any, error) {
		step := types.CommandPlugin{Name: aws.String("aws:runShellScript"), Status: types.CommandPluginStatusFailed, StatusDetails: aws.String("Failed"), ResponseCode: 3, Output: aws.String("begin")}
		return &ssm.ListCommandInvocationsOutput{CommandInvocations: []types.CommandInvocation{{CommandId: aws.String(commandID), InstanceId: aws.String(web2), InstanceName: aws.String("web-2"), Status: types.CommandInvocationStatusFailed, CommandPlugins: []types.CommandPlugin{step}}}}, nil
	})
	m.always("GetCommandInvocation", &ssm.GetCommandInvocationOutput{StandardOutputContent: aws.String("begin\n\ttab\x1b[2Jcleared\n"), StandardErrorContent: aws.String("boom: grüße 世界\n")})
}

func success() []meshapi.WatchCommandOutput {
	return []meshapi.WatchCommandOutput{
		{Status: "Pending"},
		{Status: "InProgress", Resolved: true, TargetCount: 2, InFlight: 1, Invocations: []meshapi.InvocationChange{change(web1, "web-1", "InProgress", -1, ""), change(web2, "web-2", "Pending", -1, "")}},
		{Status: "InProgress", Resolved: true, TargetCount: 2, CompletedCount: 1, InFlight: 1, Invocations: []meshapi.InvocationChange{change(web1, "web-1", "Success", 0, "up 3 days")}, More: true},
		{Status: "Success", StatusDetails: "Success", Resolved: true, TargetCount: 2, CompletedCount: 2, Done: true, Invocations: []meshapi.InvocationChange{change(web2, "web-2", "Success", 0, "up 世界 days")}},
	}
}

func failed() []meshapi.WatchCommandOutput {
	away := change(db1, "db-1", "TimedOut", -1, "")
	away.StartedAt, away.StatusDetails, away.Reason = nil, "DeliveryTimedOut", "the node was away until the delivery timeout"
	return []meshapi.WatchCommandOutput{{Status: "Failed", StatusDetails: "Failed", Resolved: true, TargetCount: 3, CompletedCount: 3, ErrorCount: 1, Done: true, Invocations: []meshapi.InvocationChange{
		change(web2, "web-2", "Failed", 3, "begin\x1b[31m"), away, change(web1, "web-1", "Success", 0, "up 3 days"),
	}}}
}

func TestRun(t *testing.T) {
	for _, test := range []struct {
		name  string
		watch []meshapi.WatchCommandOutput
		line  []string
	}{
		{"run-success", success(), []string{"run", "--targets", "tag:role=web", "--", "uptime"}},
		{"run-failed", failed(), []string{"run", "--targets", "all", "--", "uptime"}},
		{"run-failed-json", failed(), []string{"run", "--targets", "all", "-o", "json", "--", "uptime"}},
		{"run-nothing", []meshapi.WatchCommandOutput{{Status: "Success", StatusDetails: "NoInstancesInTag", Resolved: true, Done: true}}, []string{"run", "--targets", "tag:role=none", "--", "uptime"}},
		{"run-detach", success(), []string{"run", "--targets", "all", "--detach", "--", "uptime"}},
		{"run-detach-json", success(), []string{"run", "--targets", "all", "--detach", "-o", "json", "--", "uptime"}},
		{"command-wait", failed(), []string{"command", "wait", commandID}},
		{"command-show", failed(), []string{"command", "show", commandID}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newFakeMesh(t)
			commandOn(m, test.watch...)
			r := m.run(test.line...)
			golden(t, test.name, r)
			if strings.Contains(r.out+r.err, "\x1b") {
				t.Error("an escape code where there is no terminal")
			}
		})
	}
}

func TestRunOnATerminal(t *testing.T) {
	m := newFakeMesh(t)
	commandOn(m, failed()...)
	terminal := func(s *surroundings) { s.outTerminal, s.errTerminal, s.width = true, true, 60 }
	r := m.runIn(terminal, "run", "--targets", "all", "--", "uptime")
	if !strings.Contains(r.err, "[########################] 3/3 done, 2 failed") || !strings.HasSuffix(strings.TrimSuffix(r.err, "\n"), "success on 1 of 3 nodes") {
		t.Errorf("no bar on a terminal: %q", r.err)
	}
	if !strings.Contains(r.out, "\x1b[31mFailed\x1b[0m") {
		t.Errorf("no colours on a terminal: %q", r.out)
	}
	for line := range strings.Lines(r.out) {
		if strings.Contains(line, "up 3 days") && len(line) > 90 { // with escape codes
			t.Errorf("wider than the terminal: %q", line)
		}
	}
	plain := func(s *surroundings) {
		terminal(s)
		s.getenv = func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }
	}
	commandOn(m, failed()...)
	if r := m.runIn(plain, "run", "--targets", "all", "--", "uptime"); strings.Contains(r.out, "\x1b") {
		t.Errorf("colours in spite of NO_COLOR: %q", r.out)
	}
	commandOn(m, failed()...)
	if r := m.runIn(terminal, "run", "--no-color", "--targets", "all", "--", "uptime"); strings.Contains(r.out, "\x1b") {
		t.Errorf("colours in spite of --no-color: %q", r.out)
	}
}

func TestSendInput(t *testing.T) {
	for _, test := range []struct {
		name     string
		o        runOptions
		document string
		command  []string
		want     string // JSON of what differs from nothing; "" for wrong usage
	}{
		{"one word is a line", runOptions{targets: []string{"all"}}, "", []string{"df -h | tail"}, `{"DocumentName":"AWS-RunShellScript","Targets":[{"Key":"InstanceIds","Values":["*"]}],"Parameters":{"commands":["df -h | tail"]}}`},
		{"words are quoted", runOptions{nodes: []string{"a", "b"}}, "", []string{"echo", "it's", "$HOME"}, `{"DocumentName":"AWS-RunShellScript","InstanceIds":["a","b"],"Parameters":{"commands":["echo 'it'\\''s' '$HOME'"]}}`},
		{"document", runOptions{targets: []string{"tag:role=web,db", "tag-key=zone"}, parameters: []string{"a=1", "a=2=3", "b="}, maxConcurrency: "10%", maxErrors: "0", comment: "why", deliveryTimeout: 60, executionTimeout: 5}, "Doc", nil,
			`{"DocumentName":"Doc","Targets":[{"Key":"tag:role","Values":["web","db"]},{"Key":"tag-key","Values":["zone"]}],"Parameters":{"a":["1","2=3"],"b":[""],"executionTimeout":["5"]},"MaxConcurrency":"10%","MaxErrors":"0","Comment":"why","TimeoutSeconds":60}`},
		{"document with command", runOptions{nodes: []string{"a"}}, "Doc", []string{"x"}, `{"DocumentName":"Doc","InstanceIds":["a"],"Parameters":{"commands":["x"]}}`},
		{"and reboot", runOptions{nodes: []string{"a"}, reboot: true, executionTimeout: 5}, "", []string{"x"}, `{"DocumentName":"Fleetmesh-RunShellScriptAndReboot","InstanceIds":["a"],"Parameters":{"commands":["x"],"executionTimeout":["5"]}}`},
		{"document and reboot", runOptions{nodes: []string{"a"}, reboot: true, documentVersion: "3", parameters: []string{"a=<1>", "a=2", "b=\"x\""}}, "Doc", nil,
			`{"DocumentName":"Fleetmesh-RunDocumentAndReboot","InstanceIds":["a"],"Parameters":{"documentName":["Doc:3"],"documentParameters":["{\"a\":[\"\\u003c1\\u003e\",\"2\"],\"b\":[\"\\\"x\\\"\"]}"]}}`},
		{"nothing to run", runOptions{targets: []string{"all"}}, "", nil, ""},
		{"empty command", runOptions{targets: []string{"all"}}, "", []string{" "}, ""},
		{"nowhere", runOptions{}, "Doc", nil, ""},
		{"two places", runOptions{targets: []string{"all"}, nodes: []string{"a"}}, "Doc", nil, ""},
		{"all and more", runOptions{targets: []string{"all", "tag:a=b"}}, "Doc", nil, ""},
		{"bad spec", runOptions{targets: []string{"role=web"}}, "Doc", nil, ""},
		{"no value", runOptions{targets: []string{"tag:role="}}, "Doc", nil, ""},
		{"no key", runOptions{targets: []string{"tag:=x"}}, "Doc", nil, ""},
		{"empty value", runOptions{targets: []string{"tag:role=a,,b"}}, "Doc", nil, ""},
		{"six targets", runOptions{targets: slices.Repeat([]string{"tag:a=b"}, 6)}, "Doc", nil, ""},
		{"51 nodes", runOptions{nodes: slices.Repeat([]string{"a"}, 51)}, "Doc", nil, ""},
		{"empty node", runOptions{nodes: []string{"a", ""}}, "Doc", nil, ""},
		{"bad parameter", runOptions{nodes: []string{"a"}, parameters: []string{"x"}}, "Doc", nil, ""},
		{"commands twice", runOptions{nodes: []string{"a"}, parameters: []string{"commands=x"}}, "", []string{"y"}, ""},
		{"timeout twice", runOptions{nodes: []string{"a"}, parameters: []string{"executionTimeout=9"}, executionTimeout: 5}, "Doc", nil, ""},
		{"negative timeout", runOptions{nodes: []string{"a"}, executionTimeout: -5}, "Doc", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, err := sendInput(test.o, test.document, test.command)
			if test.want == "" {
				if f := explain(err, false); err == nil || f.Exit != exitUsage {
					t.Errorf("taken: %+v, %v", in, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var want ssm.SendCommandInput
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			got, _ := json.Marshal(in)
			expected, _ := json.Marshal(want)
			if string(got) != string(expected) {
				t.Errorf("got  %s\nwant %s", got, expected)
			}
		})
	}
}

func TestCommandWithoutDashes(t *testing.T) {
	m := threeNodes(t)
	m.refuse("SendCommand", "InvalidDocument", "there is no document \"uptime\"")
	if r := m.run("run", "--nodes", "web-1", "uptime"); r.code != exitRefused || !strings.Contains(r.err, "InvalidDocument: there is no document") || !strings.Contains(r.err, "a command line goes after --") {
		t.Errorf("got %+v", r)
	}
}

func TestRunResolvesNames(t *testing.T) {
	m := threeNodes(t)
	commandOn(m, success()...)
	if r := m.run("run", "--nodes", "web-1,"+web2, "--detach", "--", "echo", "a b"); r.code != 0 || r.out != commandID+"\n" {
		t.Fatalf("%+v", r)
	}
	body := m.called("SendCommand")[0].Body
	if !strings.Contains(body, `"InstanceIds":["`+web1+`","`+web2+`"]`) || !strings.Contains(body, `"commands":["echo 'a b'"]`) {
		t.Errorf("sent %s", body)
	}
	m.refuse("SendCommand", "InvalidInstanceId", "no such node")
	if r := m.run("run", "--nodes", web1, "--", "x"); r.code != 1 || !strings.Contains(r.err, "meshctl: InvalidInstanceId: no such node\n  `meshctl node list`") {
		t.Errorf("%+v", r)
	}
	r := m.run("run", "--nodes", web1, "-o", "json", "--", "x")
	var object struct{ Error failure }
	if err := json.Unmarshal([]byte(r.err), &object); err != nil || object.Error.Code != "InvalidInstanceId" || object.Error.Exit != 1 || r.out != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

// The same again is the same version, parameters and limits, where there was no
// success; what the user says now counts before what was said then.
func TestRetryFailed(t *testing.T) {
	m := newFakeMesh(t)
	commandOn(m, success()...)
	m.always("ListCommands", &ssm.ListCommandsOutput{Commands: []types.Command{{
		CommandId: aws.String(commandID), DocumentName: aws.String("Install-App"), DocumentVersion: aws.String("7"), Comment: aws.String("roll"),
		Parameters: map[string][]string{"release": {"2"}}, Targets: []types.Target{{Key: aws.String("tag:role"), Values: []string{"web"}}},
		MaxConcurrency: aws.String("10%"), MaxErrors: aws.String("3"), TimeoutSeconds: aws.Int32(900), Status: types.CommandStatusFailed,
	}}})
	if r := m.run("run", "--retry-failed", commandID, "--max-errors", "0"); r.code != exitDone {
		t.Fatalf("%+v", r)
	}
	calls := m.called("SendCommand")
	if len(calls) != 1 {
		t.Fatalf("%d commands sent", len(calls))
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(calls[0].Body), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"DocumentName": "Install-App", "DocumentVersion": "7", "Comment": "roll", "Parameters": map[string]any{"release": []any{"2"}},
		"Targets":        []any{map[string]any{"Key": targetUnsuccessful, "Values": []any{commandID}}},
		"MaxConcurrency": "10%", "MaxErrors": "0", "TimeoutSeconds": 900.0,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	m.always("ListCommands", &ssm.ListCommandsOutput{})
	if r := m.run("run", "--retry-failed", commandID); r.code != exitRefused || !strings.Contains(r.err, "there is no command "+commandID) {
		t.Errorf("of a command that is not there: %+v", r)
	}
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		name  string
		state meshapi.WatchCommandOutput
		nodes []meshapi.InvocationChange
		want  int
	}{
		{"success", meshapi.WatchCommandOutput{Done: true, Status: "Success", TargetCount: 1}, []meshapi.InvocationChange{change(web1, "", "Success", 0, "")}, 0},
		{"success of the command, not of each", meshapi.WatchCommandOutput{Done: true, Status: "Success", TargetCount: 2}, []meshapi.InvocationChange{change(web1, "", "Success", 0, ""), change(web2, "", "Failed", -1, "")}, 3},
		{"none", meshapi.WatchCommandOutput{Done: true, Status: "Success", StatusDetails: "NoInstancesInTag"}, nil, 3},
		{"cancelled", meshapi.WatchCommandOutput{Done: true, Status: "Cancelled", TargetCount: 1}, []meshapi.InvocationChange{change(web1, "", "Cancelled", -1, "")}, 3},
		{"not done", meshapi.WatchCommandOutput{Status: "InProgress", TargetCount: 1}, nil, 3},
	} {
		c := &course{nodes: map[string]meshapi.InvocationChange{}}
		test.state.Invocations = test.nodes
		c.apply(&test.state)
		got := 0
		if err := c.verdict(); err != nil {
			got = explain(err, false).Exit
		}
		if got != test.want {
			t.Errorf("%s: exit %d, want %d", test.name, got, test.want)
		}
	}
}

func TestWatchOutlastsAnElection(t *testing.T) {
	answers := []any{
		&meshapi.WatchCommandOutput{Index: 1, Status: "Pending"},
		&smithy.GenericAPIError{Code: "ServiceUnavailable"}, &unreachableError{},
		&meshapi.WatchCommandOutput{Index: 2, Status: "Success", Done: true},
	}
	var trouble []string
	w := &watcher{
		poll: func(_ context.Context, in *meshapi.WatchCommandInput) (*meshapi.WatchCommandOutput, error) {
			next := answers[0]
			answers = answers[1:]
			if err, bad := next.(error); bad {
				return nil, err
			}
			return next.(*meshapi.WatchCommandOutput), nil
		},
		changed: func(*course) {}, trouble: func(err error) { trouble = append(trouble, troubleText(err)) },
		patience: time.Minute, pause: time.Millisecond,
	}
	if c, err := w.follow(context.Background(), commandID); err != nil || !c.state.Done || len(trouble) != 2 {
		t.Errorf("%+v, %v, %q", c, err, trouble)
	}
	answers = []any{&smithy.GenericAPIError{Code: "InvalidCommandId"}}
	if _, err := w.follow(context.Background(), commandID); explain(err, false).Code != "InvalidCommandId" {
		t.Errorf("a refusal is not passing: %v", err)
	}
	answers = []any{&smithy.GenericAPIError{Code: "ServiceUnavailable"}}
	w.patience = -1
	if _, err := w.follow(context.Background(), commandID); explain(err, false).Exit != exitUnreachable {
		t.Errorf("patience has an end: %v", err)
	}
}

func TestProgressLine(t *testing.T) {
	for _, test := range []struct {
		t     tally
		width int
		want  string
	}{
		{tally{}, 80, "finding the nodes  1:05"},
		{tally{targets: 4, done: 1, active: 2, waiting: 1}, 80, "[######------------------] 1/4 done, 2 running, 1 waiting  1:05"},
		{tally{targets: 4, done: 5, failed: 4}, 80, "[########################] 5/4 done, 4 failed  1:05"},
		{tally{targets: 4, done: 1}, 20, "[######------------"},
	} {
		if got := progressLine(test.t, 65*time.Second, test.width); got != test.want {
			t.Errorf("%+v in %d: %q, want %q", test.t, test.width, got, test.want)
		}
	}
}

func TestCommandOutput(t *testing.T) {
	m := newFakeMesh(t)
	steps := []types.CommandPlugin{{Name: aws.String("first")}, {Name: aws.String("second")}}
	m.on("ListCommandInvocations", func(body []byte) (any, error) {
		found := []types.CommandInvocation{{InstanceId: aws.String(web1), CommandPlugins: steps}, {InstanceId: aws.String(web2), CommandPlugins: steps[:1]}}
		switch {
		case strings.Contains(string(body), web1):
			found = found[:1]
		case strings.Contains(string(body), web2):
			found = found[1:]
		}
		return &ssm.ListCommandInvocationsOutput{CommandInvocations: found}, nil
	})
	whole := "line 1\nbinary \x00\xff\x1b[0m\nlast"
	m.on("Mesh.ReadOutput", func(body []byte) (any, error) {
		var in meshapi.ReadOutputInput
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		if in.Stderr {
			return &meshapi.ReadOutputOutput{Data: []byte("err " + in.PluginName), NextOffset: int64(len("err " + in.PluginName)), Ended: true}, nil
		}
		end := min(int(in.Offset)+7, len(whole)) // a few bytes at a time
		return &meshapi.ReadOutputOutput{Data: []byte(whole[in.Offset:end]), NextOffset: int64(end), Ended: end == len(whole)}, nil
	})
	commandOnWatch := success()
	m.on("Mesh.WatchCommand", func([]byte) (any, error) { out := commandOnWatch[1]; out.Index = 9; return &out, nil })

	if r := m.run("command", "output", "c1", "--node", web2); r.code != 0 || r.out != whole || r.err != "" {
		t.Errorf("whole: %+v", r)
	}
	if r := m.run("command", "output", "c1", "--node", web1, "--stderr"); r.code != 0 || r.out != "err first\nerr second" || r.err != "==> first\n==> second\n" {
		t.Errorf("steps: %+v", r)
	}
	if r := m.run("command", "output", "c1", "--node", web1, "--step", "second", "--follow"); r.code != 0 || r.out != whole {
		t.Errorf("follow: %+v", r)
	}
	if r := m.run("command", "output", "c1", "--follow"); r.code != 2 || !strings.Contains(r.err, "2 nodes: choose one to follow with --node") {
		t.Errorf("no node: %+v", r)
	}
	if r := m.run("command", "output", "c1", "--node", web2, "--stderr", "-o", "json"); r.code != 0 || !strings.Contains(r.out, `"StandardErrorContent": "err "`) {
		t.Errorf("json: %+v", r)
	}
	if r := m.run("command", "output", "c1", "--node", web2, "--follow", "-o", "json"); r.code != 2 {
		t.Errorf("follow as json: %+v", r)
	}
}
