package document

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// automation is a runbook while it is checked.
type automation struct {
	*checker
	variables map[string]bool
	// steps are all, those in loops as well: names are unique in the document, and
	// every step may name every other.
	steps map[string]*runbookStep
	order []*runbookStep
}

type runbookStep struct {
	name, action string
	n            *node
	path         string
}

func (s *runbookStep) user() string { return fmt.Sprintf("in step %q", s.name) }

var (
	// braces is what may be a reference in a runbook.
	braces       = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)
	plainName    = regexp.MustCompile(`\A[a-zA-Z0-9_]+\z`)
	stepOutput   = regexp.MustCompile(`\A([a-zA-Z0-9_]+)\.[a-zA-Z0-9_$*\[][^\s]*\z`)
	prefixedName = regexp.MustCompile(`\A([a-zA-Z-]+):([^\s]*)\z`)
)

// globals are the words of {{ global:WORD }}.
var globals = []string{"DATE", "DATE_TIME", "REGION", "ACCOUNT_ID", "AWS_PARTITION"}

// automation reads an Automation document after its version.
func (c *checker) automation(root *node) error {
	if c.docType == typeAutomation {
		if err := onlyFields(root, "in the document", "$schema", "schemaVersion", "description", "assumeRole", "parameters", "variables", "mainSteps", "outputs", "files"); err != nil {
			return err
		}
	}
	if err := c.head(root); err != nil {
		return err
	}
	a := &automation{checker: c, variables: map[string]bool{}, steps: map[string]*runbookStep{}}
	if variables := root.field("variables"); variables != nil {
		if err := a.readVariables(variables); err != nil {
			return err
		}
	}
	steps := root.field("mainSteps")
	if steps == nil || len(steps.items)+len(steps.fields) == 0 {
		return root.errorf(`Missing "mainSteps" in the document.`)
	}
	if err := a.collect(steps, "mainSteps"); err != nil {
		return err
	}
	role, err := textField(root, "assumeRole", "in the document")
	if err != nil {
		return err
	}
	if role != "" {
		if err := a.referencesIn(root.field("assumeRole"), "in the document at assumeRole"); err != nil {
			return err
		}
	}
	for _, step := range a.order {
		if err := a.check(step); err != nil {
			return err
		}
	}
	if files := root.field("files"); files != nil && files.kind != '{' {
		return files.errorf(`"files" should be a map.`)
	}
	return a.outputs(root.field("outputs"))
}

// readVariables reads the values that aws:updateVariable changes; they are
// declared like parameters.
func (a *automation) readVariables(n *node) error {
	if n.kind != '{' {
		return n.errorf(`"variables" should be a map.`)
	}
	for _, f := range n.fields {
		where := fmt.Sprintf("in the definition of variable %q", f.name)
		if f.value.kind != '{' {
			return f.value.errorf("There should be a map %s.", where)
		}
		kind, err := textField(f.value, "type", where)
		if err != nil {
			return err
		}
		switch {
		case !plainName.MatchString(f.name):
			return f.value.errorf("Variable name %q is not alpha-numeric.", f.name)
		case kind == "":
			return f.value.errorf(`Missing "type" in variable definition. It is that of %q.`, f.name)
		case !slices.Contains(parameterTypes, kind) && !resourceTypes.MatchString(kind):
			return f.value.field("type").errorf("Variable type: %s is invalid. It is that of %q.", kind, f.name)
		}
		if value := f.value.field("default"); value != nil && slices.Contains(parameterTypes, kind) && defaultOf(kind, value) == nil {
			return value.errorf("Wrong default value for a %q variable. The variable is %q.", kind, f.name)
		}
		a.variables[f.name] = true
	}
	return nil
}

// collect finds all steps, those of loops after the loop's own.
func (a *automation) collect(list *node, path string) error {
	if list.kind != '[' {
		return list.errorf("%q should be a list of steps.", path)
	}
	for i, n := range list.items {
		name, actionName, err := stepHead(n, i, path)
		if err != nil {
			return err
		}
		if a.steps[name] != nil {
			return n.field("name").errorf("Duplicate step names found in mainSteps of the document. The name is %q.", name)
		}
		if _, known := actions[actionName]; !known {
			return n.field("action").errorf("Unknown action: %s. It is that of step %q.", actionName, name)
		}
		step := &runbookStep{name: name, action: actionName, n: n, path: fmt.Sprintf("%s[%d]", path, i)}
		a.steps[name] = step
		a.order = append(a.order, step)
		if inputs := n.field("inputs"); actionName == "aws:loop" && inputs != nil && inputs.kind == '{' {
			if inner := inputs.field("Steps"); inner != nil {
				if err := a.collect(inner, step.path+".inputs.Steps"); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// check checks one step, all steps being known.
func (a *automation) check(s *runbookStep) error {
	err := onlyFields(s.n, s.user(), "name", "action", "inputs", "description", "maxAttempts", "timeoutSeconds",
		"onFailure", "onCancel", "isCritical", "isEnd", "nextStep", "outputs")
	if err != nil {
		return err
	}
	for _, in := range []input{
		optional("description", textInput), optional("nextStep", textInput), optional("onFailure", textInput), optional("onCancel", textInput),
		optional("maxAttempts", numberInput), optional("timeoutSeconds", numberInput), optional("isEnd", booleanInput), optional("isCritical", booleanInput),
	} {
		if value := s.n.field(in.name); value != nil {
			if err := in.check(value, s.user()); err != nil {
				return err
			}
			if err := a.referencesIn(value, s.user()+" at "+in.name); in.kind != textInput && err != nil {
				return err
			}
		}
	}
	if err := a.flow(s); err != nil {
		return err
	}
	inputs := s.n.field("inputs")
	if inputs != nil && inputs.kind != '{' {
		return inputs.errorf(`"inputs" should be a map %s.`, s.user())
	}
	if err := checkAction(s.action, s.n, inputs, s.user()); err != nil {
		return err
	}
	if inputs != nil {
		for _, f := range inputs.fields {
			if s.action == "aws:loop" && f.name == "Steps" {
				continue // they are steps of their own
			}
			err := walk(f.value, s.path+".inputs."+f.name, func(n *node, path string) error { return a.referencesIn(n, s.user()+" at "+path) })
			if err != nil {
				return err
			}
		}
	}
	if err := stepOutputs(s); err != nil {
		return err
	}
	switch s.action {
	case "aws:branch":
		return a.branch(s, inputs)
	case "aws:loop":
		return a.loop(s, inputs)
	case "aws:updateVariable":
		name := inputs.field("Name").textOr("")
		if variable := strings.TrimPrefix(name, "variable:"); !a.variables[variable] && !anyReference.MatchString(name) {
			return inputs.field("Name").errorf("Variable %q is not declared. It is used %s.", variable, s.user())
		}
	}
	return nil
}

// flowWords are what may be said instead of a step.
var flowWords = []struct {
	key   string
	words []string
}{{"onFailure", []string{"Abort", "Continue"}}, {"onCancel", []string{"Abort"}}}

// flow checks which steps may come next.
func (a *automation) flow(s *runbookStep) error {
	if next := s.n.field("nextStep"); next != nil {
		if a.steps[next.text] == nil {
			return unknownStep(next, next.text, "nextStep", s.user())
		}
		if end, _ := nodeText(s.n.field("isEnd")); strings.EqualFold(end, "true") {
			return next.errorf(`"isEnd == true" and nextStep should not exist in same step. It is so %s.`, s.user())
		}
	}
	for _, f := range flowWords {
		key, words := f.key, f.words
		value := s.n.field(key)
		if value == nil {
			continue
		}
		target, isStep := stepTarget(value.text)
		switch {
		case isStep && a.steps[target] == nil:
			return unknownStep(value, target, key, s.user())
		case !isStep && !slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, value.text) }):
			return value.errorf("Invalid %s: %q. It is %s or step:<name> %s.", key, value.text, strings.Join(words, ", "), s.user())
		}
	}
	return nil
}

func nodeText(n *node) (string, bool) {
	if n == nil {
		return "", false
	}
	return n.scalar()
}

// stepOutputs checks the outputs that a step declares.
func stepOutputs(s *runbookStep) error {
	outputs := s.n.field("outputs")
	if outputs == nil {
		return nil
	}
	if outputs.kind != '[' {
		return outputs.errorf(`"outputs" should be a list %s.`, s.user())
	}
	for _, o := range outputs.items {
		if o.kind != '{' {
			return o.errorf("An output should be a map %s.", s.user())
		}
		where := "of an output " + s.user()
		if err := onlyFields(o, where, "Name", "Selector", "Type"); err != nil {
			return err
		}
		for _, name := range []string{"Name", "Selector", "Type"} {
			text, err := textField(o, name, where)
			switch {
			case err != nil:
				return err
			case text == "" && name != "Type":
				return o.errorf("Missing %q %s.", name, where)
			case name == "Type" && text != "" && !slices.Contains(parameterTypes, text):
				return o.field("Type").errorf("Output type: %s is invalid %s.", text, where)
			}
		}
	}
	return nil
}

// outputs checks the document's own, each a step's.
func (a *automation) outputs(n *node) error {
	if n == nil {
		return nil
	}
	if n.kind != '[' {
		return n.errorf(`"outputs" should be a list.`)
	}
	for _, o := range n.items {
		if o.kind != '"' {
			return o.errorf("A named output should be a string.")
		}
		text := strings.TrimSpace(o.text)
		if match := braces.FindStringSubmatch(text); match != nil {
			text = match[1]
		}
		if variable, ok := strings.CutPrefix(text, "variable:"); ok && a.variables[variable] {
			continue
		}
		step, _, _ := strings.Cut(text, ".")
		if a.steps[step] == nil {
			return o.errorf("Unknown step name in named output: %s", o.text)
		}
	}
	return nil
}

// referencesIn refuses references to what is not declared. where names the place.
func (a *automation) referencesIn(n *node, where string) error {
	if n.kind != '"' || !strings.Contains(n.text, "{{") {
		return nil
	}
	for _, match := range braces.FindAllStringSubmatch(n.text, -1) {
		if problem := a.undeclared(match[1]); problem != "" {
			return n.errorf("%s It is used %s.", problem, where)
		}
	}
	return nil
}

// resourceID is a parameter that nobody declares: what a maintenance window or an
// association runs a runbook on.
const resourceID = "RESOURCE_ID"

// undeclared says why what stands in braces is a reference to nothing; "" when it
// is declared, or no reference at all.
func (a *automation) undeclared(inner string) string {
	if plainName.MatchString(inner) {
		if a.parameter(inner) == nil && inner != resourceID {
			return fmt.Sprintf("Parameter %q is not declared.", inner)
		}
		return ""
	}
	if match := prefixedName.FindStringSubmatch(inner); match != nil {
		name := match[2]
		switch match[1] {
		case "global":
			if !slices.Contains(globals, name) {
				return fmt.Sprintf("Parameter %q is not declared: the global variables are %s.", inner, strings.Join(globals, ", "))
			}
		case "automation":
			if name != "EXECUTION_ID" {
				return fmt.Sprintf("Parameter %q is not declared: the only variable of automation is EXECUTION_ID.", inner)
			}
		case "variable":
			if variable, _, _ := strings.Cut(name, "."); !a.variables[variable] {
				return fmt.Sprintf("Variable %q is not declared.", variable)
			}
		case "ssm", "ssm-secure":
			return fmt.Sprintf("Parameter %q is not declared: a runbook can use the Parameter Store only as the default of a parameter.", inner)
		}
		return ""
	}
	if match := stepOutput.FindStringSubmatch(inner); match != nil {
		if a.steps[match[1]] == nil && a.parameter(match[1]) == nil {
			return fmt.Sprintf("Parameter %q is not declared: there is no step %q.", inner, match[1])
		}
	}
	return ""
}
