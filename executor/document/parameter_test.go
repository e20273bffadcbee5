package document

import (
	"fmt"
	"strings"
	"testing"
)

func TestCheckParameters(t *testing.T) {
	d := mustParse(t, `{"schemaVersion":"2.2","parameters":{
		"commands":{"type":"StringList","minItems":1,"maxItems":2},
		"name":{"type":"String","default":"","maxChars":4,"minChars":2},
		"mode":{"type":"String","default":"Scan","allowedValues":["Scan","Install"]},
		"id":{"type":"String","default":"x","allowedPattern":"[a-z]{3}|9"},
		"n":{"type":"Integer","default":1},"b":{"type":"Boolean","default":true},
		"m":{"type":"StringMap","default":{}},"ms":{"type":"MapList","default":[]}
		},"mainSteps":[{"name":"s","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}]}`)
	one := func(name string, values ...string) map[string][]string {
		return map[string][]string{"commands": {"id"}, name: values}
	}
	for _, c := range []struct {
		given map[string][]string
		want  string
	}{
		{one("name", "éé🙂"), ""},
		{one("mode", "Install"), ""},
		{one("id", "abc"), ""},
		{one("commands", "a", "secret"), ""},
		{one("n", "-12"), ""},
		{one("b", "false"), ""},
		{one("m", `{"a":"b"}`), ""},
		{one("ms", `[{"a":"b"}]`), ""},
		{one("ms", `{"a":"b"}`, `{}`), ""},
		{one("ms", `{"a":"b"}`), ""},

		{nil, `Parameter "commands" is required and not given.`},
		{map[string][]string{"Commands": {"id"}}, `Parameter "commands" is required and not given. Parameter "Commands" is not one of the document's, which are: commands, name, mode, id, n, b, m, ms.`},
		{one("commands"), `Parameter "commands" must have at least 1 value, not 0.`},
		{one("commands", "1", "2", "3"), `Parameter "commands" must have at most 2 values, not 3.`},
		{one("name", "ab", "secret"), `Parameter "name" is a String and must have exactly one value, not 2.`},
		{one("name"), `Parameter "name" is a String and must have exactly one value, not 0.`},
		{one("name", "a"), `Parameter "name" must have at least 2 characters. It is "a".`},
		{one("name", "secret"), `Parameter "name" must have at most 4 characters, not 6. It is "secret".`},
		{one("mode", "secret"), `Parameter "mode" must be one of: Scan, Install. It is "secret".`},
		{one("id", "secret"), `Parameter "id" must match the pattern [a-z]{3}|9 as a whole. It is "secret".`},
		{one("id", "abc\n"), `Parameter "id" must match the pattern [a-z]{3}|9 as a whole. It is "abc\n".`},
		{one("n", "secret"), `Parameter "n" has a value that is not of its type Integer, a whole number: it is "secret".`},
		{one("n", strings.Repeat("é", 70)), `Parameter "n" has a value that is not of its type Integer, a whole number: it is "` + strings.Repeat("é", 60) + `…".`},
		{one("n", "1.5"), `Parameter "n" has a value that is not of its type Integer, a whole number: it is "1.5".`},
		{one("n", "1", "2"), `Parameter "n" is an Integer and must have exactly one value, not 2.`},
		{one("b", "yes"), `Parameter "b" has a value that is not of its type Boolean, true or false: it is "yes".`},
		{one("m", "[]"), `Parameter "m" has a value that is not of its type StringMap, a map, in JSON: it is "[]".`},
		{one("ms", "{}", "secret"), `Parameter "ms" has a value that is not of its type MapList, a list of maps, in JSON: its value 2 is "secret".`},
		{one("commands", "echo {{ ssm:secret }}"), ``},
		{one("commands", "a\x00b"), `Parameter "commands" holds the character NUL, which no script can. It is "a\x00b".`},
		{one("commands", "a", "b\x00"), `Parameter "commands" holds the character NUL, which no script can. Its value 2 is "b\x00".`},
	} {
		got := ""
		if err := d.CheckParameters(c.given); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v\ngot  %s\nwant %s", c.given, got, c.want)
		}
	}
	none := mustParse(t, `{"schemaVersion":"2.2","mainSteps":[{"name":"s","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}]}`)
	if err := none.CheckParameters(map[string][]string{"x": nil}); err == nil || !strings.Contains(err.Error(), "which are: none.") {
		t.Errorf("got %v", err)
	}
}

func TestBuiltIns(t *testing.T) {
	all, err := builtIns()
	if err != nil || len(all) != len(BuiltIns()) {
		t.Fatal(err)
	}
	if _, ok := BuiltInByName("AWS-Nope"); ok {
		t.Error("AWS-Nope is there")
	}
	b, ok := BuiltInByName("AWS-RunShellScript")
	if !ok || b.DocumentType != "Command" || b.Document.SchemaVersion != "1.2" || len(b.Hash) != 64 || b.CreatedAt.IsZero() || b.Document.Description == "" {
		t.Fatalf("got %+v", b)
	}
	if got := b.Document.Platforms(); len(got) != 2 || got[0] != "Linux" || got[1] != "MacOS" {
		t.Errorf("platforms are %v", got)
	}
	p := b.Document.Parameters
	if len(p) != 3 || p[0].Name != "commands" || p[0].Type != TypeStringList || *p[0].MinItems != 1 || p[0].Default != nil || p[0].DisplayType != "textarea" ||
		p[1].Name != "workingDirectory" || p[1].Type != TypeString || p[1].Default != "" || *p[1].MaxChars != 4096 ||
		p[2].Name != "executionTimeout" || p[2].Type != TypeString || p[2].DefaultText() != "3600" {
		t.Errorf("parameters are %+v", p)
	}
	for seconds, ok := range map[string]bool{"1": true, "3600": true, "99999": true, "100000": true, "172800": true,
		"0": false, "": false, "172801": false, "172900": false, "200000": false, "999999": false, "01": false, "1.5": false, "-1": false} {
		err := b.Document.CheckParameters(map[string][]string{"commands": {"id"}, "executionTimeout": {seconds}})
		if (err == nil) != ok {
			t.Errorf("executionTimeout %q: %v", seconds, err)
		}
	}
	tasks, err := b.Document.Resolve(map[string][]string{"commands": {"echo $$ {{ workingDirectory }}", "id"}}, "Linux")
	if err != nil || len(tasks) != 1 || tasks[0].Name != "aws:runShellScript" || tasks[0].Action != "aws:runShellScript" || tasks[0].Refuse+tasks[0].Skip != "" {
		t.Fatalf("got %+v, %v", tasks, err)
	}
	const want = `{"id":"0.aws:runShellScript","runCommand":["echo $$ {{ workingDirectory }}","id"],"timeoutSeconds":"3600","workingDirectory":""}`
	if got := textOf(tasks[0].Inputs); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseMap(t *testing.T) {
	for text, want := range map[string]string{
		"": "map[]", " \n": "map[]", `{"a":["x","y"],"b":1,"c":{"d":true}}`: `map[a:[x y] b:[1] c:[{"d":true}]]`, "commands:\n- id\nn: \"2\"": "map[commands:[id] n:[2]]",
	} {
		values, err := ParseMap(text)
		if got := fmt.Sprint(Given(values)); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"[]", "x", "{", "a: !Sub b"} {
		if _, err := ParseMap(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
