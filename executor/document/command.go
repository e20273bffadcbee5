package document

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Document is a Command document.
type Document struct {
	SchemaVersion string
	Description   string
	Parameters    []Parameter // in the document's order
	Steps         []Step
}

// Step is one step as the document has it, parameters not replaced.
type Step struct {
	// Name is, in schema 1.2, the plugin's name, as GetCommandInvocation's
	// PluginName has it.
	Name   string
	Action string
	// Inputs are the plugin's: a map, or text that becomes one.
	Inputs any

	precondition *precondition
	path         string // of the inputs in the document, for sentences
}

var (
	stepNames      = regexp.MustCompile(`\A[a-zA-Z0-9_]{1,128}\z`)
	parameterNames = regexp.MustCompile(`\A[a-zA-Z0-9]+\z`)
)

// Parse reads a Command document of schema 1.2, 2.0 or 2.2, in JSON.
// Whatever the program would not honour is refused. An error is a sentence that
// says where in the document what is wrong.
func Parse(content []byte) (*Document, error) {
	p := &documentParser{documentText: content}
	root, err := p.parseJSON()
	if err != nil {
		return nil, err
	}
	if err := p.document(root); err != nil {
		return nil, err
	}
	return &p.Document, nil
}

type documentParser struct {
	documentText
	Document
}

func (p *documentParser) document(root *node) error {
	if root.kind != '{' {
		return p.errorAt(root.offset, "The document is not an object.")
	}
	version := root.field("schemaVersion")
	body, other := "mainSteps", "runtimeConfig"
	switch {
	case version == nil:
		return p.errorAt(root.offset, `Missing "schemaVersion" in the document.`)
	case version.kind != '"':
		return p.errorAt(version.offset, "schemaVersion should be String")
	case version.text == "1.2":
		body, other = other, body
	case version.text == "2.0", version.text == "2.2":
	case version.text == "0.3" || version.text == "1.0":
		return p.errorAt(version.offset, "%s is not a valid schema version for Command document type", version.text)
	default:
		return p.errorAt(version.offset, "Document schema version is invalid. Value: %s", version.text)
	}
	p.SchemaVersion = version.text
	err := p.onlyFields(root, "in the document", other, "$schema", "schemaVersion", "description", "parameters", body)
	if err != nil {
		return err
	}
	if p.Description, err = p.textOf(root, "description"); err != nil {
		return err
	}
	if parameters := root.field("parameters"); parameters != nil {
		if err := p.parameters(parameters); err != nil {
			return err
		}
	}
	steps := root.field(body)
	if steps == nil || len(steps.items)+len(steps.fields) == 0 {
		return p.errorAt(root.offset, "Missing %q in the document.", body)
	}
	if body == "mainSteps" {
		return p.mainSteps(steps)
	}
	return p.runtimeConfig(steps)
}

// onlyFields refuses members that are not known. absent is one that may be there
// as null, as SSM's agent writes it.
func (p *documentParser) onlyFields(n *node, where, absent string, known ...string) error {
	for _, f := range n.fields {
		if !slices.Contains(known, f.name) && !(f.name == absent && f.value.kind == 'n') {
			return p.errorAt(f.value.offset, "Unknown property %q %s.", f.name, where)
		}
	}
	return nil
}

// textOf returns a member that must be a string where it is there.
func (p *documentParser) textOf(n *node, name string) (string, error) {
	value := n.field(name)
	if value == nil {
		return "", nil
	}
	if value.kind != '"' {
		return "", p.errorAt(value.offset, "%q should be String", name)
	}
	return value.text, nil
}

// mainSteps are the steps of schema 2.
func (p *documentParser) mainSteps(steps *node) error {
	if steps.kind != '[' {
		return p.errorAt(steps.offset, `"mainSteps" should be a list of steps.`)
	}
	for i, n := range steps.items {
		if n.kind != '{' {
			return p.errorAt(n.offset, "Step %d of mainSteps is not an object.", i+1)
		}
		name, err := p.textOf(n, "name")
		if err != nil {
			return err
		}
		action, err := p.textOf(n, "action")
		if err != nil {
			return err
		}
		if name == "" || action == "" {
			missing := "name"
			if name != "" {
				missing = "action"
			}
			return p.errorAt(n.offset, "Missing %q in step detail. It is step %d of mainSteps.", missing, i+1)
		}
		where := fmt.Sprintf("in step %q", name)
		if !stepNames.MatchString(name) {
			return p.errorAt(n.offset, "StepName: %s is invalid. It may have letters, digits and _.", name)
		}
		if slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Name == name }) {
			return p.errorAt(n.offset, "Duplicate step names found in mainSteps of the document. The name is %q.", name)
		}
		if err := p.onlyFields(n, where, "", "name", "action", "inputs", "settings", "precondition", "description"); err != nil {
			return err
		}
		if _, err := p.textOf(n, "description"); err != nil {
			return err
		}
		step := Step{Name: name, Action: action, path: fmt.Sprintf("mainSteps[%d].inputs", i)}
		inputs := n.field("inputs")
		if inputs != nil && inputs.kind != '{' {
			return p.errorAt(inputs.offset, `"inputs" should be a map %s.`, where)
		}
		if condition := n.field("precondition"); condition != nil {
			if step.precondition, err = p.precondition(condition, where); err != nil {
				return err
			}
		}
		if err := p.step(n, step, inputs, n.field("settings")); err != nil {
			return err
		}
	}
	return nil
}

// runtimeConfig has the steps of schema 1.2: per plugin a list of properties,
// each of which is one.
func (p *documentParser) runtimeConfig(config *node) error {
	if config.kind != '{' {
		return p.errorAt(config.offset, `"runtimeConfig" should be a map of plugins.`)
	}
	for _, plugin := range config.fields {
		n, where := plugin.value, fmt.Sprintf("in plugin %q", plugin.name)
		if n.kind != '{' {
			return p.errorAt(n.offset, "The configuration is not an object %s.", where)
		}
		if err := p.onlyFields(n, where, "", "properties", "settings", "description"); err != nil {
			return err
		}
		properties := n.field("properties")
		entries := []*node{properties}
		if properties != nil && properties.kind == '[' {
			entries = properties.items
		}
		if properties == nil || len(entries) == 0 {
			return p.errorAt(n.offset, `Missing "properties" %s.`, where)
		}
		for i, entry := range entries {
			if entry.kind != '{' && entry.kind != '"' {
				return p.errorAt(entry.offset, `"properties" should be a map, or a list of maps, %s.`, where)
			}
			step := Step{Name: plugin.name, Action: plugin.name, path: fmt.Sprintf("runtimeConfig.%s.properties", plugin.name)}
			if properties.kind == '[' {
				step.path += fmt.Sprintf("[%d]", i)
			}
			if i > 0 {
				// PluginName must name one step: the first has the plugin's name.
				step.Name = fmt.Sprintf("%d.%s", i, plugin.name)
			}
			if err := p.step(n, step, entry, n.field("settings")); err != nil {
				return err
			}
		}
	}
	return nil
}

// step adds a step, after what both kinds of schema have in common.
func (p *documentParser) step(n *node, step Step, inputs, settings *node) error {
	if _, known := plugins[step.Action]; !known {
		return p.errorAt(n.offset, "Unknown plugin name: %s. It is the action of step %q.", step.Action, step.Name)
	}
	if inputs != nil {
		if err := p.references(inputs, step.Name, step.path); err != nil {
			return err
		}
		step.Inputs = inputs.value()
	}
	if settings != nil {
		if err := p.references(settings, step.Name, "settings"); err != nil {
			return err
		}
	}
	p.Steps = append(p.Steps, step)
	return nil
}

// references refuses {{ name }} for what is no parameter, in all strings below n.
func (p *documentParser) references(n *node, step, path string) error {
	for _, match := range reference.FindAllStringSubmatch(n.text, -1) {
		if n.kind == '"' && p.parameter(match[1]) == nil {
			return p.errorAt(n.offset, "Parameter %q is not declared. It is used in step %q at %s.", match[1], step, path)
		}
	}
	for i, item := range n.items {
		if err := p.references(item, step, fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	for _, f := range n.fields {
		if err := p.references(f.value, step, path+"."+f.name); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) parameter(name string) *Parameter {
	for i := range d.Parameters {
		if d.Parameters[i].Name == name {
			return &d.Parameters[i]
		}
	}
	return nil
}

// platformNames are those of SSM, in the order in which it lists them.
var platformNames = []string{"Windows", "Linux", "MacOS"}

// plugins are SSM's, with the platforms that they are for; whether this program
// can execute one is for the node to say.
var plugins = map[string][]string{
	"aws:applications":        {"Windows"},
	"aws:cloudWatch":          {"Windows"},
	"aws:configureDocker":     {"Windows", "Linux"},
	"aws:configurePackage":    {"Windows", "Linux"},
	"aws:domainJoin":          {"Windows", "Linux"},
	"aws:downloadContent":     platformNames,
	"aws:psModule":            {"Windows"},
	"aws:refreshAssociation":  platformNames,
	"aws:runDockerAction":     {"Windows", "Linux"},
	"aws:runDocument":         platformNames,
	"aws:runPowerShellScript": platformNames,
	"aws:runShellScript":      {"Linux", "MacOS"},
	"aws:softwareInventory":   platformNames,
	"aws:updateAgent":         {"Windows"},
	"aws:updateSsmAgent":      platformNames,
}

// Platforms returns the platforms (Windows, Linux, MacOS) on which some step can
// run.
func (d *Document) Platforms() []string {
	var platforms []string
	for _, platform := range platformNames {
		if slices.ContainsFunc(d.Steps, func(s Step) bool { return s.runsOn(platform) }) {
			platforms = append(platforms, platform)
		}
	}
	return platforms
}

func (s *Step) runsOn(platform string) bool {
	wanted, restricted := s.precondition.platform()
	return slices.Contains(plugins[s.Action], platform) && (!restricted || strings.EqualFold(wanted, platform))
}
