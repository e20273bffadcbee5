package document

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Resolve makes tasks of the document's steps for a node of the platform (Linux,
// Windows, MacOS), with the parameters that a command gives; they are checked.
func (d *Document) Resolve(given map[string][]string, platform string) ([]Task, error) {
	if err := d.CheckParameters(given); err != nil {
		return nil, err
	}
	values := d.values(given)
	var environment []string
	for i := range d.Parameters {
		if p := &d.Parameters[i]; p.InterpolationType == interpolationEnvVar {
			environment = append(environment, "SSM_"+p.Name+"="+textOf(values[p.Name]))
		}
	}
	tasks := make([]Task, len(d.Steps))
	for i := range d.Steps {
		tasks[i] = d.task(&d.Steps[i], values, platform)
		tasks[i].Environment = environment
	}
	return tasks, nil
}

func (d *Document) task(step *Step, values map[string]any, platform string) Task {
	task := Task{Name: step.Name, Action: step.Action}
	if !slices.Contains(plugins[step.Action].platforms, platform) {
		if d.SchemaVersion == "2.2" {
			task.Skip = fmt.Sprintf("Step execution skipped due to unsupported plugin: %s. Step name: %s", step.Action, step.Name)
		} else {
			task.Refuse = fmt.Sprintf("Plugin with name %s is not supported on platform %s. Step name: %s", step.Action, platform, step.Name)
		}
		return task
	}
	met, problem := step.precondition.evaluate(d, values, platform)
	switch {
	case problem != "":
		task.Refuse = fmt.Sprintf("%s Step name: %s", problem, step.Name)
		return task
	case !met:
		task.Skip = fmt.Sprintf("Step execution skipped due to unsatisfied preconditions: %s. Step name: %s", step.precondition, step.Name)
		return task
	}
	if len(step.entries) > 0 {
		for i := range step.entries {
			task.Entries = append(task.Entries, d.task(&step.entries[i], values, platform))
		}
		return task
	}
	r := &interpolation{document: d, values: values, action: step.Action}
	inputs := r.replace(step.Inputs)
	if r.size > maxResolved {
		inputs = nil
	}
	if text, ok := inputs.(string); ok {
		// Schema 1.2 allows the properties as JSON text.
		if parsed, ok := parseText(text); ok {
			inputs = plugins[step.Action].canonical(parsed)
		}
	}
	switch v := inputs.(type) {
	case map[string]any:
		task.Inputs = v
		if lines, there := v["runCommand"]; there {
			v["runCommand"] = flat(lines)
		}
	case nil:
		task.Inputs = map[string]any{}
	default:
		task.Refuse = fmt.Sprintf("The properties of the plugin are no map once the parameters are replaced. Step name: %s", step.Name)
	}
	if r.size > maxResolved {
		task.Refuse = fmt.Sprintf("The inputs grow beyond %d bytes by their parameters. Step name: %s", maxResolved, step.Name)
	} else if r.store != "" {
		task.Refuse = fmt.Sprintf("The inputs refer to %s of the Parameter Store, which this version does not have. Step name: %s", r.store, step.Name)
	}
	return task
}

// flat makes one list of lists in lists, as SSM's agent does with the lines of a
// script: a reference among them may be to a list. Numbers and booleans are text.
func flat(value any) any {
	list, ok := value.([]any)
	if !ok {
		return value
	}
	lines := make([]any, 0, len(list))
	for _, item := range list {
		switch v := flat(item).(type) {
		case []any:
			lines = append(lines, v...)
		case bool, json.Number:
			lines = append(lines, textOf(v))
		case nil:
		default:
			lines = append(lines, v)
		}
	}
	return lines
}

// interpolation replaces references in a step's inputs, in a single pass: what a
// value contains is not looked at again.
type interpolation struct {
	document *Document // nil: ENV_VAR is not regarded
	values   map[string]any
	action   string
	path     []string // of the maps' keys down to the string at hand
	store    string   // the first reference to the Parameter Store that was met
	size     int      // of all that was put in, in bytes
}

// maxResolved is how large the values that come into a step's inputs may be
// together. A document and its parameters have 64 KB, but may name one value
// thousands of times.
const maxResolved = 4 << 20

// replace returns value with all references replaced, in maps' values and lists'
// elements, not in maps' keys. value is not changed.
func (r *interpolation) replace(value any) any {
	switch v := value.(type) {
	case string:
		return r.text(v)
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = r.replace(item)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(v))
		for key, item := range v {
			r.path = append(r.path, key)
			object[key] = r.replace(item)
			r.path = r.path[:len(r.path)-1]
		}
		return object
	}
	return value
}

// text replaces the references in a string. One reference that is the whole string
// becomes the parameter's value with its type; others become text, in which, as
// SSM has it, $$ stands for $.
func (r *interpolation) text(s string) any {
	r.store = cmp.Or(r.store, storeReference.FindString(s))
	if match := wholeReference.FindStringSubmatch(s); match != nil {
		if value, ok := r.value(match[1]); ok && r.variable(match[1]) == "" {
			if r.put(sizeOf(value)) {
				return value
			}
			return ""
		}
	}
	return reference.ReplaceAllStringFunc(s, func(token string) string {
		name := reference.FindStringSubmatch(token)[1]
		value, ok := r.value(name)
		if !ok {
			return token
		}
		if variable := r.variable(name); variable != "" {
			return variable
		}
		if !r.put(0) {
			return "" // the step is refused, and needs no more texts
		}
		text := strings.ReplaceAll(textOf(value), "$$", "$")
		if !r.put(len(text)) {
			return ""
		}
		return text
	})
}

// put counts what comes in, and tells whether it still may.
func (r *interpolation) put(size int) bool {
	if r.size <= maxResolved {
		r.size += size
	}
	return r.size <= maxResolved
}

// sizeOf is about how many bytes a value takes.
func sizeOf(value any) int {
	size := 16
	switch v := value.(type) {
	case string:
		size += len(v)
	case []any:
		for _, item := range v {
			size += sizeOf(item)
		}
	case map[string]any:
		for key, item := range v {
			size += len(key) + sizeOf(item)
		}
	}
	return size
}

func (r *interpolation) value(name string) (any, bool) {
	value, ok := r.values[name]
	if text, isText := value.(string); isText && ok {
		r.store = cmp.Or(r.store, storeReference.FindString(text))
	}
	return value, ok && value != nil
}

// variable returns how a script's text names the variable of an ENV_VAR
// parameter; "" where the value itself is to stand.
func (r *interpolation) variable(name string) string {
	if r.document == nil || !slices.Contains(r.path, "runCommand") {
		return ""
	}
	if p := r.document.parameter(name); p == nil || p.InterpolationType != interpolationEnvVar {
		return ""
	}
	switch r.action {
	case "aws:runShellScript":
		return "${SSM_" + name + "}"
	case "aws:runPowerShellScript":
		return "${env:SSM_" + name + "}"
	}
	return ""
}
