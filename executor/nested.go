package executor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"fleetmesh/executor/document"
)

const (
	actionRunDocument = "aws:runDocument"
	// maxNesting is how deep documents may run others, as in SSM's agent.
	maxNesting = 3
	// maxNested is how many steps with documents one command may lead to.
	maxNested = 200
)

// ErrNesting is wrapped by what NestedDocuments refuses; the text is a sentence.
var ErrNesting = errors.New("documents run each other too deep")

// Nested is a document of the mesh that a step of aws:runDocument names, as it
// was when the command was made: a node never fetches one.
type Nested struct {
	// Name is that with the version, NAME:VERSION.
	Name    string
	Content json.RawMessage
	// Problem says why it cannot be run; then there is no Content.
	Problem string
}

// childDocument is what a step of aws:runDocument is to run.
type childDocument struct {
	local      bool // a file on the node, no document of the mesh
	path       string
	parameters map[string]any
}

// childOf reads the inputs of aws:runDocument; problem is a sentence.
func childOf(inputs map[string]any) (child childDocument, problem string) {
	kind, _ := inputs["documentType"].(string)
	child.path, _ = inputs["documentPath"].(string)
	switch {
	case kind != "SSMDocument" && kind != "LocalPath":
		return child, fmt.Sprintf("documentType must be SSMDocument or LocalPath, not %q", kind)
	case child.path == "":
		return child, "documentPath must be given"
	}
	child.local = kind == "LocalPath"
	switch given := inputs["documentParameters"].(type) {
	case nil:
	case map[string]any:
		child.parameters = given
	case string:
		parsed, err := document.ParseMap(given)
		if err != nil {
			return child, "documentParameters cannot be read: " + err.Error()
		}
		child.parameters = parsed
	default:
		return child, "documentParameters must be a map, or JSON or YAML text of one"
	}
	return child, ""
}

// childTasks makes tasks of a document with the values of documentParameters.
// Names that the document does not have are not regarded, as by SSM's agent.
func childTasks(d *Document, values map[string]any, platform string) ([]Task, error) {
	given := make(map[string][]string)
	for _, p := range d.Parameters {
		if value, there := values[p.Name]; there && value != nil {
			given[p.Name] = parameterTexts(value)
		}
	}
	return d.Resolve(given, platform)
}

// parameterTexts is a value as a command would give it.
func parameterTexts(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		texts := make([]string, 0, len(v))
		for _, item := range v {
			texts = append(texts, parameterTexts(item)[0])
		}
		return texts
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return []string{""} // cannot be: value comes from JSON or YAML
	}
	return []string{string(bytes.TrimSpace(text.Bytes()))}
}

// NestedDocuments finds all documents of the mesh that tasks lead to, by what the
// steps name. name is that of the document that tasks are of. An error of find
// ends the search; one that wraps ErrNesting says that the documents run each
// other in a circle or too deep.
func NestedDocuments(name string, tasks []Task, platform string, find func(path string) (Nested, error)) (map[string]Nested, error) {
	n := &nesting{platform: platform, find: find, found: make(map[string]Nested)}
	if err := n.follow(tasks, []string{name}); err != nil {
		return nil, err
	}
	return n.found, nil
}

type nesting struct {
	platform string
	find     func(path string) (Nested, error)
	found    map[string]Nested
	steps    int
}

// follow looks at the steps of a document; chain are the documents that led to it
// and it itself.
func (n *nesting) follow(tasks []Task, chain []string) error {
	for _, task := range tasks {
		if err := n.follow(task.Entries, chain); err != nil {
			return err
		}
		if task.Action != actionRunDocument || len(task.Entries) > 0 || task.Skip != "" || task.Refuse != "" {
			continue
		}
		child, problem := childOf(task.Inputs)
		if problem != "" || child.local {
			continue // that is for the node to find
		}
		if n.steps++; n.steps > maxNested {
			return fmt.Errorf("%w: the command leads to more than %d steps that run documents", ErrNesting, maxNested)
		}
		nested, known := n.found[child.path]
		if !known {
			var err error
			if nested, err = n.find(child.path); err != nil {
				return err
			}
			n.found[child.path] = nested
		}
		switch {
		case nested.Problem != "":
			continue
		case slices.Contains(chain, nested.Name):
			return fmt.Errorf("%w: the step %s of the document %s runs %s, which leads to itself", ErrNesting, task.Name, chain[len(chain)-1], nested.Name)
		case len(chain) > maxNesting:
			return fmt.Errorf("%w: the step %s of the document %s would run a document at depth %d; the limit is %d", ErrNesting, task.Name, chain[len(chain)-1], len(chain), maxNesting)
		}
		d, err := ParseDocument(nested.Content)
		if err != nil {
			continue
		}
		below, err := childTasks(d, child.parameters, n.platform)
		if err != nil {
			continue
		}
		if err := n.follow(below, append(slices.Clip(chain), nested.Name)); err != nil {
			return err
		}
	}
	return nil
}
