package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

// defaultDelivery is how long a command may wait for its nodes where it does not
// say, in seconds.
const defaultDelivery = 3600

// whyText says in a sentence why a command is not over on a node. node is nil where
// the mesh does not know it (any more); clock shows a moment.
func whyText(i meshapi.InvocationChange, command types.Command, state meshapi.WatchCommandOutput, node *types.InstanceInformation, clock func(*time.Time) string) string {
	away := ""
	if node != nil && node.PingStatus != types.PingStatusOnline {
		away = "the node is away"
		if node.LastPingDateTime != nil {
			away += " since " + clock(node.LastPingDateTime)
		}
	}
	switch i.Status {
	case "Pending", "Delayed":
		switch {
		case node == nil:
			return "the mesh does not know the node"
		case away != "":
			until := aws.ToTime(command.RequestedDateTime).Add(time.Duration(cmp.Or(aws.ToInt32(command.TimeoutSeconds), defaultDelivery)) * time.Second)
			return fmt.Sprintf("%s; it gets the command if it is back before %s", away, clock(&until))
		case i.Status == "Delayed":
			return "it could not be sent to the node, and is sent again"
		case state.InFlight > 0:
			return fmt.Sprintf("waits for its turn: it runs on %s, and on at most %s at a time", count(state.InFlight, "node"), cmp.Or(cell(aws.ToString(command.MaxConcurrency)), "50"))
		}
		return "is about to be sent to the node"
	case "InProgress", "Cancelling":
		text := "was sent to the node"
		if i.StartedAt != nil {
			text = "runs since " + clock(i.StartedAt)
		}
		if i.Status == "Cancelling" {
			text = "is to be cancelled, its script killed"
		}
		if away != "" {
			text += "; " + away + " and reports the end when it is back"
		}
		return text
	}
	return ""
}

// whyNotDone asks for the nodes of a command that is not over, and returns what says
// why it is not on each of them.
func (a *app) whyNotDone(ctx context.Context, c *client, command types.Command, course *course) (func(meshapi.InvocationChange) string, error) {
	open := slices.ContainsFunc(course.invocations(), func(i meshapi.InvocationChange) bool { return !ended(i.Status) })
	if !open || !a.forPeople() {
		return nil, nil
	}
	nodes, err := c.nodes(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]*types.InstanceInformation, len(nodes))
	for at := range nodes {
		known[aws.ToString(nodes[at].InstanceId)] = &nodes[at]
	}
	return func(i meshapi.InvocationChange) string {
		return whyText(i, command, course.state, known[i.InstanceId], a.clock)
	}, nil
}
