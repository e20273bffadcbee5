package document

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestInterpolation(t *testing.T) {
	d := mustParse(t, `{"schemaVersion":"2.2","parameters":{
		"s":{"type":"String","default":"text"},"l":{"type":"StringList","default":["a","b <&>"]},
		"n":{"type":"Integer","default":7},"b":{"type":"Boolean","default":true},
		"m":{"type":"StringMap","default":{"k":{"z":1,"a":[null]}}},"e":{"type":"String","default":""},
		"tricky":{"type":"String","default":"{{ s }} $$ $1 \\1"}
		},"mainSteps":[{"name":"s","action":"aws:runDocument"}]}`)
	for in, want := range map[string]string{
		// A reference that is the whole string gives the value with its type.
		`"{{s}}"`: `"text"`, `"{{ l }}"`: `["a","b <&>"]`, `"{{  n}}"`: `7`, `"{{ b }}"`: `true`, `"{{m}}"`: `{"k":{"a":[null],"z":1}}`, `"{{e}}"`: `""`,
		// Inside a longer string it is text.
		`"x{{s}}y{{ s }}"`: `"xtexty` + `text"`, `" {{ n }}"`: `" 7"`, `"{{l}} "`: `"[\"a\",\"b <&>\"] "`, `"{{n}}{{b}}"`: `"7true"`, `"{{m}}!"`: `"{\"k\":{\"a\":[null],\"z\":1}}!"`,
		// A single pass: what comes in is not looked at again. $$ is $ in text, not
		// where the whole value comes in.
		`"{{ tricky }}"`: `"{{ s }} $$ $1 \\1"`, `"-{{ tricky }}"`: `"-{{ s }} $ $1 \\1"`, `"$$ {{s}}"`: `"$$ text"`,
		// What is no reference stays.
		`"{{print $2}} {{.Names}} {{ x.y }} {s} {{s} {{ s\n}}"`: `"{{print $2}} {{.Names}} {{ x.y }} {s} {{s} text"`,
		`1.50`: `1.50`, `null`: `null`,
		// Values and elements, at any depth; not keys.
		`{"{{s}}":["{{s}}",{"x":"{{n}}"}],"t":["{{l}}"]}`: `{"t":[["a","b <&>"]],"{{s}}":["text",{"x":7}]}`,
	} {
		value, ok := parseText(in)
		if !ok {
			t.Fatalf("%s is no JSON", in)
		}
		before := textOf([]any{value})
		r := &interpolation{document: d, values: d.values(nil), action: "aws:runDocument"}
		if got := strings.TrimSuffix(textOf([]any{r.replace(value)}), "]")[1:]; got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
		if textOf([]any{value}) != before {
			t.Errorf("%s was changed in place", in)
		}
	}
}

func TestResolve(t *testing.T) {
	d := mustParse(t, `{"schemaVersion":"2.2","parameters":{"env":{"type":"String","interpolationType":"ENV_VAR"},"plain":{"type":"String","default":"d"}},"mainSteps":[
		{"name":"shell","action":"aws:runShellScript","inputs":{"runCommand":["echo '{{plain}}' \"{{ env }}\"","{{env}}"],"workingDirectory":"{{ env }}"}},
		{"name":"pwsh","action":"aws:runPowerShellScript","inputs":{"runCommand":"echo {{env}}"}},
		{"name":"bare","action":"aws:softwareInventory"},
		{"name":"windows","action":"aws:psModule"},
		{"name":"store","action":"aws:runShellScript","inputs":{"runCommand":["{{ssm:secret}}"]}}]}`)
	tasks, err := d.Resolve(map[string][]string{"env": {"$(rm -rf /)"}}, "Linux")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Task{
		{Name: "shell", Action: "aws:runShellScript", Inputs: map[string]any{"runCommand": []any{`echo 'd' "${SSM_env}"`, `${SSM_env}`}, "workingDirectory": "$(rm -rf /)"}},
		{Name: "pwsh", Action: "aws:runPowerShellScript", Inputs: map[string]any{"runCommand": `echo ${env:SSM_env}`}},
		{Name: "bare", Action: "aws:softwareInventory", Inputs: map[string]any{}},
		{Name: "windows", Action: "aws:psModule", Skip: "Step execution skipped due to unsupported plugin: aws:psModule. Step name: windows"},
		{Name: "store", Action: "aws:runShellScript", Inputs: map[string]any{"runCommand": []any{"{{ssm:secret}}"}},
			Refuse: "The inputs refer to {{ssm:secret}} of the Parameter Store, which this version does not have. Step name: store"},
	} {
		want.Environment = []string{"SSM_env=$(rm -rf /)"}
		if !reflect.DeepEqual(tasks[i], want) {
			t.Errorf("got  %+v\nwant %+v", tasks[i], want)
		}
	}
	// Lines in lists in lists are one list, as a whole reference in a list makes them.
	nested := mustParse(t, `{"schemaVersion":"2.2","parameters":{"l":{"type":"StringList"}},"mainSteps":[
		{"name":"a","action":"aws:runShellScript","inputs":{"RunCommand":["first","{{ l }}",["x",["{{l}}",1,true,null]]],"other":[["{{l}}"]]}}]}`)
	tasks, err = nested.Resolve(map[string][]string{"l": {"a b", "{{ l }}"}}, "Linux")
	if want := `{"other":[[["a b","{{ l }}"]]],"runCommand":["first","a b","{{ l }}","x","a b","{{ l }}","1","true"]}`; err != nil || textOf(tasks[0].Inputs) != want {
		t.Errorf("got  %s (%v)\nwant %s", textOf(tasks[0].Inputs), err, want)
	}
	for _, inputs := range []string{`["` + strings.Repeat("x{{l}}", 5000) + `"]`, `[` + strings.Repeat(`"{{l}}",`, 5000) + `""]`} {
		bomb := mustParse(t, `{"schemaVersion":"2.2","parameters":{"l":{"type":"StringList"}},"mainSteps":[{"name":"a","action":"aws:runShellScript","inputs":{"runCommand":`+inputs+`}}]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		tasks, err = bomb.Resolve(map[string][]string{"l": {strings.Repeat("x", 30_000), "y"}}, "Linux")
		if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 300<<20 {
			t.Errorf("%d bytes were used", after.TotalAlloc-before.TotalAlloc)
		}
		if err != nil || tasks[0].Refuse != "The inputs grow beyond 4194304 bytes by their parameters. Step name: a" || len(tasks[0].Inputs) != 0 {
			t.Errorf("a value named 5000 times: %.300v, %v", tasks, err)
		}
	}

	if _, err := d.Resolve(nil, "Linux"); err == nil {
		t.Error("a missing parameter is not refused")
	}

	old := mustParse(t, `{"schemaVersion":"1.2","parameters":{"p":{"type":"String","default":"{\"a\":1}"},"q":{"type":"String","default":"[]"}},"runtimeConfig":{
		"aws:psModule":{"properties":[{"source":"x"}]},"aws:softwareInventory":{"properties":"{{p}}"},"aws:runDocument":{"properties":"{{q}}"}}}`)
	tasks, err = old.Resolve(nil, "Linux")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(tasks[0].Refuse, "not supported on platform Linux") || tasks[0].Skip != "" {
		t.Errorf("a plugin of another platform in 1.2: %+v", tasks[0])
	}
	if textOf(tasks[1].Inputs) != `{"a":1}` || !strings.Contains(tasks[2].Refuse, "no map") {
		t.Errorf("properties as text: %+v, %+v", tasks[1], tasks[2])
	}
	store := mustParse(t, `{"schemaVersion":"2.2","parameters":{"p":{"type":"String","default":"{{ ssm:x }}"}},"mainSteps":[
		{"name":"a","action":"aws:runShellScript","inputs":{"runCommand":["{{p}}"]}},{"name":"b","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}]}`)
	if tasks, err = store.Resolve(nil, "Linux"); err != nil || tasks[0].Refuse == "" || tasks[1].Refuse != "" {
		t.Errorf("a default in the Parameter Store: %+v, %v", tasks, err)
	}
}

func TestPreconditions(t *testing.T) {
	given := map[string][]string{"p": {"Install"}}
	for _, c := range []struct{ condition, skip, refuse string }{
		{`{"StringEquals":["platformType","Linux"]}`, "", ""},
		{`{"StringEquals":["linux","platformType"]}`, "", ""},
		{`{"StringEquals":["{{ p }}","Install"]}`, "", ""},
		{`{"StringEquals":["xInstall","x{{p}}"]}`, "", ""},
		{`{"StringEquals":["{{p}}","{{ p }}"]}`, "", ""},
		{`{"StringEquals":["platformType","Windows"]}`, "Step execution skipped due to unsatisfied preconditions: StringEquals: [platformType, Windows]. Step name: x", ""},
		{`{"StringEquals":["{{p}}","install"]}`, "unsatisfied preconditions", ""},
		{`{"StringEquals":["platformType","{{p}}"]}`, "", "cannot be given by a parameter"},
		{`{"StringEquals":["{{p}}","{{p}}"]}`, "", "Unrecognized precondition"},
		{`{"StringEquals":["a","b"]}`, "", "Unrecognized precondition"},
		{`{"StringEquals":["{{p}}","{{ssm:x}}"]}`, "", "cannot use the Parameter Store"},
		{`{"StringEquals":["{{p}}"]}`, "", "Unrecognized precondition"},
		{`{"StringEquals":["{{p}}",1]}`, "", "Unrecognized precondition"},
		{`{"StringEquals":"{{p}}"}`, "", "Unrecognized precondition"},
		{`{"StringLike":["{{p}}","Install"]}`, "", "Unrecognized precondition"},
		{`{}`, "", "Unrecognized precondition"},
		{`{"StringEquals":["{{p}}","Install"],"Other":["{{p}}","Install"]}`, "", "Unrecognized precondition"},
	} {
		d := mustParse(t, step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":`+c.condition+`}`))
		tasks, err := d.Resolve(given, "Linux")
		if err != nil {
			t.Fatal(err)
		}
		got := tasks[0]
		if (got.Skip == "") != (c.skip == "") || (got.Refuse == "") != (c.refuse == "") || !strings.Contains(got.Skip, c.skip) || !strings.Contains(got.Refuse, c.refuse) {
			t.Errorf("%s: skip %q, refuse %q", c.condition, got.Skip, got.Refuse)
		}
	}
	old := mustParse(t, strings.Replace(step22(`{"name":"x","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["platformType","Linux"]}}`), "2.2", "2.0", 1))
	if tasks, err := old.Resolve(given, "Linux"); err != nil || !strings.Contains(tasks[0].Refuse, "not supported in schema version 2.0") {
		t.Errorf("got %+v, %v", tasks, err)
	}
}
