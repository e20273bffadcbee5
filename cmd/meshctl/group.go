package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fleetmesh/agent/meshapi"
)

const (
	// mostRows is how many nodes have a line each; of more, those that look alike
	// share one.
	mostRows = 20
	// mostNames is how many nodes a line of the table names, mostNamed one above a
	// failure.
	mostNames, mostNamed = 3, 10
	// mostFailures is how many failures are read and shown in full.
	mostFailures = 50
)

// invocationRow is a line of the table of nodes.
type invocationRow struct {
	nodes                []string
	status, exit, output string
	slowest              meshapi.InvocationChange
}

// invocationRows are the lines of a table of nodes, in the order of the nodes;
// of many nodes, those that failed come first. why
// says what stands in the place of an output that is not there yet.
func invocationRows(all []meshapi.InvocationChange, why func(meshapi.InvocationChange) string) []invocationRow {
	named := make(map[string]int)
	for _, i := range all {
		named[i.Name]++
	}
	type key struct{ status, exit, output string }
	at := make(map[key]int)
	var rows []invocationRow
	for _, i := range all {
		name := cmp.Or(i.Name, i.InstanceId)
		if named[i.Name] > 1 {
			name = strings.TrimSpace(i.Name + " " + i.InstanceId)
		}
		k := key{cmp.Or(i.StatusDetails, i.Status), exitText(i), cmp.Or(i.FirstLine, i.Reason, why(i))}
		if n, known := at[k]; known && len(all) > mostRows {
			rows[n].nodes = append(rows[n].nodes, name)
			if took(i) > took(rows[n].slowest) {
				rows[n].slowest = i
			}
			continue
		}
		at[k] = len(rows)
		rows = append(rows, invocationRow{nodes: []string{name}, status: k.status, exit: k.exit, output: k.output, slowest: i})
	}
	if len(all) > mostRows {
		// In a long table the failures are what is looked for.
		slices.SortStableFunc(rows, func(x, y invocationRow) int { return cmp.Compare(y.rank(), x.rank()) })
	}
	return rows
}

func (r invocationRow) rank() int { return rank(r.slowest) }

// took is how long a node has needed; 0 where that is not known.
func took(i meshapi.InvocationChange) (seconds float64) {
	if i.StartedAt == nil || i.FinishedAt == nil {
		return 0
	}
	return i.FinishedAt.Sub(*i.StartedAt).Seconds()
}

// time is that of the slowest node.
func (r invocationRow) time() string {
	text := timeText(r.slowest)
	if len(r.nodes) > 1 && text != "" {
		return "<= " + text
	}
	return text
}

// nodeNames names the first nodes and counts the others.
func nodeNames(names []string, most int) string {
	text := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return cell(text)
}

// failedNode is what is shown of a node's failure.
type failedNode struct {
	node       string // its id
	name, head string
	body       string
	cut        bool // body has not all of the output
}

// writeFailures shows failures; what is the same of several nodes once.
func (a *app) writeFailures(w *strings.Builder, commandID string, failures []failedNode, more int) {
	type key struct {
		head, body string
		cut        bool
	}
	alike := make(map[key][]string)
	for _, f := range failures {
		k := key{f.head, f.body, f.cut}
		alike[k] = append(alike[k], f.name)
	}
	for _, f := range failures {
		k := key{f.head, f.body, f.cut}
		names := alike[k]
		if len(names) == 0 {
			continue // shown with the first that is the same
		}
		who := nodeNames(names, mostNamed)
		if len(names) == 1 && f.name != f.node {
			who += " (" + f.node + ")"
		}
		fmt.Fprintf(w, "\n%s\n%s", a.paint(a.outTerminal, red, who+": "+f.head), f.body)
		if f.cut {
			fmt.Fprintf(w, "  cut here; the whole: meshctl command output %s --node %s [--stderr]\n", commandID, f.node)
		}
		delete(alike, k)
	}
	if more > 0 {
		fmt.Fprintf(w, "\n%d more failed; all of them: meshctl command show %s -o json\n", more, commandID)
	}
}
