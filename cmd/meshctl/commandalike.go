package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
)

// mostOfEach is how many bytes of an output are read where those of many nodes are
// shown together.
const mostOfEach = 1 << 20

// nodeOutput is what a node wrote.
type nodeOutput struct {
	node, name string
	text       string
	cut        bool
	err        error
}

// outputOfAll prints the outputs of a command on several nodes.
func (a *app) outputOfAll(ctx context.Context, c *client, id string, invocations []types.CommandInvocation, o outputOptions) error {
	slices.SortStableFunc(invocations, func(x, y types.CommandInvocation) int {
		return cmp.Compare(aws.ToString(x.InstanceName), aws.ToString(y.InstanceName))
	})
	outputs := make([]nodeOutput, len(invocations))
	inParallel(len(invocations), func(i int) { outputs[i] = a.readOutputOf(ctx, c, id, invocations[i], o) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	missing := 0
	for _, output := range outputs {
		if output.err != nil {
			missing++
		}
	}
	var err error
	if a.forPeople() {
		err = a.print(nil, func(w io.Writer) { writeAlike(w, id, outputs) })
	} else {
		err = a.print(outputDetails(id, outputs, o), nil)
	}
	if err == nil && missing > 0 {
		err = &outcome{exit: exitNotAll, code: "OutputMissing", message: fmt.Sprintf("the output of %d of %s could not be read", missing, count(len(outputs), "node"))}
	}
	return err
}

// readOutputOf reads what a node wrote, in all steps that are wanted.
func (a *app) readOutputOf(ctx context.Context, c *client, id string, invocation types.CommandInvocation, o outputOptions) nodeOutput {
	out := nodeOutput{node: aws.ToString(invocation.InstanceId)}
	out.name = cmp.Or(aws.ToString(invocation.InstanceName), out.node)
	if len(invocation.CommandPlugins) == 0 {
		return out // it has not begun, or never did
	}
	whole := &bounded{left: mostOfEach}
	steps := stepsOf(invocation, o.step)
	for _, step := range steps {
		if len(steps) > 1 {
			if text := whole.text.String(); text != "" && !strings.HasSuffix(text, "\n") {
				whole.text.WriteByte('\n')
			}
			fmt.Fprintf(whole, "==> %s\n", step)
		}
		in := &meshapi.ReadOutputInput{CommandId: id, InstanceId: out.node, PluginName: step, Stderr: o.stderr}
		if out.err = a.copyOutput(ctx, c.mesh.ReadOutput, in, false, whole); out.err != nil {
			break
		}
	}
	if out.cut = whole.left < 0; out.cut {
		out.err = nil
	}
	out.text = whole.text.String()
	return out
}

// bounded keeps the first bytes that are written and refuses more.
type bounded struct {
	text bytes.Buffer
	left int // negative once something was refused
}

func (b *bounded) Write(data []byte) (int, error) {
	if len(data) > b.left {
		b.text.Write(data[:max(b.left, 0)])
		b.left = -1
		return 0, io.ErrShortWrite
	}
	b.left -= len(data)
	return b.text.Write(data)
}

// writeAlike writes outputs, what is the same of several nodes once.
func writeAlike(w io.Writer, id string, outputs []nodeOutput) {
	type key struct {
		text, problem string
		cut           bool
	}
	keyOf := func(o nodeOutput) key {
		k := key{text: o.text, cut: o.cut}
		if o.err != nil {
			k.problem = explain(o.err, false).Message
		}
		return k
	}
	alike := make(map[key][]string)
	for _, o := range outputs {
		alike[keyOf(o)] = append(alike[keyOf(o)], o.name)
	}
	for i, o := range outputs {
		k := keyOf(o)
		names := alike[k]
		if names == nil {
			continue // shown with the first that is the same
		}
		delete(alike, k)
		if i > 0 {
			fmt.Fprintln(w)
		}
		who := nodeNames(names, mostNamed)
		if len(names) > 1 {
			who += fmt.Sprintf(" (%d nodes)", len(names))
		}
		fmt.Fprintf(w, "==> %s <==\n", who)
		if text := strings.TrimSuffix(strings.ReplaceAll(k.text, "\r\n", "\n"), "\n"); text != "" {
			fmt.Fprintln(w, printable(text, "\n\t"))
		}
		switch {
		case k.problem != "":
			fmt.Fprintf(w, "its output could not be read: %s\n", cell(k.problem))
		case k.cut:
			fmt.Fprintf(w, "cut here; the whole: meshctl command output %s --node %s\n", id, o.node)
		case k.text == "":
			fmt.Fprintln(w, "no output")
		}
	}
}

// outputDetails are the outputs for programs.
func outputDetails(id string, outputs []nodeOutput, o outputOptions) []outputDetail {
	details := make([]outputDetail, len(outputs))
	for i, output := range outputs {
		text := strings.ToValidUTF8(output.text, "\uFFFD")
		details[i] = outputDetail{CommandId: id, InstanceId: output.node, PluginName: o.step}
		switch {
		case output.err != nil:
		case o.stderr:
			details[i].StandardErrorContent = &text
		default:
			details[i].StandardOutputContent = &text
		}
	}
	return details
}
