package document

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func mustParse(t *testing.T, content string) *Document {
	t.Helper()
	d, err := Parse([]byte(content), JSON)
	if err != nil {
		t.Fatalf("%v in %s", err, content)
	}
	return d
}

// step22 is a document of schema 2.2 with the parameters p, x, l, and one step.
func step22(step string) string {
	return `{"schemaVersion":"2.2","parameters":{"p":{"type":"String"},"l":{"type":"StringList","default":["a"]}},"mainSteps":[` + step + `]}`
}

func TestParse(t *testing.T) {
	d := mustParse(t, `{
		"schemaVersion": "2.2", "description": "two steps", "$schema": "http://x",
		"parameters": {
			"zeta":  {"type": "StringList", "description": "first in order", "minItems": 1, "maxItems": "3", "displayType": "textarea"},
			"alpha": {"type": "String", "default": "", "maxChars": 9, "minChars": 0, "allowedValues": ["", "on", true, 3]},
			"n":     {"type": "Integer", "default": 5}, "b": {"type": "Boolean", "default": false},
			"m":     {"type": "StringMap", "default": "{\"k\":1}"}, "ms": {"type": "MapList", "default": [{}]},
			"e":     {"type": "String", "interpolationType": "ENV_VAR", "allowedPattern": "[a-z]+"}
		},
		"mainSteps": [
			{"name": "one", "action": "aws:runShellScript", "description": "x", "precondition": {"StringEquals": ["platformType", "Linux"]},
			 "inputs": {"runCommand": ["echo {{ alpha }} {{print $2}} {{.Names}}", "{{zeta}}"], "timeoutSeconds": 60}},
			{"name": "two_2", "action": "aws:runDocument", "settings": {"a": "{{alpha}}"}}
		]
	}`)
	if d.SchemaVersion != "2.2" || d.Description != "two steps" || len(d.Steps) != 2 || len(d.Parameters) != 7 {
		t.Fatalf("got %+v", d)
	}
	var names []string
	for _, p := range d.Parameters {
		names = append(names, p.Name+"="+p.DefaultText())
	}
	if got := strings.Join(names, " "); got != `zeta= alpha= n=5 b=false m={"k":1} ms=[{}] e=` {
		t.Errorf("parameters are %s", got)
	}
	if p := d.Parameters[0]; *p.MinItems != 1 || *p.MaxItems != 3 || p.MinChars != nil || p.Default != nil || p.DisplayType != "textarea" || p.Description != "first in order" {
		t.Errorf("zeta is %+v", p)
	}
	if p := d.Parameters[1]; !reflect.DeepEqual(p.AllowedValues, []string{"", "on", "true", "3"}) || p.Default != "" {
		t.Errorf("alpha is %+v", p)
	}
	if s := d.Steps[1]; s.Name != "two_2" || s.Action != "aws:runDocument" || s.Inputs != nil {
		t.Errorf("the second step is %+v", s)
	}
	if got := d.Platforms(); !reflect.DeepEqual(got, []string{"Windows", "Linux", "MacOS"}) {
		t.Errorf("platforms are %v", got)
	}
}

func TestParseSchema12(t *testing.T) {
	d := mustParse(t, `{"schemaVersion":"1.2","parameters":{"p":{"type":"String"}},"mainSteps":null,"runtimeConfig":{
		"aws:runShellScript":{"settings":{"startType":"Enabled"},"properties":[{"id":"0.aws:runShellScript","runCommand":["a"]},{"id":"1.aws:runShellScript","runCommand":["b"]}]},
		"aws:domainJoin":{"properties":{"DirectoryId":"{{p}}"}},
		"aws:cloudWatch":{"properties":"{{ p }}"}}}`)
	var got []string
	for _, s := range d.Steps {
		got = append(got, s.Name+"/"+s.Action)
	}
	for _, s := range d.Steps[0].entries {
		got = append(got, s.Name+"/"+s.Action)
	}
	want := "[aws:runShellScript/aws:runShellScript aws:domainJoin/aws:domainJoin aws:cloudWatch/aws:cloudWatch 0.aws:runShellScript/aws:runShellScript 1.aws:runShellScript/aws:runShellScript]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestParseRefusals(t *testing.T) {
	const ok = `{"name":"one","action":"aws:runShellScript","inputs":{"runCommand":["{{ p }}"]}}`
	parameter := func(definition string) string {
		return `{"schemaVersion":"2.2","parameters":{"p":` + definition + `},"mainSteps":[` + ok + `]}`
	}
	for name, c := range map[string]struct{ content, want string }{
		"empty":                {``, "JSON not well-formed. at Line: 1, Column: 1"},
		"cut off":              {"{\n  \"schemaVersion\": ", "JSON not well-formed. at Line: 2, Column: 20"},
		"comma":                {"{\n \"a\":1,\n}", "JSON not well-formed. at Line: 2, Column: 7"},
		"two":                  {`{} {}`, "JSON not well-formed: something follows the document. at Line: 1, Column: 5"},
		"not UTF-8":            {"{\"schemaVersion\":\"\xff\"}", "JSON not well-formed."},
		"duplicate":            {`{"schemaVersion":"2.2","schemaVersion":"2.2"}`, `Duplicate key "schemaVersion". at Line: 1, Column: 24`},
		"list":                 {`[]`, "The document is not an object."},
		"deep":                 {strings.Repeat(`{"a":`, 70), "The document nests deeper than 64 levels."},
		"large":                {`{"a":"` + strings.Repeat("x", 512<<10) + `"}`, "the limit is 524288"},
		"no version":           {`{}`, `Missing "schemaVersion" in the document.`},
		"number":               {`{"schemaVersion":2.2}`, "schemaVersion should be String"},
		"unknown version":      {`{"schemaVersion":"3.0"}`, "Document schema version is invalid. Value: 3.0"},
		"automation":           {`{"schemaVersion":"0.3"}`, "0.3 is not a valid schema version for Command document type"},
		"unknown key":          {`{"schemaVersion":"2.2","steps":[]}`, `Unknown property "steps" in the document.`},
		"description":          {`{"schemaVersion":"2.2","description":1}`, `"description" should be String`},
		"runtimeConfig in 2.x": {`{"schemaVersion":"2.2","runtimeConfig":{}}`, `Unknown property "runtimeConfig"`},
		"mainSteps in 1.2":     {`{"schemaVersion":"1.2","mainSteps":[]}`, `Unknown property "mainSteps"`},
		"no steps":             {`{"schemaVersion":"2.2","mainSteps":[]}`, `Missing "mainSteps" in the document.`},
		"steps null":           {`{"schemaVersion":"2.2","mainSteps":null}`, `Missing "mainSteps" in the document.`},
		"steps a map":          {`{"schemaVersion":"2.2","mainSteps":{"a":1}}`, `"mainSteps" should be a list`},
		"step a string":        {step22(`"x"`), "Step 1 of mainSteps is not an object."},
		"no name":              {step22(`{"action":"aws:runShellScript","inputs":{"runCommand":["id"]}}`), `Missing "name" in step detail.`},
		"no action":            {step22(`{"name":"x"}`), `Missing "action" in step detail.`},
		"name a number":        {step22(`{"name":1}`), `"name" should be String`},
		"name":                 {step22(`{"name":"a b","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}`), "StepName: a b is invalid."},
		"name twice":           {step22(ok + "," + ok), "Duplicate step names found in mainSteps of the document."},
		"unknown plugin":       {step22(`{"name":"x","action":"aws:doesNotExist"}`), "Unknown plugin name: aws:doesNotExist. It is the action of step \"x\"."},
		"unknown step key":     {step22(`{"name":"x","action":"aws:runShellScript","isEnds":true}`), `Unknown property "isEnds" in step "x".`},
		"inputs a list":        {step22(`{"name":"x","action":"aws:runShellScript","inputs":[]}`), `"inputs" should be a map in step "x".`},
		"undeclared": {step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["a",{"k":"b {{ nope }}"}]}}`),
			`Parameter "nope" is not declared. It is used in step "x" at mainSteps[0].inputs.runCommand[1].k. at Line: 1, Column: `},
		"undeclared in settings":     {step22(`{"name":"x","action":"aws:runShellScript","settings":"{{a_b}}"}`), `Parameter "a_b" is not declared. It is used in step "x" at settings.`},
		"undeclared in precondition": {step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["{{nope}}","a"]}}`), `Parameter "nope" is not declared. It is used in step "x" at precondition.StringEquals[0].`},
		"precondition a list":        {step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":[]}`), `"precondition" should be a map in step "x".`},
		"platform":                   {step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["Solaris","platformType"]}}`), "Invalid precondition, unrecognized values [platformType, Solaris] encountered."},
		"parameters a list":          {`{"schemaVersion":"2.2","parameters":[],"mainSteps":[]}`, `"parameters" should be a map.`},
		"parameter name":             {`{"schemaVersion":"2.2","parameters":{"event_type":{"type":"String"}}}`, `Parameter name "event_type" is not alpha-numeric.`},
		"parameter a string":         {parameter(`"String"`), `The definition of parameter "p" is not an object.`},
		"no type":                    {parameter(`{}`), `Missing "type" in parameter definition.`},
		"unknown type":               {parameter(`{"type":"Array"}`), "Parameter type: Array is invalid."},
		"parameter key":              {parameter(`{"type":"String","allowedvalues":["a"]}`), `Unknown property "allowedvalues" in the definition of parameter "p".`},
		"default":                    {parameter(`{"type":"String","default":["a"]}`), `Wrong default value for a "String" parameters.`},
		"default of list":            {parameter(`{"type":"StringList","default":"a"}`), `Wrong default value for a "StringList" parameters.`},
		"default of list, number":    {parameter(`{"type":"StringList","default":[1]}`), `Wrong default value`},
		"default of integer":         {parameter(`{"type":"Integer","default":1.5}`), `Wrong default value`},
		"default of boolean":         {parameter(`{"type":"Boolean","default":"true"}`), `Wrong default value`},
		"default of map":             {parameter(`{"type":"StringMap","default":"x"}`), `Wrong default value`},
		"default of map list":        {parameter(`{"type":"MapList","default":["x"]}`), `Wrong default value`},
		"bounds":                     {parameter(`{"type":"String","minChars":3,"maxChars":2}`), "A minimum is above its maximum"},
		"negative":                   {parameter(`{"type":"String","minChars":-1}`), `"minChars" should be a whole number`},
		"pattern":                    {parameter(`{"type":"String","allowedPattern":"(a"}`), `"allowedPattern" is not a regular expression of Java in the definition of parameter "p": a ) is missing. at Line: 1, Column: 76`},
		"allowed values":             {parameter(`{"type":"String","allowedValues":[]}`), `"allowedValues" should be a list that is not empty`},
		"display":                    {parameter(`{"type":"String","displayType":"wide"}`), `"displayType" is neither`},
		"interpolation":              {parameter(`{"type":"String","interpolationType":"X"}`), `"interpolationType" is not ENV_VAR`},
		"interpolation of a list":    {parameter(`{"type":"StringList","interpolationType":"ENV_VAR"}`), `"interpolationType" is for String parameters`},
		"config a list":              {`{"schemaVersion":"1.2","runtimeConfig":[1]}`, `"runtimeConfig" should be a map of plugins.`},
		"config entry":               {`{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":[]}}`, `The configuration is not an object in plugin "aws:runShellScript".`},
		"no properties":              {`{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{}}}`, `Missing "properties" in plugin "aws:runShellScript".`},
		"properties empty":           {`{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{"properties":[]}}}`, `Missing "properties"`},
		"properties a number":        {`{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{"properties":1}}}`, `"properties" should be a map, or a list of maps,`},
		"undeclared in 1.2": {`{"schemaVersion":"1.2","runtimeConfig":{"aws:runShellScript":{"properties":[{"runCommand":"{{ c }}"}]}}}`,
			`Parameter "c" is not declared. It is used in step "aws:runShellScript" at runtimeConfig.aws:runShellScript.properties[0].runCommand.`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(c.content), JSON); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// A document of the largest size in YAML is larger in JSON, and runs.
func TestParseWhatHasGrown(t *testing.T) {
	yaml := "schemaVersion: '2.2'\nmainSteps:\n- name: a\n  action: aws:runShellScript\n  inputs:\n    runCommand:\n    - '" + strings.Repeat(`"`, 60_000) + "'\n"
	if _, err := Validate([]byte(yaml), YAML, "Command"); err != nil {
		t.Fatal(err)
	}
	json, err := Convert([]byte(yaml), YAML, JSON)
	if err != nil || len(json) <= maxSize {
		t.Fatalf("%d bytes of JSON, %v", len(json), err)
	}
	if d, err := Parse(json, JSON); err != nil || len(d.Steps) != 1 {
		t.Error(err)
	}
}

func TestPlatforms(t *testing.T) {
	shell := `{"name":"s","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}`
	for steps, want := range map[string][]string{
		shell:                                  {"Linux", "MacOS"},
		`{"name":"s","action":"aws:psModule"}`: {"Windows"},
		shell + `,{"name":"w","action":"aws:psModule"}`: {"Windows", "Linux", "MacOS"},
		`{"name":"w","action":"aws:runPowerShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["windows","platformType"]}}`: {"Windows"},
		`{"name":"w","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["{{p}}","x"]}}`:                   {"Linux", "MacOS"},
		`{"name":"w","action":"aws:psModule","precondition":{"StringEquals":["platformType","Linux"]}}`:                                             nil,
	} {
		if got := mustParse(t, step22(steps)).Platforms(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", steps, got, want)
		}
	}
}

func TestExecutionTimeout(t *testing.T) {
	d := mustParse(t, `{"schemaVersion":"2.2","parameters":{"s":{"type":"String","default":"100"}},"mainSteps":[
		{"name":"a","action":"aws:runShellScript","inputs":{"runCommand":[],"timeoutSeconds":"{{ s }}"}},
		{"name":"b","action":"aws:runShellScript","inputs":{"runCommand":[],"TimeoutSeconds":20}},
		{"name":"c","action":"aws:runShellScript","inputs":{"runCommand":[]}}]}`)
	for _, c := range []struct {
		given map[string][]string
		want  time.Duration
	}{
		{nil, 3720 * time.Second},
		{map[string][]string{"s": {"50"}}, 3670 * time.Second},
		{map[string][]string{"s": {"50", "60"}}, 3720 * time.Second}, // does not fit: the default
		{map[string][]string{"s": {"x"}}, 7220 * time.Second},        // a script's default
	} {
		if got := ExecutionTimeout(d, c.given); got != c.want {
			t.Errorf("%v: %v, want %v", c.given, got, c.want)
		}
	}
	other := mustParse(t, step22(`{"name":"a","action":"aws:runDocument"}`))
	if got := ExecutionTimeout(other, nil); got != 172800*time.Second {
		t.Errorf("other plugins: %v", got)
	}
}

func FuzzParse(f *testing.F) {
	for _, b := range BuiltIns() {
		f.Add(b.Content)
	}
	f.Add([]byte(step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["{{p}}","a"]},"inputs":{"runCommand":["a {{l}} {{p}}"]}}`)))
	f.Add([]byte(`{"schemaVersion":"1.2","runtimeConfig":{"aws:cloudWatch":{"properties":"{}"}}}`))
	f.Add([]byte(`{"schemaVersion":"2.2","parameters":{"m":{"type":"MapList","default":[{"a":"<"}]},"e":{"type":"String","interpolationType":"ENV_VAR"}},"mainSteps":[{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["{{e}} {{m}}"]}}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		d, err := Parse(content, JSON)
		if err != nil {
			if d != nil || err.Error() == "" {
				t.Fatalf("a refusal without a sentence, or with a document: %v", err)
			}
			return
		}
		if !json.Valid(content) || len(d.Steps) == 0 {
			t.Fatalf("accepted: %s", content)
		}
		given := map[string][]string{}
		for _, p := range d.Parameters {
			if p.Default == nil {
				given[p.Name] = []string{"{{ " + p.Name + " }}"}
			}
		}
		ExecutionTimeout(d, given)
		tasks, err := d.Resolve(given, "Linux")
		if err == nil && len(tasks) != len(d.Steps) {
			t.Fatalf("%d tasks of %d steps", len(tasks), len(d.Steps))
		}
		for _, task := range tasks {
			if _, err := json.Marshal(task.Inputs); err != nil {
				t.Fatalf("inputs that are no JSON: %v", err)
			}
		}
	})
}
