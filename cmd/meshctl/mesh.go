package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

func (a *app) meshCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "mesh", Short: "Look at the mesh as a whole"}
	var tag string
	members := &cobra.Command{
		Use: "members", Short: "Show which nodes the asked node sees, leader or not",
		Long: `members shows the nodes that the asked node's own gossip sees. It needs no leader.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.meshMembers(cmd.Context(), tag) },
	}
	members.Flags().StringVar(&tag, "tag", "", "only nodes with this tag (`KEY` or KEY=VALUE)")
	cmd.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Tell whether the mesh is well, and what to do if it is not",
			Long: `status tells whether the mesh is well: its leader and voters, how many of them may
still fail, and what to do if it is not well. It succeeds whenever there is a leader.`,
			Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.meshStatus(cmd.Context()) },
		},
		members,
	)
	return cmd
}

func (a *app) meshStatus(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	status, err := c.mesh.Status(ctx, &meshapi.StatusInput{})
	if err != nil {
		return err
	}
	names := map[string]string{}
	if a.forPeople() && status.Leader != "" {
		names = c.namesOf(ctx, slices.Concat(status.Voters, status.StandBys))
	}
	if err := a.print(status, func(w io.Writer) { a.showStatus(w, status, names) }); err != nil {
		return err
	}
	if status.Leader == "" {
		return &outcome{exit: exitUnreachable, code: "NoLeader", message: "the mesh has no leader"}
	}
	return nil
}

// namesOf finds the names of a few nodes; without an answer the ids must do.
func (c *client) namesOf(ctx context.Context, ids []string) map[string]string {
	names := make(map[string]string)
	if len(ids) == 0 {
		return names
	}
	out, err := c.ssm.DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{
		Filters: []types.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: ids}},
	})
	if err != nil {
		return names
	}
	for _, node := range out.InstanceInformationList {
		names[aws.ToString(node.InstanceId)] = nodeName(node)
	}
	return names
}

func (a *app) showStatus(w io.Writer, s *meshapi.StatusOutput, names map[string]string) {
	name := func(id string) string {
		if names[id] == "" {
			return id
		}
		return cell(names[id]) + " (" + id + ")"
	}
	list := func(ids []string) string {
		if len(ids) == 0 {
			return "none"
		}
		shown := make([]string, len(ids))
		for i, id := range ids {
			shown[i] = name(id)
		}
		return fmt.Sprintf("%d: %s", len(ids), strings.Join(shown, ", "))
	}
	state := a.paint(a.outTerminal, green, "well")
	switch {
	case s.Leader == "":
		state = a.paint(a.outTerminal, red, "NO LEADER: nothing can be changed or started")
	case len(s.Advice) > 0:
		state = a.paint(a.outTerminal, yellow, "working, but see below")
	}
	leader := "none"
	if s.Leader != "" {
		leader = fmt.Sprintf("%s, term %d", name(s.Leader), s.Term)
	}
	tolerance := fmt.Sprintf("%s may fail before writing stops", count(s.FailureTolerance, "voter"))
	if s.FailureTolerance == 0 {
		tolerance = "no voter may fail: writing would stop"
	}
	if s.Leader == "" {
		tolerance = "" // it is used up
	}
	nodes := fmt.Sprintf("%d online", s.Nodes.Online)
	if s.Nodes.ConnectionLost > 0 {
		nodes += ", " + a.paint(a.outTerminal, yellow, fmt.Sprintf("%d lost", s.Nodes.ConnectionLost))
	}
	source := ""
	if s.Source == "gossip" {
		source = "what node " + s.AnsweredBy + " sees by gossip; the store was not asked"
	}
	facts(w,
		"Mesh", meshName(s),
		"State", state,
		"Leader", leader,
		"Voters", list(s.Voters),
		"Stand-bys", list(s.StandBys),
		"Tolerance", tolerance,
		"Nodes", nodes,
		"Source", source,
	)
	for i, advice := range s.Advice {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s %s\n", a.paint(a.outTerminal, yellow, "→"), cell(advice))
	}
}

func (a *app) meshMembers(ctx context.Context, tag string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	key, value, _ := strings.Cut(tag, "=")
	members, err := c.mesh.Members(ctx, &meshapi.MembersInput{TagKey: key, TagValue: value})
	if err != nil {
		return err
	}
	return a.printMembers(members)
}

func (a *app) printMembers(members *meshapi.MembersOutput) error {
	return a.print(members, func(w io.Writer) {
		t := newTable("NODE", "ALIVE", "VOTER", "ADDRESS", "VERSION", "TAGS")
		for _, m := range members.Members {
			alive := a.paint(a.outTerminal, green, "yes")
			if !m.Alive {
				alive = a.paint(a.outTerminal, red, "no")
			}
			t.AppendRow([]any{cell(m.NodeId), alive, yesNo(m.Voter), cell(m.Address), cell(m.Version), tagList(m.Tags)})
		}
		a.renderTable(w, t)
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// meshName is the mesh's name and id; gossip knows the id alone.
func meshName(s *meshapi.StatusOutput) string {
	if s.Name == "" {
		return s.MeshId
	}
	return fmt.Sprintf("%s (%s)", cell(s.Name), s.MeshId)
}
