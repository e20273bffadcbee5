package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"

	"fleetmesh/internal/awsjson"
)

// print writes data to stdout: v with the API's own member names, or for people
// what show writes.
func (a *app) print(v any, show func(w io.Writer)) error {
	var content []byte
	var err error
	switch a.output {
	case "json":
		content, err = encodeJSON(v)
	case "yaml":
		content, err = encodeYAML(v)
	default:
		var buffer bytes.Buffer
		show(&buffer)
		content = buffer.Bytes()
	}
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	if _, err := a.out.Write(content); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// forPeople reports whether the output is read by a person, not by a program.
func (a *app) forPeople() bool { return a.output == "table" }

func encodeJSON(v any) ([]byte, error) {
	compact, err := awsjson.Marshal(v)
	if err != nil {
		return nil, err
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, compact, "", "  "); err != nil {
		return nil, err
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

// encodeYAML writes the same members, in the same order, as YAML.
func encodeYAML(v any) ([]byte, error) {
	content, err := awsjson.Marshal(v)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	node, err := yamlNode(decoder)
	if err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	encoder := yaml.NewEncoder(&buffer)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}

// yamlNode turns the next JSON value into YAML. It is not left to the YAML parser,
// which refuses some characters that JSON has. The tags keep strings strings.
func yamlNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch value := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.MappingNode}
		if value == '[' {
			node.Kind = yaml.SequenceNode
		}
		for decoder.More() { // a member's name is a value of its own here
			child, err := yamlNode(decoder)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, child)
		}
		if len(node.Content) == 0 {
			node.Style = yaml.FlowStyle
		}
		_, err := decoder.Token() // the end
		return node, err
	case string:
		node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
		if strings.Contains(value, "\n") && strings.HasPrefix(strings.TrimLeft(value, "\n"), "\t") {
			node.Style = yaml.DoubleQuotedStyle // a block that begins with a tab cannot be read back
		}
		return node, nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: value.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value)}, nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
}

// newTable returns a table without lines, as ps and kubectl print them.
func newTable(header ...any) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Options = table.Options{}
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(header)
	return t
}

// renderTable writes a table; on a terminal its lines are cut to the width.
func (a *app) renderTable(w io.Writer, t table.Writer) {
	if a.outTerminal && a.width > 0 {
		t.Style().Size.WidthMax = a.width
		t.Style().Box.UnfinishedRow = "…"
	}
	for line := range strings.Lines(t.Render() + "\n") {
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
	}
}

// cell makes one line of foreign text that cannot command a terminal.
func cell(s string) string { return printable(s, "") }

// paragraph is printable for foreign text of several lines, of Unix or of Windows;
// keep is what it keeps beside the line breaks. It ends without one.
func paragraph(s, keep string) string {
	return strings.TrimRight(printable(strings.ReplaceAll(s, "\r\n", "\n"), keep+"\n"), "\n")
}

// printable replaces control characters, but those in keep, so that text which a
// node or a stranger wrote cannot move the cursor, colour or rename a terminal.
func printable(s, keep string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(keep, r):
			return r
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar)))
}

// The colours; they mean what traffic lights mean.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

// paint colours s when it goes to a terminal that wants colours.
func (a *app) paint(terminal bool, colour, s string) string {
	if !terminal || a.noColor || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// paintState colours a status word.
func (a *app) paintState(state string) string {
	switch state {
	case "Success", "Online":
		return a.paint(a.outTerminal, green, state)
	case "Pending", "InProgress", "Delayed", "Cancelling", "Inactive":
		return a.paint(a.outTerminal, yellow, state)
	}
	return a.paint(a.outTerminal, red, cell(state))
}

// clock shows a moment in the user's time zone, "" for none.
func (a *app) clock(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.In(a.zone).Format("2006-01-02 15:04:05")
}

// elapsed shows a length of time in three figures or so.
func elapsed(d time.Duration) string {
	switch {
	case d < 0:
		return ""
	case d < 10*time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// tagList shows tags in the order of their keys.
func tagList(tags map[string]string) string {
	pairs := make([]string, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		pairs = append(pairs, cell(key+"="+tags[key]))
	}
	return strings.Join(pairs, " ")
}

// facts writes names and values below each other, leaving out empty values; further
// lines of a value begin below its first.
func facts(w io.Writer, pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			width = max(width, len(pairs[i]))
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			value := strings.Split(pairs[i+1], "\n")
			fmt.Fprintf(w, "%-*s  %s\n", width, pairs[i], value[0])
			for _, line := range value[1:] {
				fmt.Fprintln(w, strings.TrimRight(strings.Repeat(" ", width+2)+line, " "))
			}
		}
	}
}

// count writes a number with its noun, in the plural where it is one.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
