package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"fleetmesh/agent/meshapi"
)

// The outputs of many nodes: what is the same of several is printed once.
func TestOutputsOfManyNodes(t *testing.T) {
	m := newFakeMesh(t)
	id := func(n int) string { return fmt.Sprintf("mi-%017x", n) }
	var found []types.CommandInvocation
	for n := range 15 {
		plugins := []types.CommandPlugin{{Name: aws.String("first")}, {Name: aws.String("second")}}
		if n == 14 {
			plugins = nil // it has not begun
		}
		found = append(found, types.CommandInvocation{InstanceId: aws.String(id(n)), InstanceName: aws.String(fmt.Sprintf("web-%02d", 14-n)), CommandPlugins: plugins})
	}
	m.always("ListCommandInvocations", &ssm.ListCommandInvocationsOutput{CommandInvocations: found})
	m.on("Mesh.ReadOutput", func(body []byte) (any, error) {
		var in meshapi.ReadOutputInput
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		data := []byte("one\n two\x1b\n")
		switch {
		case in.InstanceId == id(3) && in.PluginName == "second":
			data = []byte("three\n")
		case in.InstanceId == id(5):
			return nil, &smithy.GenericAPIError{Code: "TargetNotConnected", Message: "web-09 is away"}
		case in.InstanceId == id(6):
			data = []byte(strings.Repeat("x", 1<<20))
		}
		return &meshapi.ReadOutputOutput{Data: data[in.Offset:], NextOffset: int64(len(data)), Ended: true}, nil
	})
	r := m.run("command", "output", commandID)
	same := "==> first\none\n two\uFFFD\n==> second\none\n two\uFFFD\n"
	for _, want := range []string{
		"==> web-00 <==\nno output\n",
		"\n==> web-01, web-02, web-03, web-04, web-05, web-06, web-07, web-10, web-12, web-13 and 1 more (11 nodes) <==\n" + same,
		"\n==> web-11 <==\n==> first\none\n two\uFFFD\n==> second\nthree\n",
		"its output could not be read: web-09 is away\n",
		"x\ncut here; the whole: meshctl command output " + commandID + " --node " + id(6) + "\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("there is no %q in %.2000q", want, r.out)
		}
	}
	if strings.Count(r.out, "<==") != 5 || r.code != exitNotAll || !strings.Contains(r.err, "the output of 1 of 15 nodes could not be read") {
		t.Errorf("exit %d, %q, %d groups", r.code, r.err, strings.Count(r.out, "<=="))
	}

	r = m.run("command", "output", commandID, "--step", "second", "-o", "json")
	var details []outputDetail
	if err := json.Unmarshal([]byte(r.out), &details); err != nil || len(details) != 15 || details[3].InstanceId != id(11) || *details[3].StandardOutputContent != "one\n two\x1b\n" {
		t.Errorf("%v, %.300s", err, r.out)
	}
}

// A long table has the failures first.
func TestFailuresFirst(t *testing.T) {
	var all []meshapi.InvocationChange
	for n := range mostRows + 1 {
		all = append(all, change(fmt.Sprint(n), fmt.Sprintf("web-%02d", n), "Success", 0, fmt.Sprint("line ", n)))
	}
	all = append(all, change("run", "run", "InProgress", -1, ""), change("bad", "bad", "Failed", 1, "trouble"))
	rows := invocationRows(all, func(meshapi.InvocationChange) string { return "" })
	if rows[0].nodes[0] != "bad" || rows[1].nodes[0] != "run" || rows[2].nodes[0] != "web-00" || len(rows) != mostRows+3 {
		t.Errorf("%+v", rows)
	}
	if few := invocationRows(all[mostRows-3:], func(meshapi.InvocationChange) string { return "" }); few[len(few)-1].nodes[0] != "bad" {
		t.Errorf("%+v", few)
	}
}

// What a command was given is shown, each parameter on a line.
func TestShowParameters(t *testing.T) {
	m := newFakeMesh(t)
	commandOn(m, success()...)
	m.always("ListCommands", &ssm.ListCommandsOutput{Commands: []types.Command{{
		CommandId: aws.String(commandID), DocumentName: aws.String("Install-App"), DocumentVersion: aws.String("7"), Status: types.CommandStatusSuccess,
		Parameters: map[string][]string{"commands": {"one", "two\n"}, "release": {"2"}, "hosts": {"a", "b\nc"}, "long": {strings.Repeat("é", 300)}},
	}}})
	r := m.run("command", "show", commandID)
	for _, want := range []string{
		"Document    Install-App, version 7\n", "Parameters  hosts=a, b\\nc\n            long=" + strings.Repeat("é", 195) + "…\n            release=2\n", "\n  one\n  two\n\n",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("there is no %q in\n%s", want, r.out)
		}
	}
}
