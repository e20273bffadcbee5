package document

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// plugin is what SSM says of a plugin of Command documents. Whether this program
// can execute one is for the node to say.
type plugin struct {
	platforms []string
	// inputs are those that the plugin reads itself. Required are only those without
	// which SSM is known to take no document, or without which a step has no sense:
	// it accepts an aws:runDocument without documentPath, and the step fails. Other
	// names are taken and not regarded, as SSM's own documents need it.
	inputs []input
}

// input is one of a plugin or action. Plugins find theirs in any case, as SSM's
// agent does; actions do not.
type input struct {
	name     string
	kind     inputKind
	required bool
	values   []string // which there are; nil: any
}

// inputKind is what may be given for an input where it is no reference. Numbers
// and booleans may stand wherever a text may, and the other way round when the
// text is one: SSM takes both.
type inputKind int

const (
	anyInput     inputKind = iota
	textInput              // a string
	numberInput            // a number
	booleanInput           // a boolean
	textsInput             // a list of strings, or one string
	mapInput               // a map, or JSON text of one
	mapsInput              // a list of maps, a map, or JSON text
)

func required(name string, kind inputKind, values ...string) input {
	return input{name: name, kind: kind, required: true, values: values}
}

func optional(name string, kind inputKind, values ...string) input {
	return input{name: name, kind: kind, values: values}
}

// commonInputs are those that the runner of steps reads, or that SSM takes
// everywhere.
var commonInputs = []input{
	optional("id", textInput), optional("onFailure", textInput), optional("onSuccess", textInput), optional("finallyStep", booleanInput),
	optional("timeoutSeconds", numberInput), optional("maxAttempts", numberInput),
}

var (
	everywhere     = platformNames
	windowsOnly    = []string{"Windows"}
	unixOnly       = []string{"Linux", "MacOS"}
	windowsOrLinux = []string{"Windows", "Linux"}
)

// plugins are SSM's, and one of ours: what SSM does by a program that it downloads.
var plugins = map[string]plugin{
	"aws:applications": {windowsOnly, []input{
		required("action", textInput), required("source", textInput), optional("sourceHash", textInput), optional("parameters", textInput),
	}},
	"aws:cloudWatch":      {windowsOnly, nil},
	"aws:configureDaemon": {everywhere, nil},
	"aws:configureDocker": {windowsOrLinux, []input{required("action", textInput, "Install", "Uninstall")}},
	"aws:configurePackage": {everywhere, []input{
		required("name", textInput), required("action", textInput, "Install", "Uninstall"), optional("version", textInput),
		optional("installationType", textInput, "Uninstall and reinstall", "In-place update"), optional("additionalArguments", mapInput),
		optional("source", textInput), optional("repository", textInput),
	}},
	"aws:domainJoin": {windowsOrLinux, []input{
		required("directoryId", textInput), optional("directoryName", textInput), optional("dnsIpAddresses", textsInput), optional("directoryOU", textInput),
		optional("keepHostName", booleanInput), optional("hostname", textInput), optional("hostnameNumAppendDigits", textInput),
	}},
	"aws:downloadContent": {everywhere, []input{
		required("sourceType", textInput, "GitHub", "Git", "HTTP", "S3", "SSMDocument"), required("sourceInfo", mapInput), optional("destinationPath", textInput),
	}},
	"aws:psModule": {windowsOnly, []input{
		required("source", textInput), optional("sourceHash", textInput), optional("runCommand", textsInput), optional("workingDirectory", textInput),
	}},
	"aws:refreshAssociation": {everywhere, []input{optional("associationIds", textsInput)}},
	"aws:runDockerAction": {windowsOrLinux, []input{
		required("action", textInput, "Create", "Start", "Run", "Stop", "Rm", "Exec", "Inspect", "Logs", "Ps", "Stats", "Pull", "Images", "Rmi"),
		optional("container", textInput), optional("image", textInput), optional("cmd", textInput), optional("memory", textInput), optional("cpuShares", textInput),
		optional("volume", textsInput), optional("env", textInput), optional("user", textInput), optional("publish", textInput),
	}},
	"aws:runDocument": {everywhere, []input{
		required("documentType", textInput, "SSMDocument", "LocalPath"), optional("documentPath", textInput), optional("documentParameters", mapInput),
	}},
	"aws:runPowerShellScript": {everywhere, scriptInputs},
	"aws:runShellScript":      {unixOnly, scriptInputs},
	"aws:softwareInventory": {everywhere, []input{
		optional("applications", textInput), optional("awsComponents", textInput), optional("networkConfig", textInput), optional("billingInfo", textInput),
		optional("files", anyInput), optional("services", textInput), optional("windowsRoles", textInput), optional("windowsRegistry", anyInput),
		optional("windowsUpdates", textInput), optional("instanceDetailedInformation", textInput), optional("customInventory", textInput),
		optional("customInventoryDirectory", textInput),
	}},
	"aws:updateAgent":    {windowsOnly, updateInputs},
	"aws:updateSsmAgent": {everywhere, updateInputs},
	ActionRunPatchBaseline: {[]string{"Linux"}, []input{
		required("operation", textInput, "Scan", "Install"), optional("associationId", textInput), optional("snapshotId", textInput),
		optional("installOverrideList", textInput), optional("baselineOverride", textInput), optional("rebootOption", textInput, "RebootIfNeeded", "NoReboot"),
	}},
}

// ActionRunPatchBaseline is the action that patches a machine. It is not SSM's.
const ActionRunPatchBaseline = "mesh:runPatchBaseline"

var (
	scriptInputs = []input{required("runCommand", textsInput), optional("workingDirectory", textInput)}
	updateInputs = []input{
		required("agentName", textInput), optional("source", textInput), optional("allowDowngrade", booleanInput), optional("targetVersion", textInput),
	}
)

// check refuses inputs that do not fit. n is the step, inputs nil where it has
// none; user names the step.
func (p plugin) check(n, inputs *node, user string) error {
	if inputs != nil && inputs.kind == '"' {
		return nil // text that becomes a map
	}
	if inputs == nil {
		// SSM's own documents have steps with settings alone.
		if n.field("settings") != nil || !slices.ContainsFunc(p.inputs, func(in input) bool { return in.required && in.name == "runCommand" }) {
			return nil
		}
		inputs = &node{kind: '{', line: n.line, column: n.column}
	}
	for _, in := range append(slices.Clone(p.inputs), commonInputs...) {
		value := inputs.fieldFold(in.name)
		switch {
		case value != nil:
			if err := in.check(value, user); err != nil {
				return err
			}
		case in.required:
			return inputs.errorf("Missing input %q %s.", in.name, user)
		}
	}
	return nil
}

// canonical gives a plugin's inputs the case in which the plugin looks for them.
func (p plugin) canonical(value any) any {
	object, ok := value.(map[string]any)
	if !ok {
		return value
	}
	for _, in := range append(slices.Clone(p.inputs), commonInputs...) {
		if _, exact := object[in.name]; exact {
			continue
		}
		for name, v := range object {
			if strings.EqualFold(name, in.name) {
				object[in.name] = v
				delete(object, name)
				break
			}
		}
	}
	return object
}

// check refuses a value that is not of the input's kind. user names the step.
func (in input) check(value *node, user string) error {
	if value.kind == 'n' || hasReference(value) {
		return nil
	}
	wrong := func(what string) error { return value.errorf("Input %q should be %s %s.", in.name, what, user) }
	text, isScalar := value.scalar()
	switch in.kind {
	case textInput:
		if !isScalar {
			return wrong("a string")
		}
	case numberInput:
		if _, err := strconv.ParseFloat(strings.TrimSpace(text), 64); text != "" && err != nil || !isScalar {
			return wrong("a number")
		}
	case booleanInput:
		if !isScalar || !slices.ContainsFunc([]string{"true", "false", ""}, func(s string) bool { return strings.EqualFold(s, text) }) {
			return wrong("true or false")
		}
	case textsInput:
		if value.kind == '{' || !texts(value) {
			return wrong("a list of strings")
		}
	case mapInput:
		if _, isMap := mapText(value); value.kind != '{' && !isMap {
			return wrong("a map")
		}
	case mapsInput:
		if value.kind != '[' && value.kind != '{' && value.kind != '"' {
			return wrong("a list of maps")
		}
	}
	if in.values != nil && !slices.ContainsFunc(in.values, func(s string) bool { return strings.EqualFold(s, text) }) {
		return wrong(fmt.Sprintf("one of %s", strings.Join(in.values, ", ")))
	}
	return nil
}

// texts: lists may nest, since a reference in a list may be to a list; null is an
// element left empty in YAML.
func texts(n *node) bool {
	if n.kind == 'n' {
		return true
	}
	if n.kind == '[' {
		return !slices.ContainsFunc(n.items, func(item *node) bool { return !texts(item) })
	}
	_, ok := n.scalar()
	return ok
}

// mapText reads a map that is given as text, in JSON or YAML; "" is none.
func mapText(n *node) (*node, bool) {
	if n.kind != '"' {
		return nil, false
	}
	if strings.TrimSpace(n.text) == "" {
		return nil, true
	}
	m, err := parse([]byte(n.text), YAML)
	return m, err == nil && m.kind == '{'
}
