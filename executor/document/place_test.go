package document

import "testing"

// Refusals name what a person sees in the file: the line inside of a block, the tab
// that looks like blanks, the format that was not said.
func TestPlaces(t *testing.T) {
	const steps = "schemaVersion: \"2.2\"\nmainSteps:\n- name: step\n  action: aws:runShellScript\n  inputs:\n"
	for _, c := range []struct {
		name, content string
		format        Format
		want          string
	}{
		{"in a block", steps + "    runCommand:\n    - |\n\n      echo one\n      echo {{ missing }}\n", YAML,
			`Parameter "missing" is not declared. It is used in step "step" at mainSteps[0].inputs.runCommand[0]. at Line: 10`},
		{"in a block that is kept", steps + "    runCommand: |2+\n      {{ missing }}\n", YAML,
			`Parameter "missing" is not declared. It is used in step "step" at mainSteps[0].inputs.runCommand. at Line: 7`},
		{"in a text", steps + "    runCommand: [\"a {{ missing }}\"]\n", YAML,
			`Parameter "missing" is not declared. It is used in step "step" at mainSteps[0].inputs.runCommand[0]. at Line: 6, Column: 18`},
		{"of a runbook", steps + "    runCommand: |\n      a\n      {{ global:DATE }}\n", YAML,
			`Parameter "global:DATE" is not declared: only Automation documents have it. It is used in step "step" at mainSteps[0].inputs.runCommand. at Line: 8`},
		{"a tab", steps + "\trunCommand: [id]\n", YAML, "YAML not well-formed: the line is indented by a tab, and YAML wants blanks. at Line: 6"},
		{"a tab after blanks", steps + "  \trunCommand: [id]\n", YAML, "YAML not well-formed: the line is indented by a tab, and YAML wants blanks. at Line: 6"},
		{"YAML as JSON", steps + "    runCommand: [id]\n", JSON, "JSON not well-formed: the content looks like YAML. Say so by the document's format. at Line: 1, Column: 1"},
		{"neither", "{schemaVersion: \"2.2\"}", JSON, "JSON not well-formed. at Line: 1, Column: 2"},
		{"a text as JSON", "hello", JSON, "JSON not well-formed. at Line: 1, Column: 1"},
		{"a later YAML", "# of us\r\n\n%YAML 1.2\n---\n" + steps + "    runCommand: [id]\n...\n", YAML, ""},
		{"another YAML", "%YAML 2.0\n---\n" + steps + "    runCommand: [id]\n", YAML, "YAML not well-formed: found incompatible YAML document."},
	} {
		got := ""
		if _, err := Validate([]byte(c.content), c.format, typeCommand); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}
