package document

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Document is a Command document, or a Policy document, which is written in the
// same language.
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
	// entries are those of a list of properties of schema 1.2 that has several; then
	// there are no inputs.
	entries []Step
}

var stepNames = regexp.MustCompile(`\A[a-zA-Z0-9_]{1,128}\z`)

// Parse reads a Command document as a node of the mesh does that runs it: whatever
// Validate accepts, and the schema versions 2.0.1 to 2.0.3, which SSM's agent
// knows and the service does not. The content may have grown by Convert beyond
// what a document may have. The error is an *Error.
func Parse(content []byte, format Format) (*Document, error) {
	root, err := parseUpTo(maxExpanded, content, format)
	if err != nil {
		return nil, err
	}
	c := &checker{docType: typeCommand}
	if err := c.version(root, agentSchemas); err != nil {
		return nil, err
	}
	if err := c.command(root); err != nil {
		return nil, err
	}
	return &c.Document, nil
}

// checker reads one document.
type checker struct {
	docType string
	Document
}

// command reads a document of schema 1.x or 2.x after its version.
func (c *checker) command(root *node) error {
	body, other := "mainSteps", "runtimeConfig"
	if c.SchemaVersion[0] == '1' {
		body, other = other, body
	}
	if f := root.field(other); f != nil {
		return f.errorf("Unknown property %q. Schema version %s has %q.", other, c.SchemaVersion, body)
	}
	if err := onlyFields(root, "in the document", "$schema", "schemaVersion", "description", "parameters", "runtimeConfig", "mainSteps"); err != nil {
		return err
	}
	if err := c.head(root); err != nil {
		return err
	}
	steps := root.field(body)
	if steps == nil || len(steps.items)+len(steps.fields) == 0 {
		return root.errorf("Missing %q in the document.", body)
	}
	if body == "mainSteps" {
		return c.mainSteps(steps)
	}
	return c.runtimeConfig(steps)
}

// head reads what most types have: description and parameters.
func (c *checker) head(root *node) (err error) {
	if c.Description, err = textField(root, "description", "in the document"); err != nil {
		return err
	}
	if parameters := root.field("parameters"); parameters != nil {
		return c.parameters(parameters)
	}
	return nil
}

// onlyFields refuses members that are not known.
func onlyFields(n *node, where string, known ...string) error {
	for _, f := range n.fields {
		if !slices.Contains(known, f.name) {
			return f.value.errorf("Unknown property %q %s.", f.name, where)
		}
	}
	return nil
}

// textField returns a member that must be a string where it is there.
func textField(n *node, name, where string) (string, error) {
	value := n.field(name)
	if value == nil {
		return "", nil
	}
	if value.kind != '"' {
		return "", value.errorf("%q should be String %s.", name, where)
	}
	return value.text, nil
}

// stepFields are the members of a step of schema 2. SSM takes those of a runbook's
// step as well and its agent does not regard them; so it is here.
var stepFields = []string{"name", "action", "inputs", "settings", "precondition", "description",
	"maxAttempts", "timeoutSeconds", "onFailure", "onCancel", "isCritical", "isEnd", "nextStep", "outputs"}

// mainSteps are the steps of schema 2.
func (c *checker) mainSteps(steps *node) error {
	if steps.kind != '[' {
		return steps.errorf(`"mainSteps" should be a list of steps.`)
	}
	seen := make(map[string]bool)
	for i, n := range steps.items {
		name, action, err := stepHead(n, i, "mainSteps")
		if err != nil {
			return err
		}
		if seen[name] {
			return n.errorf("Duplicate step names found in mainSteps of the document. The name is %q.", name)
		}
		seen[name] = true
		where := fmt.Sprintf("in step %q", name)
		if err := onlyFields(n, where, stepFields...); err != nil {
			return err
		}
		if _, err := textField(n, "description", where); err != nil {
			return err
		}
		step := Step{Name: name, Action: action, path: fmt.Sprintf("mainSteps[%d].inputs", i)}
		inputs := n.field("inputs")
		if inputs != nil && inputs.kind != '{' {
			return inputs.errorf(`"inputs" should be a map %s.`, where)
		}
		if condition := n.field("precondition"); condition != nil {
			if step.precondition, err = c.precondition(condition, where); err != nil {
				return err
			}
		}
		if err := c.step(n, step, inputs, n.field("settings")); err != nil {
			return err
		}
	}
	return nil
}

// stepHead returns the name and action that every step of schema 2 and of
// runbooks has.
func stepHead(n *node, index int, list string) (name, action string, err error) {
	if n.kind != '{' {
		return "", "", n.errorf("Step %d of %s is not an object.", index+1, list)
	}
	where := fmt.Sprintf("in step %d of %s", index+1, list)
	if name, err = textField(n, "name", where); err != nil {
		return "", "", err
	}
	if action, err = textField(n, "action", where); err != nil {
		return "", "", err
	}
	switch {
	case name == "":
		return "", "", n.errorf(`Missing "name" in step detail. It is step %d of %s.`, index+1, list)
	case action == "":
		return "", "", n.errorf(`Missing "action" in step detail. It is step %d of %s, %q.`, index+1, list, name)
	case !stepNames.MatchString(name):
		return "", "", n.field("name").errorf("StepName: %s is invalid. It may have letters, digits and _.", name)
	}
	return name, action, nil
}

// runtimeConfig has the steps of schema 1.2: each plugin is one, whatever its
// properties are.
func (c *checker) runtimeConfig(config *node) error {
	if config.kind != '{' {
		return config.errorf(`"runtimeConfig" should be a map of plugins.`)
	}
	for _, f := range config.fields {
		n, where := f.value, fmt.Sprintf("in plugin %q", f.name)
		if _, known := plugins[f.name]; !known {
			return n.errorf("Unknown plugin name: %s. It is one of runtimeConfig.", f.name)
		}
		if n.kind != '{' {
			return n.errorf("The configuration is not an object %s.", where)
		}
		if err := onlyFields(n, where, "properties", "settings", "description"); err != nil {
			return err
		}
		if err := c.properties(n, f.name, where); err != nil {
			return err
		}
	}
	return nil
}

// properties adds the step of a plugin of schema 1.2. Its properties are a map, or
// a list of maps, which run one after another as one step.
func (c *checker) properties(n *node, plugin, where string) error {
	properties, settings := n.field("properties"), n.field("settings")
	if properties == nil || properties.kind == '[' && len(properties.items) == 0 {
		return n.errorf(`Missing "properties" %s.`, where)
	}
	whole := Step{Name: plugin, Action: plugin, path: fmt.Sprintf("runtimeConfig.%s.properties", plugin)}
	if properties.kind != '[' {
		return c.oneProperties(n, whole, properties, settings, where)
	}
	before := len(c.Steps)
	for i, entry := range properties.items {
		step := Step{Name: plugin, Action: plugin, path: fmt.Sprintf("%s[%d]", whole.path, i)}
		if len(properties.items) > 1 {
			step.Name = entryName(entry, i, plugin)
		}
		if err := c.oneProperties(n, step, entry, settings, where); err != nil {
			return err
		}
	}
	if len(properties.items) > 1 {
		whole.entries = slices.Clone(c.Steps[before:])
		c.Steps = append(c.Steps[:before], whole)
	}
	return nil
}

func (c *checker) oneProperties(n *node, step Step, properties, settings *node, where string) error {
	if properties.kind != '{' && properties.kind != '"' {
		return properties.errorf(`"properties" should be a map, or a list of maps, %s.`, where)
	}
	return c.step(n, step, properties, settings)
}

// entryName names one of a list of properties: by its id, where it has one.
func entryName(entry *node, index int, plugin string) string {
	if id := entry.fieldFold("id"); id != nil && id.kind == '"' && id.text != "" && !hasReference(id) {
		return id.text
	}
	return fmt.Sprintf("%d.%s", index, plugin)
}

// step adds a step, after what both kinds of schema have in common.
func (c *checker) step(n *node, step Step, inputs, settings *node) error {
	plugin, known := plugins[step.Action]
	if !known {
		if action := n.field("action"); action != nil {
			n = action
		}
		return n.errorf("Unknown plugin name: %s. It is the action of step %q.", step.Action, step.Name)
	}
	user := fmt.Sprintf("in step %q", step.Name)
	if inputs != nil {
		if err := c.references(inputs, user, step.path); err != nil {
			return err
		}
		if err := step.secrets(inputs, user, step.path); err != nil {
			return err
		}
	}
	if settings != nil {
		if err := c.references(settings, user, "settings"); err != nil {
			return err
		}
	}
	if err := plugin.check(n, inputs, user); err != nil {
		return err
	}
	if inputs != nil {
		step.Inputs = plugin.canonical(inputs.value())
	}
	c.Steps = append(c.Steps, step)
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
	return slices.Contains(plugins[s.Action].platforms, platform) && (!restricted || strings.EqualFold(wanted, platform))
}
