package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// voidAbove is how far the medians of a floor before and after a table may differ,
// as a part of the smaller one; beyond it the machine was not the same.
const voidAbove = 0.25

// report is the result of a run, as it is written to JSON.
type report struct {
	Machine  machine
	Took     string
	Tables   []*table
	Failures []string
}

// table is a number of rows that were measured between two measurements of its
// floor.
type table struct {
	Title string
	// Method says what is measured, from when to when.
	Method string
	Floor  *floorCheck `json:",omitempty"`
	Void   bool
	Rows   []row
	Notes  []string
}

// floorCheck is a table's floor, right before and after it.
type floorCheck struct {
	What   string
	Unit   string
	Before []float64
	After  []float64
}

// row is one measurement: the values of all its runs.
type row struct {
	Name   string
	Unit   string
	Values []float64
	// Ratio compares the median with that of another row of the table, Of.
	Ratio float64 `json:",omitempty"`
	Of    string  `json:",omitempty"`
	Aim   string  `json:",omitempty"`
	// Verdict is "met" or "missed", or VOID in a table that is; empty without an
	// aim.
	Verdict string `json:",omitempty"`
	Note    string `json:",omitempty"`
}

const verdictVoid = "VOID"

func newReport(m machine) *report { return &report{Machine: m} }

// median is the middle value, the mean of the two middle ones of an even number.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// drift is by how much the larger median is above the smaller.
func (f *floorCheck) drift() float64 {
	before, after := median(f.Before), median(f.After)
	return max(before, after)/min(before, after) - 1
}

func (f *floorCheck) void() bool { return !(f.drift() <= voidAbove) }

// both are the runs before and after, which are the floor of the table.
func (f *floorCheck) both() []float64 { return slices.Concat(f.Before, f.After) }

// add adds a row and returns it; it is valid until the next add.
func (t *table) add(name, unit string, values []float64) *row {
	t.Rows = append(t.Rows, row{Name: name, Unit: unit, Values: values})
	return &t.Rows[len(t.Rows)-1]
}

// times compares the row with a floor or another row: its median divided by that
// of the other.
func (r *row) times(other []float64, of string) *row {
	if len(other) > 0 && len(r.Values) > 0 {
		r.Ratio, r.Of = median(r.Values)/median(other), of
	}
	return r
}

// atMost judges the row's ratio.
func (r *row) atMost(limit float64) *row {
	r.Aim = fmt.Sprintf("≤ %s × %s", number(limit), r.Of)
	return r.judge(r.Ratio > 0 && r.Ratio <= limit)
}

// atLeast judges the row's ratio.
func (r *row) atLeast(limit float64) *row {
	r.Aim = fmt.Sprintf("≥ %s × %s", number(limit), r.Of)
	return r.judge(r.Ratio >= limit)
}

// below judges the row's median.
func (r *row) below(limit float64) *row {
	r.Aim = fmt.Sprintf("< %s %s", number(limit), r.Unit)
	return r.judge(median(r.Values) < limit)
}

func (r *row) judge(met bool) *row {
	r.Verdict = "missed"
	if met {
		r.Verdict = "met"
	}
	return r
}

func (r *row) note(format string, args ...any) *row {
	r.Note = fmt.Sprintf(format, args...)
	return r
}

// finish judges the floor, prints the table and takes it into the report.
func (b *bench) finish(t *table) {
	if t.Floor != nil && t.Floor.void() {
		t.Void = true
		for i := range t.Rows {
			if t.Rows[i].Verdict != "" {
				t.Rows[i].Verdict = verdictVoid
			}
		}
	}
	b.report.Tables = append(b.report.Tables, t)
	fmt.Println()
	t.markdown(os.Stdout)
}

// number writes three significant digits, and all digits of what is 1000 or more.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case math.Abs(v) >= 1000:
		return grouped(int64(math.Round(v)))
	case v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func grouped(v int64) string {
	text := strconv.FormatInt(v, 10)
	var out []byte
	for i, c := range []byte(text) {
		if i > 0 && text[i-1] != '-' && (len(text)-i)%3 == 0 {
			out = append(out, ',')
		}
		out = append(out, c)
	}
	return string(out)
}

func span(values []float64) string {
	return number(slices.Min(values)) + "–" + number(slices.Max(values))
}

// figure is a row's median, with the range where there was more than one run.
func (r *row) figure() string {
	switch len(r.Values) {
	case 0:
		return "-"
	case 1:
		return number(r.Values[0]) + " " + r.Unit
	}
	return fmt.Sprintf("**%s** %s (%s)", number(median(r.Values)), r.Unit, span(r.Values))
}

// markdown writes the table in columns that also read well as plain text.
func (t *table) markdown(w io.Writer) {
	title := t.Title
	if t.Void {
		title += " — VOID"
	}
	fmt.Fprintf(w, "### %s\n\n%s\n\n", title, t.Method)
	if f := t.Floor; f != nil {
		state := ""
		if t.Void {
			state = fmt.Sprintf(": more than %.0f %%, the table is void", voidAbove*100)
		}
		fmt.Fprintf(w, "Floor (%s): %s %s before (%s, %d runs), %s after (%s, %d runs); they differ by %.0f %%%s.\n\n",
			f.What, number(median(f.Before)), f.Unit, span(f.Before), len(f.Before), number(median(f.After)), span(f.After), len(f.After), f.drift()*100, state)
	}
	cells := [][]string{{"what", "median (min–max)", "runs", "ratio", "aim", ""}}
	for i := range t.Rows {
		r := &t.Rows[i]
		ratio := ""
		if r.Of != "" {
			ratio = fmt.Sprintf("%s × %s", number(r.Ratio), r.Of)
		}
		name := r.Name
		if r.Note != "" {
			name += " (" + r.Note + ")"
		}
		cells = append(cells, []string{name, r.figure(), strconv.Itoa(len(r.Values)), ratio, r.Aim, r.Verdict})
	}
	writeCells(w, cells)
	for _, note := range t.Notes {
		fmt.Fprintf(w, "\n%s\n", note)
	}
}

// writeCells aligns the columns; the first line is the head.
func writeCells(w io.Writer, cells [][]string) {
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, line := range cells {
		for i, cell := range line {
			fmt.Fprintf(w, "| %s%s ", cell, strings.Repeat(" ", widths[i]-len([]rune(cell))))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprintf(w, "| %s ", strings.Repeat("-", width))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

func (r *report) printHead(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s: %d CPUs (%s), %s MiB, %s, Linux %s, %s, meshd %s\n", m.Date, m.CPUs, m.CPU, grouped(m.MemoryMiB), m.System, m.Kernel, m.Go, m.Meshd)
	for _, peer := range m.Peers {
		fmt.Fprintf(w, "peer: %s\n", peer)
	}
}

// summary counts the verdicts.
func (r *report) summary() string {
	counts := map[string]int{}
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			counts[row.Verdict]++
		}
	}
	text := fmt.Sprintf("%d aims met, %d missed, %d void, in %s", counts["met"], counts["missed"], counts[verdictVoid], r.Took)
	if n := len(r.Failures); n > 0 {
		text += fmt.Sprintf("; %d sections failed", n)
	}
	return text
}

// write puts the report into dir, as Markdown and as JSON.
func (r *report) write(dir, which string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the results: %w", err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "# Measurements: %s\n\n", which)
	r.printHead(&text)
	fmt.Fprintf(&text, "\n%s.\n", r.summary())
	for _, failure := range r.Failures {
		fmt.Fprintf(&text, "\nNot measured: %s\n", failure)
	}
	for _, t := range r.Tables {
		fmt.Fprintln(&text)
		t.markdown(&text)
	}
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the results: %w", err)
	}
	paths := []string{filepath.Join(dir, "results.md"), filepath.Join(dir, "results.json")}
	if which != "full" {
		// Parts are for the moment; git ignores them.
		name := strings.ReplaceAll(which, ",", "-")
		paths = []string{filepath.Join(dir, name+".md.tmp"), filepath.Join(dir, name+".json.tmp")}
	}
	for i, content := range [][]byte{[]byte(text.String()), append(data, '\n')} {
		if err := os.WriteFile(paths[i], content, 0o644); err != nil {
			return nil, fmt.Errorf("write the results: %w", err)
		}
	}
	return paths, nil
}

// milliseconds and seconds turn durations into a row's values.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
func seconds(d time.Duration) float64      { return d.Seconds() }
