package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

func (a *app) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "List, show, tag and remove nodes"}
	var yes bool
	remove := &cobra.Command{
		Use: "remove NODE", Short: "Shut a node out of the mesh for good",
		Long: `remove shuts a node out of the mesh for good: its certificate is refused from now
on and its open connections are closed. To come back it has to join anew. What runs
on it goes on running and is not reported. On a terminal it asks first.`,
		Args: exactly("NODE"), ValidArgsFunction: a.completeNodes(true),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.nodeRemove(cmd.Context(), arguments[0], yes)
		},
	}
	remove.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List the nodes", Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.nodeList(cmd.Context()) }},
		&cobra.Command{Use: "show NODE", Short: "Show a node and its tags", Args: exactly("NODE"), ValidArgsFunction: a.completeNodes(true),
			RunE: func(cmd *cobra.Command, arguments []string) error { return a.nodeShow(cmd.Context(), arguments[0]) }},
		&cobra.Command{Use: "tag NODE KEY=VALUE...", Short: "Set tags of a node", Args: atLeast("NODE", "KEY=VALUE"), ValidArgsFunction: a.completeNodes(true),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.nodeTag(cmd.Context(), arguments[0], arguments[1:])
			}},
		&cobra.Command{Use: "untag NODE KEY...", Short: "Take tags off a node", Args: atLeast("NODE", "KEY"), ValidArgsFunction: a.completeNodes(true),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.nodeUntag(cmd.Context(), arguments[0], arguments[1:])
			}},
		remove,
	)
	return cmd
}

// nodes lists all nodes.
func (c *client) nodes(ctx context.Context) ([]types.InstanceInformation, error) {
	all := []types.InstanceInformation{}
	pages := ssm.NewDescribeInstanceInformationPaginator(c.ssm, &ssm.DescribeInstanceInformationInput{MaxResults: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.InstanceInformationList...)
	}
	return all, nil
}

var nodeID = regexp.MustCompile(`^(mi-\w{17}|i-\w{8}|i-\w{17})$`)

// nodeIDs turns ids and unique names into ids; the nodes are listed only when
// there is a name among them.
func (c *client) nodeIDs(ctx context.Context, given []string) ([]string, error) {
	var nodes []types.InstanceInformation
	ids := make([]string, len(given))
	for i, text := range given {
		if nodeID.MatchString(text) {
			ids[i] = text
			continue
		}
		if nodes == nil {
			var err error
			if nodes, err = c.nodes(ctx); err != nil {
				return nil, err
			}
		}
		switch named := nodesNamed(nodes, text); len(named) {
		case 1:
			ids[i] = named[0]
		case 0:
			return nil, &outcome{exit: exitRefused, code: "InvalidInstanceId", message: fmt.Sprintf("no node has the id or name %q; `meshctl node list` shows the nodes", text)}
		default:
			return nil, &outcome{exit: exitRefused, code: "InvalidInstanceId", message: fmt.Sprintf("%d nodes are named %q: use an id (%s)", len(named), text, strings.Join(named, ", "))}
		}
	}
	return ids, nil
}

func (c *client) nodeID(ctx context.Context, given string) (string, error) {
	ids, err := c.nodeIDs(ctx, []string{given})
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

func nodeName(node types.InstanceInformation) string {
	return cmp.Or(aws.ToString(node.Name), aws.ToString(node.ComputerName))
}

// nodesNamed are the nodes of that name; what computers call themselves counts
// only where no node is named so.
func nodesNamed(nodes []types.InstanceInformation, name string) []string {
	for _, nameOf := range []func(types.InstanceInformation) *string{
		func(n types.InstanceInformation) *string { return n.Name },
		func(n types.InstanceInformation) *string { return n.ComputerName },
	} {
		var ids []string
		for _, node := range nodes {
			if aws.ToString(nameOf(node)) == name {
				ids = append(ids, aws.ToString(node.InstanceId))
			}
		}
		if len(ids) > 0 {
			return ids
		}
	}
	return nil
}

func (a *app) nodeList(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	nodes, err := c.nodes(ctx)
	if err != nil {
		if a.forPeople() && explain(err, false).Exit == exitUnreachable && ctx.Err() == nil {
			return a.membersInstead(ctx, c, err)
		}
		return err
	}
	out := &ssm.DescribeInstanceInformationOutput{InstanceInformationList: nodes}
	if !a.forPeople() {
		return a.print(out, nil)
	}
	// The rest is decoration: without it the list is still one.
	status, err := c.mesh.Status(ctx, &meshapi.StatusInput{})
	if err != nil {
		a.note("meshctl: the roles are not known: %s", explain(err, ctx.Err() != nil).Message)
		status = &meshapi.StatusOutput{}
	}
	tags := c.tags(ctx, nodes)
	slices.SortStableFunc(nodes, func(x, y types.InstanceInformation) int { return cmp.Compare(nodeName(x), nodeName(y)) })
	return a.print(out, func(w io.Writer) {
		t := newTable("NAME", "NODE", "PING", "ROLE", "ADDRESS", "PLATFORM", "VERSION", "TAGS")
		for _, node := range nodes {
			id := aws.ToString(node.InstanceId)
			t.AppendRow([]any{
				cell(nodeName(node)), id, a.paintState(string(node.PingStatus)), role(status, id), cell(aws.ToString(node.IPAddress)),
				cell(platform(node)), cell(aws.ToString(node.AgentVersion)), tags[id],
			})
		}
		a.renderTable(w, t)
	})
}

// membersInstead shows what gossip sees when the mesh cannot be asked for its
// nodes; asked is why.
func (a *app) membersInstead(ctx context.Context, c *client, asked error) error {
	members, err := c.mesh.Members(ctx, &meshapi.MembersInput{})
	if err != nil {
		return asked
	}
	a.note("meshctl: the mesh cannot be asked; this is what node %s sees", members.AnsweredBy)
	if err := a.printMembers(members); err != nil {
		return err
	}
	return asked
}

func platform(node types.InstanceInformation) string {
	return strings.TrimSpace(cmp.Or(aws.ToString(node.PlatformName), string(node.PlatformType)) + " " + aws.ToString(node.PlatformVersion))
}

// role is what a node is to the store.
func role(status *meshapi.StatusOutput, id string) string {
	switch {
	case id == status.Leader && id != "":
		return "leader"
	case slices.Contains(status.Voters, id):
		return "voter"
	case slices.Contains(status.StandBys, id):
		return "stand-by"
	case status.MeshId == "":
		return "?"
	}
	return "member"
}

// detailFetchers is how many small questions are asked at a time.
const detailFetchers = 8

// tags finds the nodes' tags: gossip has those of the living, the store is asked
// for the others. What cannot be found is shown as "?".
func (c *client) tags(ctx context.Context, nodes []types.InstanceInformation) map[string]string {
	shown := make(map[string]string, len(nodes))
	if members, err := c.mesh.Members(ctx, &meshapi.MembersInput{}); err == nil {
		for _, member := range members.Members {
			if member.Alive {
				shown[member.NodeId] = tagList(member.Tags)
			}
		}
	}
	var missing []string
	for _, node := range nodes {
		if id := aws.ToString(node.InstanceId); id != "" {
			if _, known := shown[id]; !known {
				missing = append(missing, id)
			}
		}
	}
	answers := make([]string, len(missing))
	inParallel(len(missing), func(i int) {
		answers[i] = "?"
		if tags, err := c.nodeTags(ctx, missing[i]); err == nil {
			answers[i] = tagList(tagMap(tags))
		}
	})
	for i, id := range missing {
		shown[id] = answers[i]
	}
	return shown
}

// inParallel calls do for 0 to n-1, a few at a time, and waits.
func inParallel(n int, do func(i int)) {
	var workers sync.WaitGroup
	next := make(chan int)
	for range min(n, detailFetchers) {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	workers.Wait()
}

func (c *client) nodeTags(ctx context.Context, id string) ([]types.Tag, error) {
	out, err := c.ssm.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &id})
	if err != nil {
		return nil, err
	}
	return append([]types.Tag{}, out.TagList...), nil
}

// tagsByGossip finds a node's tags without the store; denied is why.
func (c *client) tagsByGossip(ctx context.Context, id string, denied error) ([]types.Tag, error) {
	members, err := c.mesh.Members(ctx, &meshapi.MembersInput{})
	if err != nil {
		return nil, denied
	}
	for _, member := range members.Members {
		if member.NodeId != id || !member.Alive {
			continue
		}
		tags := []types.Tag{}
		for _, key := range slices.Sorted(maps.Keys(member.Tags)) {
			tags = append(tags, types.Tag{Key: &key, Value: aws.String(member.Tags[key])})
		}
		return tags, nil
	}
	return nil, denied
}

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, tag := range tags {
		m[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return m
}

// nodeDetail is what `node show` prints: members of two of the API's outputs.
type nodeDetail struct {
	InstanceInformationList []types.InstanceInformation
	TagList                 []types.Tag
}

func (a *app) nodeShow(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.nodeID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.DescribeInstanceInformation(ctx, &ssm.DescribeInstanceInformationInput{
		Filters: []types.InstanceInformationStringFilter{{Key: aws.String("InstanceIds"), Values: []string{id}}},
	})
	if err != nil {
		return err
	}
	if len(out.InstanceInformationList) == 0 {
		return &outcome{exit: exitRefused, code: "InvalidInstanceId", message: fmt.Sprintf("no node has the id %s; `meshctl node list` shows the nodes", id)}
	}
	tags, err := c.nodeTags(ctx, id)
	if err != nil && explain(err, false).Code == "AccessDeniedException" {
		// Root of a member may not ask the store for another node's tags, but its own
		// gossip, which has those of the living.
		tags, err = c.tagsByGossip(ctx, id, err)
	}
	if err != nil {
		return err
	}
	detail := nodeDetail{InstanceInformationList: out.InstanceInformationList, TagList: tags}
	if !a.forPeople() {
		return a.print(detail, nil)
	}
	status, err := c.mesh.Status(ctx, &meshapi.StatusInput{})
	if err != nil {
		status = &meshapi.StatusOutput{}
	}
	node := out.InstanceInformationList[0]
	return a.print(detail, func(w io.Writer) {
		facts(w,
			"Name", cell(aws.ToString(node.Name)),
			"Node", id,
			"Ping", a.paintState(string(node.PingStatus)),
			"Last ping", a.clock(node.LastPingDateTime),
			"Role", role(status, id),
			"Address", cell(aws.ToString(node.IPAddress)),
			"Computer", cell(aws.ToString(node.ComputerName)),
			"Platform", cell(platform(node)),
			"Version", cell(aws.ToString(node.AgentVersion)),
			"Registered", a.clock(node.RegistrationDate),
			"Activation", cell(aws.ToString(node.ActivationId)),
			"Tags", tagList(tagMap(tags)),
		)
	})
}

// parseTags reads KEY=VALUE texts.
func parseTags(texts []string) ([]types.Tag, error) {
	var tags []types.Tag
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, usagef("a tag is KEY=VALUE, not %q", text)
		}
		if slices.ContainsFunc(tags, func(t types.Tag) bool { return *t.Key == key }) {
			return nil, usagef("tag %q is given twice", key)
		}
		tags = append(tags, types.Tag{Key: &key, Value: &value})
	}
	return tags, nil
}

func (a *app) nodeTag(ctx context.Context, given string, texts []string) error {
	tags, err := parseTags(texts)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.nodeID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &id, Tags: tags})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("tagged %s: %s", id, tagList(tagMap(tags))) })
}

func (a *app) nodeUntag(ctx context.Context, given string, keys []string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.nodeID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.RemoveTagsFromResource(ctx, &ssm.RemoveTagsFromResourceInput{ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &id, TagKeys: keys})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("untagged %s: %s", id, cell(strings.Join(keys, " "))) })
}

func (a *app) nodeRemove(ctx context.Context, given string, yes bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.nodeID(ctx, given)
	if err != nil {
		return err
	}
	if a.inTerminal && !yes {
		name := id
		if given != id {
			name = fmt.Sprintf("%s (%s)", cell(given), id)
		}
		if !a.confirm(ctx, fmt.Sprintf("Shut %s out of the mesh for good? [y/N] ", name)) {
			return &outcome{exit: exitRefused, code: "Declined", message: "nothing was changed"}
		}
	}
	out, err := c.ssm.DeregisterManagedInstance(ctx, &ssm.DeregisterManagedInstanceInput{InstanceId: &id})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("removed %s", id) })
}

// confirm asks a yes-or-no question; anything but yes is no.
func (a *app) confirm(ctx context.Context, question string) bool {
	fmt.Fprint(a.err, question)
	answer := make(chan string, 1)
	go func() { // ends with the line, or with the process: a terminal cannot be read with a deadline
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return false
	case line := <-answer:
		line = strings.ToLower(strings.TrimSpace(line))
		return line == "y" || line == "yes"
	}
}
