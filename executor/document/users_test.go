package document

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The documents in testdata/users are of the kinds that people have: anchors and
// merge keys, CRLF, comments, braces of other languages, maps as parameters. All are
// taken, mean the same in the other format, and come to what their text promises.
func TestUsersDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/users/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	types := map[string]string{"auto.yaml": typeAutomation, "policy.json": typePolicy, "port.yaml": typeSession}
	given := map[string]map[string][]string{
		"envvar.yaml": {"Message": {"$(id)"}}, "v12list.json": {"commands": {"one", "two"}},
	}
	want := map[string]string{
		"anchors.yaml":    `["echo prod"] ["echo dev"]`,
		"comments.yaml":   `["echo # not comment","echo hi"]`,
		"crlf.yaml":       `["echo one\necho two\n"]`,
		"envvar.yaml":     `["if [ -z \"${SSM_Message+x}\" ]; then export SSM_Message=\"${SSM_Message}\"; fi\necho \"$SSM_Message\"\n"]`,
		"gotemplate.yaml": `["docker ps --format '{{.Names}} {{ .Status }}'","awk '{{print $2}}'","echo ${{ github.sha }}"]`,
		"merge.yaml":      `["echo 2024-01-01 yes 010","on","5"]`,
		"mixed.yaml":      `null ["for p in [\"curl\",\"jq\"]; do echo $p; done","curl","jq"]`,
		"stringmap.yaml":  `["echo '{\"a\":\"1\",\"b\":{\"c\":[1,2,{\"d\":null}]}}'","echo '[{\"x\":\"y\"}]'"]`,
		"unicode.json":    `["echo 世界 é 😀"]`,
		"v12list.json":    `["one","two"] ["echo second","exit 3"] ["echo third"]`,
	}
	for _, file := range files {
		name := filepath.Base(file)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		format, docType := YAML, types[name]
		if strings.HasSuffix(name, ".json") {
			format = JSON
		}
		if docType == "" {
			docType = typeCommand
		}
		if _, err := Validate(content, format, docType); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		roundTrip(t, content, format)
		if docType != typeCommand {
			continue
		}
		d, err := Parse(content, format)
		if err != nil {
			t.Fatal(err)
		}
		tasks, err := d.Resolve(given[name], "Linux")
		if err != nil {
			t.Fatal(err)
		}
		var scripts []string
		for _, task := range tasks {
			for _, one := range append([]Task{task}, task.Entries...) {
				if len(one.Entries) == 0 {
					scripts = append(scripts, textOf(one.Inputs["runCommand"]))
				}
			}
		}
		if got := strings.Join(scripts, " "); got != want[name] {
			t.Errorf("%s\ngot  %s\nwant %s", name, got, want[name])
		}
	}
}
