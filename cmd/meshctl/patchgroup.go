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

// The tags that name a node's patch group; the first counts where there are both.
const (
	tagPatchGroupSpaced = "Patch Group"
	tagPatchGroup       = "PatchGroup"
)

func (a *app) patchGroupCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "patch-group", Short: "Keep the patch groups: nodes that share a baseline",
		Long: `patch-group keeps the patch groups. A group is the nodes with its name in the tag
PatchGroup (or "Patch Group"), and has a baseline for each operating system; without
one the default of the system counts.`}
	cmd.AddCommand(a.patchGroupChangeCommand(true), a.patchGroupChangeCommand(false),
		&cobra.Command{Use: "list", Short: "List the patch groups", Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.patchGroupList(cmd.Context()) }},
		&cobra.Command{Use: "show GROUP", Short: "Show a group's baselines, nodes and figures", Args: exactly("GROUP"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.patchGroupShow(cmd.Context(), arguments[0])
			}},
	)
	return cmd
}

func (a *app) patchGroupChangeCommand(set bool) *cobra.Command {
	var baseline string
	cmd := &cobra.Command{
		Use: "set GROUP [NODE...] [--baseline BASELINE]", Short: "Put nodes into a group, give it a baseline",
		Example: `  meshctl patch-group set web web-1 web-2
  meshctl patch-group set web --baseline debian-security`,
	}
	if !set {
		cmd.Use, cmd.Short, cmd.Example = "unset GROUP [NODE...] [--baseline BASELINE]", "Take nodes or a baseline out of a group", ""
	}
	cmd.Args = func(_ *cobra.Command, arguments []string) error {
		if len(arguments) == 0 || arguments[0] == "" {
			return fmt.Errorf("say which GROUP")
		}
		if len(arguments) == 1 && baseline == "" {
			return fmt.Errorf("say what: NODE... or --baseline BASELINE")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, arguments []string) error {
		return a.patchGroupChange(cmd.Context(), set, arguments[0], arguments[1:], baseline)
	}
	cmd.Flags().StringVar(&baseline, "baseline", "", "`BASELINE` of the group, for its operating system")
	return cmd
}

func (a *app) patchGroupChange(ctx context.Context, set bool, group string, nodes []string, baseline string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	var ids []string
	if len(nodes) > 0 {
		if ids, err = c.nodeIDs(ctx, nodes); err != nil {
			return err
		}
	}
	if baseline != "" {
		id, err := c.baselineID(ctx, baseline)
		if err != nil {
			return err
		}
		if set {
			_, err = c.ssm.RegisterPatchBaselineForPatchGroup(ctx, &ssm.RegisterPatchBaselineForPatchGroupInput{BaselineId: &id, PatchGroup: &group})
		} else {
			_, err = c.ssm.DeregisterPatchBaselineForPatchGroup(ctx, &ssm.DeregisterPatchBaselineForPatchGroupInput{BaselineId: &id, PatchGroup: &group})
		}
		if err != nil {
			return err
		}
		a.note("%s %s", cell(group), map[bool]string{true: "has the baseline " + id, false: "has the baseline " + id + " no more"}[set])
	}
	for _, id := range ids {
		if err := c.changePatchGroup(ctx, set, id, group); err != nil {
			return err
		}
		a.note("%s %s %s", id, map[bool]string{true: "is in", false: "is not in"}[set], cell(group))
	}
	return nil
}

// changePatchGroup puts a node into a group, under one tag, or takes it out.
func (c *client) changePatchGroup(ctx context.Context, set bool, id, group string) error {
	tags, err := c.nodeTags(ctx, id)
	if err != nil {
		return err
	}
	var remove []string
	for _, tag := range tags {
		key := aws.ToString(tag.Key)
		if key == tagPatchGroupSpaced && (set || aws.ToString(tag.Value) == group) || key == tagPatchGroup && !set && aws.ToString(tag.Value) == group {
			remove = append(remove, key)
		}
	}
	if set {
		if _, err := c.ssm.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{
			ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &id,
			Tags: []types.Tag{{Key: aws.String(tagPatchGroup), Value: &group}},
		}); err != nil {
			return err
		}
	}
	if len(remove) == 0 {
		return nil
	}
	_, err = c.ssm.RemoveTagsFromResource(ctx, &ssm.RemoveTagsFromResourceInput{
		ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &id, TagKeys: remove,
	})
	return err
}

// patchGroupEntry is a group as `patch-group list` and `show` print it.
type patchGroupEntry struct {
	PatchGroup string
	Baselines  []types.PatchBaselineIdentity
	NodeIds    []string
	State      *ssm.DescribePatchGroupStateOutput `json:",omitempty"`
}

type patchGroupOutput struct{ PatchGroups []patchGroupEntry }

// patchGroups are the groups that have a baseline or a node, by name.
func (c *client) patchGroups(ctx context.Context) ([]patchGroupEntry, error) {
	groups := map[string]*patchGroupEntry{}
	entry := func(name string) *patchGroupEntry {
		if groups[name] == nil {
			groups[name] = &patchGroupEntry{PatchGroup: name, Baselines: []types.PatchBaselineIdentity{}, NodeIds: []string{}}
		}
		return groups[name]
	}
	pages := ssm.NewDescribePatchGroupsPaginator(c.ssm, &ssm.DescribePatchGroupsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, m := range page.Mappings {
			e := entry(aws.ToString(m.PatchGroup))
			if m.BaselineIdentity != nil {
				e.Baselines = append(e.Baselines, *m.BaselineIdentity)
			}
		}
	}
	status, err := c.patchStatus(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range status.Nodes {
		if n.PatchGroup != "" {
			e := entry(n.PatchGroup)
			e.NodeIds = append(e.NodeIds, n.NodeId)
		}
	}
	all := make([]patchGroupEntry, 0, len(groups))
	for _, e := range groups {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(x, y patchGroupEntry) int { return strings.Compare(x.PatchGroup, y.PatchGroup) })
	return all, nil
}

func (a *app) patchGroupList(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	groups, err := c.patchGroups(ctx)
	if err != nil {
		return err
	}
	return a.print(patchGroupOutput{PatchGroups: groups}, func(w io.Writer) {
		t := newTable("GROUP", "NODES", "BASELINES")
		for _, g := range groups {
			t.AppendRow([]any{cell(g.PatchGroup), len(g.NodeIds), baselineNames(g.Baselines)})
		}
		a.renderTable(w, t)
	})
}

func baselineNames(all []types.PatchBaselineIdentity) string {
	names := make([]string, len(all))
	for i, b := range all {
		names[i] = cell(fmt.Sprintf("%s (%s)", aws.ToString(b.BaselineName), b.OperatingSystem))
	}
	if len(names) == 0 {
		return "the default of the system"
	}
	return strings.Join(names, ", ")
}

func (a *app) patchGroupShow(ctx context.Context, name string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	groups, err := c.patchGroups(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(groups, func(g patchGroupEntry) bool { return g.PatchGroup == name })
	if at < 0 {
		return &outcome{exit: exitRefused, code: "DoesNotExistException", message: fmt.Sprintf("the patch group %q has neither a node nor a baseline", cell(name)), hint: "`meshctl patch-group list` shows those that there are"}
	}
	group := groups[at]
	if group.State, err = c.ssm.DescribePatchGroupState(ctx, &ssm.DescribePatchGroupStateInput{PatchGroup: &name}); err != nil {
		return err
	}
	status, err := c.patchStatus(ctx)
	if err != nil {
		return err
	}
	status.Nodes = slices.DeleteFunc(status.Nodes, func(n meshapi.NodePatchStatus) bool { return n.PatchGroup != name })
	return a.print(group, func(w io.Writer) {
		facts(w, "Group", cell(name), "Baselines", baselineNames(group.Baselines), "Nodes", fmt.Sprint(len(group.NodeIds)))
		fmt.Fprintln(w)
		a.writePatchNodes(w, status)
	})
}
