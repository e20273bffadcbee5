package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

// annotationCSV marks commands that print CSV too.
const annotationCSV = "csv"

func (a *app) patchStatusCommand() *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use: "status", Short: "Show who is compliant: fleet, groups, severities, oldest scan", Args: exactly(),
		Long: `status shows how the nodes stand with their patches: the fleet, each patch group, what is
not compliant by severity, the oldest scan, and the nodes that want a look. A node that was never scanned is
unknown, one that was not for longer than the mesh's patch-stale-after is stale;
neither counts as compliant.

-o csv prints a line for each node, with the age of its figures, -o json all of it.`,
		Example:     "  meshctl patch status\n  meshctl patch status --group web -o csv > web.csv",
		Annotations: map[string]string{annotationCSV: "yes"},
		RunE:        func(cmd *cobra.Command, _ []string) error { return a.patchStatus(cmd.Context(), group) },
	}
	cmd.Flags().StringVar(&group, "group", "", "only the nodes of a patch `GROUP`")
	return cmd
}

// patchStatus is how all nodes stand.
func (c *client) patchStatus(ctx context.Context) (*meshapi.DescribePatchStatusOutput, error) {
	var all *meshapi.DescribePatchStatusOutput
	for in := (meshapi.DescribePatchStatusInput{}); ; {
		page, err := c.mesh.DescribePatchStatus(ctx, &in)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = page
		} else {
			all.Nodes = append(all.Nodes, page.Nodes...)
		}
		if in.NextToken = page.NextToken; in.NextToken == "" {
			all.NextToken = ""
			return all, nil
		}
	}
}

func (a *app) patchStatus(ctx context.Context, group string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	status, err := c.patchStatus(ctx)
	if err != nil {
		return err
	}
	if group != "" {
		status.Nodes = slices.DeleteFunc(status.Nodes, func(n meshapi.NodePatchStatus) bool { return n.PatchGroup != group })
	}
	summary := summarizePatches(status)
	if a.output == "csv" {
		content, err := patchCSV(status)
		if err != nil {
			return fmt.Errorf("encode the output: %w", err)
		}
		if _, err := a.out.Write(content); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return nil
	}
	return a.print(summary, func(w io.Writer) { a.writePatchSummary(w, summary, status) })
}

func (a *app) writePatchSummary(w io.Writer, s patchSummary, status *meshapi.DescribePatchStatusOutput) {
	f := s.Fleet
	oldest := "none"
	if f.OldestOperation != nil {
		oldest = a.clock(f.OldestOperation) + ", " + ageText(f.OldestAgeSeconds) + " ago"
	}
	facts(w,
		"Nodes", fmt.Sprint(f.Nodes),
		"Compliant", a.paint(a.outTerminal, green, fmt.Sprintf("%d (%s)", f.Compliant, percent(f.CompliantPercent))),
		"Not compliant", fmt.Sprint(f.NonCompliant),
		"Stale", fmt.Sprintf("%d, not scanned for %s", f.Stale, ageText(s.StaleAfterSeconds)),
		"Unknown", fmt.Sprint(f.Unknown),
		"Want a reboot", fmt.Sprint(f.PendingReboot),
		"Oldest scan", oldest,
	)
	l := s.NonCompliantPatches
	fmt.Fprintln(w)
	t := newTable("NOT COMPLIANT", "CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNSPECIFIED")
	t.AppendRow(table.Row{"patches", l.Critical, l.High, l.Medium, l.Low, l.Informational, l.Unspecified})
	n := s.NonCompliantNodes
	t.AppendRow(table.Row{"nodes, by the gravest", n["CRITICAL"], n["HIGH"], n["MEDIUM"], n["LOW"], n["INFORMATIONAL"], n["UNSPECIFIED"]})
	a.renderTable(w, t)
	fmt.Fprintln(w)
	t = newTable("GROUP", "NODES", "COMPLIANT", "NOT COMPLIANT", "STALE", "UNKNOWN", "SECURITY", "FAILED", "REBOOT", "OLDEST SCAN")
	for _, g := range s.PatchGroups {
		age := ""
		if g.OldestOperation != nil {
			age = ageText(g.OldestAgeSeconds) + " ago"
		}
		t.AppendRow(table.Row{cell(cmp.Or(g.PatchGroup, "(none)")), g.Nodes, fmt.Sprintf("%d (%s)", g.Compliant, percent(g.CompliantPercent)), g.NonCompliant, g.Stale, g.Unknown,
			g.NodesWithSecurity, g.NodesWithFailed, g.PendingReboot, age})
	}
	a.renderTable(w, t)
	rest := *status
	rest.Nodes = slices.DeleteFunc(slices.Clone(status.Nodes), func(n meshapi.NodePatchStatus) bool { return n.Status == patchCompliant })
	if len(rest.Nodes) == 0 {
		return
	}
	fmt.Fprintln(w)
	more := len(rest.Nodes) - mostRows
	if more > 0 {
		slices.SortStableFunc(rest.Nodes, func(x, y meshapi.NodePatchStatus) int { return graveness(y) - graveness(x) })
		rest.Nodes = rest.Nodes[:mostRows]
	}
	a.writePatchNodes(w, &rest)
	if more > 0 {
		fmt.Fprintf(w, "and %d more: -o csv lists all nodes\n", more)
	}
}

// graveness orders nodes by what they ask for.
func graveness(n meshapi.NodePatchStatus) int {
	l := n.NonCompliant
	for rank, count := range []int{l.Critical, l.High, n.Counts.SecurityNonCompliant, n.Counts.Failed, l.Medium, l.Low} {
		if n.Status == patchNonCompliant && count > 0 {
			return 10 - rank
		}
	}
	return map[string]int{patchNonCompliant: 3, patchStale: 2}[n.Status]
}

// writePatchNodes writes a line for each node.
func (a *app) writePatchNodes(w io.Writer, status *meshapi.DescribePatchStatusOutput) {
	t := newTable("NODE", "GROUP", "STATUS", "SEVERITY", "MISSING", "FAILED", "REBOOT", "SCANNED", "WHY")
	for _, n := range status.Nodes {
		// Without an operation there are no figures, which is not the same as none.
		row := table.Row{cell(n.Name), cell(n.PatchGroup), a.paintCompliance(n.Status), n.OverallSeverity, "?", "?", "?", "never", cell(n.Reason)}
		if n.OperationEndTime != nil {
			row = table.Row{cell(n.Name), cell(n.PatchGroup), a.paintCompliance(n.Status), n.OverallSeverity, n.Counts.Missing, n.Counts.Failed,
				n.Counts.InstalledPendingReboot, ageText(n.AgeSeconds) + " ago", cell(n.Reason)}
		}
		t.AppendRow(row)
	}
	a.renderTable(w, t)
}

// paintCompliance colours a node's state.
func (a *app) paintCompliance(status string) string {
	switch status {
	case patchCompliant:
		return a.paint(a.outTerminal, green, status)
	case patchNonCompliant:
		return a.paint(a.outTerminal, red, status)
	}
	return a.paint(a.outTerminal, yellow, cell(status))
}

// percent is a share with one figure behind the point, never rounded up to all.
func percent(p float64) string {
	if p < 100 {
		p = min(p, 99.9)
	}
	return strings.TrimSuffix(strconv.FormatFloat(p, 'f', 1, 64), ".0") + "%"
}

// ageText is an age in its largest unit.
func ageText(seconds int64) string {
	switch age := time.Duration(seconds) * time.Second; {
	case age >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(age.Hours()/24))
	case age >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(age.Hours()))
	case age >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(age.Minutes()))
	default:
		return count(int(max(age, 0).Seconds()), "second")
	}
}

// patchCSV has a line for each node, for auditors: each figure with its age.
func patchCSV(status *meshapi.DescribePatchStatusOutput) ([]byte, error) {
	var buffer bytes.Buffer
	w := csv.NewWriter(&buffer)
	rows := [][]string{{
		"NodeId", "Name", "Platform", "PatchGroup", "Status", "Reason", "OverallSeverity", "BaselineId", "Operation", "CommandId",
		"OperationEndTime", "AgeSeconds", "MetadataTime", "Installed", "InstalledOther", "InstalledPendingReboot", "InstalledRejected", "Missing", "Failed", "NotApplicable",
		"CriticalNonCompliant", "SecurityNonCompliant", "OtherNonCompliant", "PendingReboot", "Problem", "ReportedAt",
	}}
	utc := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	for _, n := range status.Nodes {
		// Without an operation there are no figures, which is not the same as none.
		number := func(v int) string {
			if n.OperationEndTime == nil {
				return ""
			}
			return strconv.Itoa(v)
		}
		c := n.Counts
		rows = append(rows, []string{
			n.NodeId, field(n.Name), field(n.Platform), field(n.PatchGroup), n.Status, field(n.Reason), n.OverallSeverity, field(n.BaselineId), n.Operation, n.CommandId,
			utc(n.OperationEndTime), number(int(n.AgeSeconds)), utc(n.MetadataTime),
			number(c.Installed), number(c.InstalledOther), number(c.InstalledPendingReboot), number(c.InstalledRejected), number(c.Missing), number(c.Failed), number(c.NotApplicable),
			number(c.CriticalNonCompliant), number(c.SecurityNonCompliant), number(c.OtherNonCompliant), strconv.FormatBool(n.PendingReboot), field(n.Problem), utc(&status.Now),
		})
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// field keeps foreign text from being a formula for a spreadsheet.
func field(s string) string {
	s = cell(s)
	if s != "" && strings.ContainsRune("=+-@", rune(s[0])) {
		return "'" + s
	}
	return s
}
