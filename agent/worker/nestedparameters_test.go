package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Parameters that do not fit a document which a step runs fail that step, and the
// message names the document, the parameter, the value and what is allowed.
func TestParametersOfANestedDocument(t *testing.T) {
	m := newMesh()
	w := open(t, testConfig(t.TempDir(), m))
	child, err := json.Marshal(map[string]any{
		"schemaVersion": "2.2", "mainSteps": []step{shell("say", "echo {{ mode }}")},
		"parameters": map[string]any{
			"mode":  map[string]any{"type": "String", "allowedValues": []string{"Scan", "Install"}},
			"count": map[string]any{"type": "Integer", "default": 1},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "child.json")
	if err := os.WriteFile(file, child, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		parameters any
		want       string
	}{
		{nil, `Parameter "mode" is required and not given.`},
		{map[string]any{"mode": "Delete"}, `Parameter "mode" must be one of: Scan, Install. It is "Delete".`},
		{map[string]any{"mode": []string{"Scan", "Install"}}, `Parameter "mode" is a String and must have exactly one value, not 2.`},
		{"mode: Scan\ncount: many", `Parameter "count" has a value that is not of its type Integer, a whole number: it is "many".`},
	} {
		for kind, named := range map[string][2]string{"SSMDocument": {"Child", "Child:1"}, "LocalPath": {file, file}} {
			id := fmt.Sprint("job-", i, kind)
			accept(t, w, nesting(newJob(id, runs("x", kind, named[0], c.parameters), shell("next", "echo next")), map[string]json.RawMessage{"Child": child}))
			end := m.end(t, id)
			want := "the document " + named[1] + " cannot be run with these parameters: " + c.want
			if p := end.Plugins[0]; p.Status != "Failed" || !strings.HasPrefix(p.Stderr, want) || end.Plugins[1].Stdout != "next\n" {
				t.Errorf("%s: %q\nwant %q", kind, p.Stderr, want)
			}
		}
	}
}
