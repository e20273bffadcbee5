package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

func (a *app) patchShowCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "show NODE", Short: "Show a node's patches by its last scan", Args: exactly("NODE"), ValidArgsFunction: a.completeNodes(true),
		Long: `show shows what a node's last scan or installation told: what is missing, failed or waits
for a reboot, what is offered and not approved, its sources with their age. --all adds
what is installed.`,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.patchShow(cmd.Context(), arguments[0], all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also what is installed and compliant")
	return cmd
}

func (c *client) patchReport(ctx context.Context, given string) (*meshapi.GetPatchReportOutput, error) {
	id, err := c.nodeID(ctx, given)
	if err != nil {
		return nil, err
	}
	return c.mesh.GetPatchReport(ctx, &meshapi.GetPatchReportInput{NodeId: id})
}

func (a *app) patchShow(ctx context.Context, given string, all bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.patchReport(ctx, given)
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		n := out.Node
		scanned := "never"
		if n.OperationEndTime != nil {
			scanned = fmt.Sprintf("%s, %s ago (%s)", a.clock(n.OperationEndTime), ageText(n.AgeSeconds), n.Operation)
		}
		counts := ""
		if n.OperationEndTime != nil {
			counts = fmt.Sprintf("%d missing, %d failed, %d waiting for a reboot, %d rejected, %d installed, %d other",
				n.Counts.Missing, n.Counts.Failed, n.Counts.InstalledPendingReboot, n.Counts.InstalledRejected, n.Counts.Installed, n.Counts.InstalledOther)
		}
		facts(w,
			"Node", cell(n.Name)+" ("+n.NodeId+")", "Platform", cell(n.Platform), "Patch group", cell(n.PatchGroup), "Baseline", cell(n.BaselineId),
			"Status", a.paintCompliance(n.Status), "Why", cell(n.Reason), "Severity", n.OverallSeverity, "Scanned", scanned, "Patches", counts,
			"Not listed", omittedText(out.Omitted), "Reboot", listText(out.Evidence), "Old files used by", listText(out.Services),
			"Interrupted", listText(out.Interruptions), "Repaired", listText(out.Repaired), "Not known", listText(out.Gaps), "Notes", listText(out.Notes),
			"Failed since", cell(problemText(n)), "Sources", a.sourceLines(out))
		shown := slices.DeleteFunc(slices.Clone(out.Patches), func(p meshapi.PatchDetail) bool { return !all && compliantState(p.State) })
		if len(shown) > 0 {
			fmt.Fprintln(w)
			t := newTable("PATCH", "STATE", "LEVEL", "CLASSIFICATION", "SEVERITY", "INSTALLED", "WHY")
			for _, p := range shown {
				t.AppendRow(table.Row{cell(p.Title), p.State, p.ComplianceLevel, cell(p.Classification), cell(p.Severity), a.clock(p.InstalledTime), cell(p.Reason)})
			}
			a.renderTable(w, t)
		}
		a.writePending(w, out.Pending)
	})
}

func problemText(n meshapi.NodePatchStatus) string {
	if n.Problem == "" || n.OperationEndTime == nil {
		return ""
	}
	return n.Problem
}

func omittedText(n int) string {
	if n == 0 {
		return ""
	}
	return count(n, "package") + " that are compliant"
}

func (a *app) sourceLines(out *meshapi.GetPatchReportOutput) string {
	var lines []string
	for _, s := range out.Sources {
		line := cell(s.Name)
		if s.FetchedAt != nil {
			line += ", read " + ageText(int64(out.Now.Sub(*s.FetchedAt)/time.Second)) + " ago"
		}
		if s.Problem != "" {
			line += ": " + cell(s.Problem)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func (a *app) writePending(w io.Writer, pending []meshapi.PendingPatch) {
	if len(pending) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := newTable("NOT APPROVED", "FROM", "WHY")
	for _, p := range pending {
		t.AppendRow(table.Row{cell(p.Title), a.clock(p.ApprovalDate), cell(p.Reason)})
	}
	a.renderTable(w, t)
}

// compliantState: a patch in this state leaves its node compliant.
func compliantState(state string) bool {
	return !slices.Contains([]string{"MISSING", "FAILED", "INSTALLED_REJECTED", "INSTALLED_PENDING_REBOOT"}, state)
}

func (a *app) patchExplainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain NODE PATCH", Short: "Say why a patch is in its state on a node", Args: exactly("NODE", "PATCH"), ValidArgsFunction: a.completeNodes(true),
		Long: `explain says why a patch is in its state on a node: which rule, list or delay of the
baseline decided. PATCH is a package's name, name.arch or name.arch:version, a CVE, or
the id of an advisory.`,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.patchExplain(cmd.Context(), arguments[0], arguments[1])
		},
	}
}

// patchExplanation is what explain prints.
type patchExplanation struct {
	NodeId  string
	Name    string
	Patches []meshapi.PatchDetail
	Pending []meshapi.PendingPatch
	// AgeSeconds is how old all of it is.
	AgeSeconds int64
}

// patchesNamed are what a report has of a patch by any of its names.
func patchesNamed(out *meshapi.GetPatchReportOutput, name string) patchExplanation {
	e := patchExplanation{NodeId: out.Node.NodeId, Name: out.Node.Name, Patches: []meshapi.PatchDetail{}, Pending: []meshapi.PendingPatch{}, AgeSeconds: out.Node.AgeSeconds}
	named := func(title string) bool {
		id, _, _ := strings.Cut(title, ":")
		bare := id
		if at := strings.LastIndexByte(id, '.'); at > 0 {
			bare = id[:at]
		}
		return name == title || name == id || name == bare
	}
	same := func(s string) bool { return strings.EqualFold(s, name) }
	for _, p := range out.Patches {
		if named(p.Title) || p.KBId == name || slices.ContainsFunc(p.CVEIds, same) || slices.ContainsFunc(p.AdvisoryIds, same) {
			e.Patches = append(e.Patches, p)
		}
	}
	for _, p := range out.Pending {
		if named(p.Title) || slices.ContainsFunc(p.CVEIds, same) || slices.ContainsFunc(p.AdvisoryIds, same) {
			e.Pending = append(e.Pending, p)
		}
	}
	return e
}

func (a *app) patchExplain(ctx context.Context, given, name string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.patchReport(ctx, given)
	if err != nil {
		return err
	}
	if out.Node.OperationEndTime == nil {
		return &outcome{exit: exitRefused, code: "UnknownPatchState", message: fmt.Sprintf("nothing is known of the patches of %s: %s", cell(out.Node.Name), out.Node.Reason), hint: "`meshctl patch scan --nodes " + out.Node.NodeId + "`"}
	}
	e := patchesNamed(out, name)
	if len(e.Patches)+len(e.Pending) == 0 {
		message := fmt.Sprintf("the scan of %s %s ago has nothing of %q: no package that is installed, or offered for one that is, has this name or is known to have this notice", cell(e.Name), ageText(e.AgeSeconds), name)
		if out.Omitted > 0 {
			message = fmt.Sprintf("the scan of %s %s ago lists nothing of %q; %s have no room in the list", cell(e.Name), ageText(e.AgeSeconds), name, omittedText(out.Omitted))
		}
		return &outcome{exit: exitRefused, code: "PatchNotFound", message: message}
	}
	return a.print(e, func(w io.Writer) {
		for i, p := range e.Patches {
			if i > 0 {
				fmt.Fprintln(w)
			}
			facts(w, "Patch", cell(p.Title), "State", p.State, "Why", cell(p.Reason), "Level", p.ComplianceLevel, "Classification", cell(p.Classification),
				"Severity", cell(p.Severity), "For security", securityText(p), "Installed", a.clock(p.InstalledTime), "In place of", cell(p.Replaces),
				"Advisories", cell(strings.Join(p.AdvisoryIds, " ")), "CVEs", cell(strings.Join(p.CVEIds, " ")))
		}
		for i, p := range e.Pending {
			if i+len(e.Patches) > 0 {
				fmt.Fprintln(w)
			}
			facts(w, "Offered", cell(p.Title), "State", "not approved", "Why", cell(p.Reason), "Approved from", a.clock(p.ApprovalDate),
				"Advisories", cell(strings.Join(p.AdvisoryIds, " ")), "CVEs", cell(strings.Join(p.CVEIds, " ")))
		}
		a.note("as the scan %s ago saw it, by the baseline %s", ageText(e.AgeSeconds), cell(cmp.Or(out.Node.BaselineId, "of the request")))
	})
}

func securityText(p meshapi.PatchDetail) string {
	if p.Security {
		return "yes"
	}
	return ""
}

func (a *app) patchPlanCommand() *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use: "plan [NODE...]", Short: "Show what an installation would do, by the last scans", Args: cobra.ArbitraryArgs, ValidArgsFunction: a.completeNodes(true),
		Long: `plan shows what ` + "`meshctl patch install`" + ` would install, and on which nodes, by their last
scans. Nodes without a scan, or with an old one, are told: what they would do is not
known. Without NODE it is for all nodes.`,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.patchPlan(cmd.Context(), arguments, group)
		},
	}
	cmd.Flags().StringVar(&group, "group", "", "only the nodes of a patch `GROUP`")
	return cmd
}

// nodePlan is what an installation would do on a node.
type nodePlan struct {
	NodeId     string
	Name       string
	Status     string
	Reason     string `json:",omitempty"`
	AgeSeconds int64
	// Known: there has been a scan; else Install says nothing.
	Known bool
	// Install are the titles of what would be installed, Reboot whether something
	// waits for a start of the machine already.
	Install []string
	Reboot  bool
	// Held are the titles of what is missing and would stay so: the node's
	// configuration forbids to install it.
	Held []string `json:",omitempty"`
}

type patchPlanOutput struct{ Nodes []nodePlan }

// planOf is what an installation would do by a report.
func planOf(out *meshapi.GetPatchReportOutput) nodePlan {
	n := out.Node
	p := nodePlan{NodeId: n.NodeId, Name: n.Name, Status: n.Status, Reason: n.Reason, AgeSeconds: n.AgeSeconds, Known: n.OperationEndTime != nil,
		Install: []string{}, Reboot: n.PendingReboot || n.Counts.InstalledPendingReboot > 0}
	for _, patch := range out.Patches {
		switch {
		case patch.State != "MISSING" && patch.State != "FAILED":
		case patch.Held:
			p.Held = append(p.Held, patch.Title)
		default:
			p.Install = append(p.Install, patch.Title)
		}
	}
	slices.Sort(p.Install)
	slices.Sort(p.Held)
	return p
}

func (a *app) patchPlan(ctx context.Context, given []string, group string) error {
	if len(given) > 0 && group != "" {
		return usagef("--group and NODE exclude each other")
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	var ids []string
	if len(given) > 0 {
		if ids, err = c.nodeIDs(ctx, given); err != nil {
			return err
		}
	} else {
		status, err := c.patchStatus(ctx)
		if err != nil {
			return err
		}
		for _, n := range status.Nodes {
			if group == "" || n.PatchGroup == group {
				ids = append(ids, n.NodeId)
			}
		}
	}
	out := patchPlanOutput{Nodes: []nodePlan{}}
	for _, id := range ids {
		report, err := c.mesh.GetPatchReport(ctx, &meshapi.GetPatchReportInput{NodeId: id})
		if err != nil {
			return err
		}
		out.Nodes = append(out.Nodes, planOf(report))
	}
	return a.print(out, func(w io.Writer) { a.writePlan(w, out.Nodes) })
}

// writePlanned writes patches with their nodes, nothing where there are none.
func (a *app) writePlanned(w io.Writer, head string, nodes map[string][]string) {
	if len(nodes) == 0 {
		return
	}
	t := newTable(head, "NODES", "ON")
	for _, title := range slices.Sorted(maps.Keys(nodes)) {
		t.AppendRow(table.Row{cell(title), len(nodes[title]), nodeNames(nodes[title], mostNames)})
	}
	a.renderTable(w, t)
	fmt.Fprintln(w)
}

// writePlan writes each patch with its nodes, then the nodes whose scan says little.
func (a *app) writePlan(w io.Writer, plans []nodePlan) {
	install, held, total := map[string][]string{}, map[string][]string{}, 0
	for _, p := range plans {
		for _, title := range p.Install {
			install[title] = append(install[title], p.Name)
		}
		for _, title := range p.Held {
			held[title] = append(held[title], p.Name)
		}
		if len(p.Install) > 0 {
			total++
		}
	}
	a.writePlanned(w, "WOULD INSTALL", install)
	a.writePlanned(w, "HELD ON THE NODE", held)
	fmt.Fprintf(w, "%s on %d of %s\n", count(len(install), "patch version"), total, count(len(plans), "node"))
	t := newTable("NODE", "SCANNED", "BUT")
	for _, p := range plans {
		if p.Status == patchStale || !p.Known || p.Status == "UNKNOWN" {
			scanned := "never"
			if p.Known {
				scanned = ageText(p.AgeSeconds) + " ago"
			}
			t.AppendRow(table.Row{cell(p.Name), scanned, cell(cmp.Or(p.Reason, "what it would do is not known"))})
		}
	}
	if t.Length() > 0 {
		fmt.Fprintln(w)
		a.renderTable(w, t)
	}
}
