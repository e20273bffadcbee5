package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

// Many nodes that answered alike share a line, and so do failures that are alike.
func TestManyNodes(t *testing.T) {
	out := meshapi.WatchCommandOutput{Status: "Failed", StatusDetails: "Failed", Resolved: true, TargetCount: 2000, CompletedCount: 2000, ErrorCount: 60, Done: true}
	for n := range 2000 {
		id := fmt.Sprintf("mi-%017x", n)
		i := change(id, fmt.Sprintf("web-%04d", n), "Success", 0, "active")
		switch {
		case n >= 1940:
			i = change(id, fmt.Sprintf("web-%04d", n), "Failed", 3, "inactive")
		case n == 7:
			i.FirstLine = "activating"
		case n == 8:
			i.FinishedAt = aws.Time(testNow.Add(9 * time.Second))
		}
		out.Invocations = append(out.Invocations, i)
	}
	m := newFakeMesh(t)
	commandOn(m, out)
	golden(t, "command-show-many", m.run("command", "show", commandID))
	if r := m.run("command", "show", commandID, "-o", "json"); !strings.Contains(r.out, `"CommandInvocations"`) || strings.Contains(r.out, "more") {
		t.Errorf("for programs: %s", r.out)
	}
}

// A command that goes on says why, node by node.
func TestShowWhileItRuns(t *testing.T) {
	m := threeNodes(t)
	commandOn(m, meshapi.WatchCommandOutput{Status: "InProgress", StatusDetails: "InProgress", Resolved: true, TargetCount: 3, InFlight: 1, Invocations: []meshapi.InvocationChange{
		change(web1, "web-1", "InProgress", -1, ""), change(web2, "web-2", "Pending", -1, ""), change(db1, "db-1", "Pending", -1, ""),
	}})
	golden(t, "command-show-running", m.run("command", "show", commandID))
}

func TestWhyText(t *testing.T) {
	clock := func(at *time.Time) string { return at.UTC().Format("15:04") }
	sent := types.Command{RequestedDateTime: aws.Time(testNow), MaxConcurrency: aws.String("10%"), TimeoutSeconds: aws.Int32(1800)}
	here, away := node(web1, "web-1", types.PingStatusOnline), node(web1, "web-1", types.PingStatusConnectionLost)
	state := func(status string) meshapi.InvocationChange { return change(web1, "web-1", status, -1, "") }
	unstarted := state("InProgress")
	unstarted.StartedAt = nil
	since, before, now := clock(away.LastPingDateTime), clock(aws.Time(testNow.Add(30*time.Minute))), clock(aws.Time(testNow))
	for _, c := range []struct {
		i        meshapi.InvocationChange
		inFlight int
		node     *types.InstanceInformation
		want     string
	}{
		{state("Pending"), 0, &here, "is about to be sent to the node"},
		{state("Pending"), 2, &here, "waits for its turn: it runs on 2 nodes, and on at most 10% at a time"},
		{state("Pending"), 2, &away, "the node is away since " + since + "; it gets the command if it is back before " + before},
		{state("Pending"), 0, nil, "the mesh does not know the node"},
		{state("Delayed"), 0, &away, "the node is away since " + since + "; it gets the command if it is back before " + before},
		{state("Delayed"), 0, &here, "it could not be sent to the node, and is sent again"},
		{unstarted, 1, &here, "was sent to the node"},
		{state("InProgress"), 1, &here, "runs since " + now},
		{state("InProgress"), 1, &away, "runs since " + now + "; the node is away since " + since + " and reports the end when it is back"},
		{state("Cancelling"), 1, &here, "is to be cancelled, its script killed"},
		{state("Success"), 1, &here, ""}, {state("Failed"), 0, nil, ""},
	} {
		if got := whyText(c.i, sent, meshapi.WatchCommandOutput{InFlight: c.inFlight}, c.node, clock); got != c.want {
			t.Errorf("%s, %d in flight, %v: %q, want %q", c.i.Status, c.inFlight, c.node != nil, got, c.want)
		}
	}
}
