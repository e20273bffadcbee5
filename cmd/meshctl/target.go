package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// maxInstanceIDs and maxTargets are SendCommand's own bounds.
const (
	maxInstanceIDs = 50
	maxTargets     = 5
)

// parseTargets reads --targets. Keys are ANDed, the values of one are ORed.
func parseTargets(specs []string) ([]types.Target, error) {
	var targets []types.Target
	for _, spec := range specs {
		if spec == "all" {
			if len(specs) > 1 {
				return nil, usagef("--targets all goes with no other target")
			}
			return []types.Target{{Key: aws.String("InstanceIds"), Values: []string{"*"}}}, nil
		}
		key, list, ok := strings.Cut(spec, "=")
		if !ok || list == "" || key == "tag:" || (!strings.HasPrefix(key, "tag:") && key != "tag-key") {
			return nil, usagef("--targets is tag:KEY=V1,V2 or tag-key=K or all, not %q", spec)
		}
		values := strings.Split(list, ",")
		if slices.Contains(values, "") && len(values) > 1 {
			return nil, usagef("--targets %q has an empty value", spec)
		}
		targets = append(targets, types.Target{Key: &key, Values: values})
	}
	if len(targets) > maxTargets {
		return nil, usagef("--targets may be given %d times at most", maxTargets)
	}
	return targets, nil
}

// maxParameterFile bounds what is read for one value, in bytes: more than a
// document and its parameters may have together.
const maxParameterFile = 128 << 10

// parseParameters reads --parameter, and --parameter-file after it; a name that is
// repeated has several values.
func parseParameters(texts, files []string) (map[string][]string, error) {
	parameters := make(map[string][]string)
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--parameter is NAME=VALUE, not %q", text)
		}
		parameters[name] = append(parameters[name], value)
	}
	for _, text := range files {
		name, path, ok := strings.Cut(text, "=")
		if !ok || name == "" || path == "" {
			return nil, usagef("--parameter-file is NAME=FILE, not %q", text)
		}
		value, err := readValue(path)
		if err != nil {
			return nil, fmt.Errorf("read the parameter %s: %w", name, err)
		}
		parameters[name] = append(parameters[name], value)
	}
	return parameters, nil
}

// readValue reads a file as one value; the newline that ends a text file is none
// of it.
func readValue(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxParameterFile+1))
	switch {
	case err != nil:
		return "", err
	case len(content) > maxParameterFile:
		return "", fmt.Errorf("%s has more than %d bytes", path, maxParameterFile)
	case !utf8.Valid(content):
		return "", fmt.Errorf("%s is not a text in UTF-8", path)
	}
	return strings.TrimSuffix(string(content), "\n"), nil
}

// minExecution and maxExecution are Systems Manager's bounds, in seconds. A node
// takes its default for what is outside of them, which nobody means.
const (
	minExecution = 5
	maxExecution = 172800
)

// runOptions is what `run` is told.
type runOptions struct {
	targets          []string
	nodes            []string
	parameters       []string
	parameterFiles   []string
	documentVersion  string
	maxConcurrency   string
	maxErrors        string
	deliveryTimeout  int32 // seconds; 0 is the mesh's default
	executionTimeout int   // seconds; 0 is the document's default
	comment          string
	detach           bool
	retryFailed      string
	reboot           bool
}

// shellDocument runs a COMMAND.
const shellDocument = "AWS-RunShellScript"

// sendInput makes the request of a command line; document is "" and command
// empty where not given. The nodes are still as the user named them.
func sendInput(o runOptions, document string, command []string) (*ssm.SendCommandInput, error) {
	parameters, err := parseParameters(o.parameters, o.parameterFiles)
	if err != nil {
		return nil, err
	}
	if len(command) > 0 {
		if parameters["commands"] != nil {
			return nil, usagef("give the commands after -- or as --parameter commands=…, not both")
		}
		line := commandLine(command)
		if strings.TrimSpace(line) == "" {
			return nil, usagef("the command after -- is empty")
		}
		parameters["commands"] = []string{line}
		if document == "" {
			document = shellDocument
		}
	}
	if document == "" {
		return nil, usagef("say what to run: a DOCUMENT, or a COMMAND after --")
	}
	if o.executionTimeout < 0 || o.deliveryTimeout < 0 {
		return nil, usagef("a timeout is a positive number of seconds")
	}
	if o.executionTimeout > 0 {
		if o.executionTimeout < minExecution || o.executionTimeout > maxExecution {
			return nil, usagef("--execution-timeout is %d to %d seconds, not %d", minExecution, maxExecution, o.executionTimeout)
		}
		if parameters["executionTimeout"] != nil {
			return nil, usagef("give --execution-timeout or --parameter executionTimeout=…, not both")
		}
		parameters["executionTimeout"] = []string{fmt.Sprint(o.executionTimeout)}
	}
	targets, err := parseTargets(o.targets)
	if err != nil {
		return nil, err
	}
	switch {
	case len(targets) > 0 && len(o.nodes) > 0:
		return nil, usagef("--targets and --nodes exclude each other")
	case len(targets) == 0 && len(o.nodes) == 0:
		return nil, usagef("say where: --targets tag:KEY=VALUE, --targets all or --nodes NODE,…")
	case len(o.nodes) > maxInstanceIDs:
		return nil, usagef("--nodes takes %d nodes at most; use --targets", maxInstanceIDs)
	case slices.Contains(o.nodes, ""):
		return nil, usagef("--nodes has an empty name")
	}
	version := o.documentVersion
	if o.reboot {
		if document, parameters, err = withReboot(document, version, parameters); err != nil {
			return nil, err
		}
		version = ""
	}
	in := &ssm.SendCommandInput{DocumentName: &document, Targets: targets, InstanceIds: o.nodes}
	if len(parameters) > 0 {
		in.Parameters = parameters
	}
	if version != "" {
		in.DocumentVersion = &version
	}
	o.limits(in)
	return in, nil
}

// Documents that start the machine anew after what they run was successful.
const (
	shellRebootDocument    = "Fleetmesh-RunShellScriptAndReboot"
	documentRebootDocument = "Fleetmesh-RunDocumentAndReboot"
)

// withReboot makes the document and parameters that run a document and then start
// the machine anew.
func withReboot(document, version string, parameters map[string][]string) (string, map[string][]string, error) {
	if document == shellDocument && version == "" {
		return shellRebootDocument, parameters, nil
	}
	if version != "" {
		document += ":" + version
	}
	wrapped := map[string][]string{"documentName": {document}}
	if len(parameters) > 0 {
		text, err := json.Marshal(parameters)
		if err != nil {
			return "", nil, fmt.Errorf("encode the document's parameters: %w", err)
		}
		wrapped["documentParameters"] = []string{string(text)}
	}
	return documentRebootDocument, wrapped, nil
}

// send resolves the nodes' names and sends the command.
func (c *client) send(ctx context.Context, in *ssm.SendCommandInput) (*ssm.SendCommandOutput, error) {
	if len(in.InstanceIds) > 0 {
		ids, err := c.nodeIDs(ctx, in.InstanceIds)
		if err != nil {
			return nil, err
		}
		in.InstanceIds = ids
	}
	out, err := c.ssm.SendCommand(ctx, in)
	if err != nil {
		return nil, err
	}
	if out.Command == nil || aws.ToString(out.Command.CommandId) == "" {
		return nil, fmt.Errorf("the mesh's answer names no command")
	}
	return out, nil
}
