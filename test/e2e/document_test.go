//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const greetJSON = `{
  "schemaVersion": "2.2",
  "description": "Greets, with \"quotes\", <brackets> & ünïcödé.",
  "parameters": {
    "who": {"type": "String", "description": "whom", "default": "world", "allowedPattern": "^[a-z]+$"}
  },
  "mainSteps": [
    {"action": "aws:runShellScript", "name": "greet", "inputs": {"runCommand": ["echo 'hello {{ who }}' && echo 1"]}}
  ]
}
`

const greetYAML = `# Greets again.
schemaVersion: "2.2"
parameters:
  who: {type: String, default: world}
mainSteps:
- action: aws:runShellScript
  name: greet
  inputs:
    runCommand:
    - |
      echo "salut {{ who }}"
      echo 2
- action: aws:runShellScript
  name: wait
  inputs:
    runCommand: ["while [ -e '{{ who }}' ]; do sleep 0.1; done"]
`

// described is what the test looks at of a document.
type described struct {
	Name, Status, DocumentVersion, LatestVersion, DefaultVersion, DocumentFormat, Hash, Owner string
}

// TestDocumentsByTheAWSCLI: the whole life of a document, through a node that
// holds no store.
func TestDocumentsByTheAWSCLI(t *testing.T) {
	m := newMesh(t, 2, func(int) []string { return []string{"--member-only"} })
	through, target := m.nodes[1], m.nodes[1]
	write := func(name, content string) string {
		path := filepath.Join(m.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "file://" + path
	}
	jsonFile, yamlFile := write("greet.json", greetJSON), write("greet.yaml", greetYAML)
	do := func(arguments ...string) {
		t.Helper()
		if _, err := m.aws(through, arguments...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(code string, arguments ...string) {
		t.Helper()
		if _, err := m.aws(through, arguments...); err == nil || !strings.Contains(err.Error(), "("+code+")") {
			t.Errorf("aws ssm %v: %v, want %s", arguments, err, code)
		}
	}

	var created struct{ DocumentDescription described }
	m.awsJSON(through, &created, "create-document", "--name", "Greet", "--document-type", "Command", "--content", jsonFile, "--version-name", "first", "--tags", "Key=team,Value=a")
	sum := sha256.Sum256([]byte(greetJSON))
	if d := created.DocumentDescription; d.Status != "Creating" || d.Hash != hex.EncodeToString(sum[:]) || d.DocumentVersion != "1" || d.DocumentFormat != "JSON" {
		t.Errorf("created %+v", d)
	}
	refused("DocumentAlreadyExists", "create-document", "--name", "Greet", "--document-type", "Command", "--content", yamlFile, "--document-format", "YAML")
	refused("InvalidDocumentContent", "create-document", "--name", "Bad", "--document-type", "Command", "--content", yamlFile)

	var updated struct{ DocumentDescription described }
	m.awsJSON(through, &updated, "update-document", "--name", "Greet", "--content", yamlFile, "--document-format", "YAML", "--document-version", "$LATEST", "--version-name", "second")
	if d := updated.DocumentDescription; d.DocumentVersion != "2" || d.LatestVersion != "2" || d.DefaultVersion != "1" || d.DocumentFormat != "YAML" {
		t.Errorf("updated %+v", d)
	}
	refused("DuplicateDocumentContent", "update-document", "--name", "Greet", "--content", yamlFile, "--document-format", "YAML", "--document-version", "2")
	refused("InvalidDocumentVersion", "update-document", "--name", "Greet", "--content", jsonFile, "--document-version", "1")

	// The contents come back, byte for byte and in the other format.
	var got struct{ Content, DocumentFormat, DocumentVersion, Status string }
	m.awsJSON(through, &got, "get-document", "--name", "Greet")
	if got.Content != greetJSON || got.DocumentFormat != "JSON" || got.DocumentVersion != "1" || got.Status != "Active" {
		t.Errorf("got %+v", got)
	}
	m.awsJSON(through, &got, "get-document", "--name", "Greet", "--version-name", "second", "--document-format", "YAML")
	if got.Content != greetYAML || got.DocumentFormat != "YAML" || got.DocumentVersion != "2" {
		t.Errorf("got %+v", got)
	}
	m.awsJSON(through, &got, "get-document", "--name", "Greet", "--document-version", "2", "--document-format", "JSON")
	if !strings.HasPrefix(got.Content, "{") || !strings.Contains(got.Content, `salut {{ who }}`) {
		t.Errorf("got %+v", got)
	}

	send := func(arguments ...string) (id, version string) {
		t.Helper()
		var sent struct {
			Command struct{ CommandId, DocumentVersion string }
		}
		m.awsJSON(through, &sent, append([]string{"send-command", "--document-name", "Greet", "--instance-ids", target.id}, arguments...)...)
		return sent.Command.CommandId, sent.Command.DocumentVersion
	}
	output := func(id string, plugin ...string) string {
		t.Helper()
		var ended struct{ Status, StandardOutputContent string }
		m.awsJSON(through, &ended, append([]string{"get-command-invocation", "--command-id", id, "--instance-id", target.id}, plugin...)...)
		return ended.Status + " " + ended.StandardOutputContent
	}
	executed := func(id string, plugin ...string) {
		t.Helper()
		if _, err := m.aws(through, append([]string{"wait", "command-executed", "--command-id", id, "--instance-id", target.id}, plugin...)...); err != nil {
			t.Fatal(err)
		}
	}
	byDefault, version := send("--document-hash", hex.EncodeToString(sum[:]), "--document-hash-type", "Sha256")
	if version != "1" {
		t.Errorf("the default is %s", version)
	}
	executed(byDefault)
	if got := output(byDefault); got != "Success hello world\n1\n" {
		t.Errorf("version 1: %q", got)
	}
	refused("InvalidParameters", "send-command", "--document-name", "Greet", "--instance-ids", target.id, "--parameters", "who=NOBODY")
	refused("InvalidDocument", "send-command", "--document-name", "Greet", "--instance-ids", target.id, "--document-hash", strings.Repeat("0", 64), "--document-hash-type", "Sha256")

	do("update-document-default-version", "--name", "Greet", "--document-version", "2")
	var listed struct {
		DocumentVersions []struct {
			DocumentVersion, VersionName string
			IsDefaultVersion             bool
		}
	}
	m.awsJSON(through, &listed, "list-document-versions", "--name", "Greet")
	if v := listed.DocumentVersions; len(v) != 2 || v[0].DocumentVersion != "2" || !v[0].IsDefaultVersion || v[1].VersionName != "first" || v[1].IsDefaultVersion {
		t.Errorf("versions %+v", v)
	}
	var found struct {
		DocumentIdentifiers []struct{ Name, DocumentVersion string }
	}
	m.awsJSON(through, &found, "list-documents", "--filters", "Key=Owner,Values=Self", "Key=tag:team,Values=a")
	if d := found.DocumentIdentifiers; len(d) != 1 || d[0].Name != "Greet" || d[0].DocumentVersion != "2" {
		t.Errorf("listed %+v", d)
	}

	// A command that runs when its document is changed and deleted ends with what it
	// began with; one is cancelled.
	hold := filepath.Join(m.dir, "hold")
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	held, _ := send("--parameters", "who="+hold)
	cancelled, _ := send("--parameters", "who="+hold)
	do("add-tags-to-resource", "--resource-type", "Document", "--resource-id", "Greet", "--tags", "Key=more,Value=b")
	do("modify-document-permission", "--name", "Greet", "--permission-type", "Share", "--account-ids-to-add", "all")
	refused("InvalidDocumentOperation", "delete-document", "--name", "Greet")
	do("modify-document-permission", "--name", "Greet", "--permission-type", "Share", "--account-ids-to-remove", "all")
	refused("InvalidDocumentOperation", "delete-document", "--name", "Greet", "--document-version", "2")
	do("delete-document", "--name", "Greet")
	refused("InvalidDocument", "describe-document", "--name", "Greet")
	do("cancel-command", "--command-id", cancelled)
	m.await("the cancelled command to end", func() error {
		_, exit, err := m.run("meshctl", "command", "wait", cancelled)
		if exit == 3 {
			return nil
		}
		return err
	})
	if got := output(cancelled, "--plugin-name", "wait"); !strings.HasPrefix(got, "Cancelled ") {
		t.Errorf("cancelled: %q", got)
	}
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	executed(held, "--plugin-name", "wait")
	if got := output(held, "--plugin-name", "greet"); got != "Success salut "+hold+"\n2\n" {
		t.Errorf("of a deleted document: %q", got)
	}
}

// TestDocumentsByMeshctl: the same life for people, with the file checked first.
func TestDocumentsByMeshctl(t *testing.T) {
	m := newMesh(t, 1, nil)
	path := filepath.Join(m.dir, "greet.yaml")
	if err := os.WriteFile(path, []byte(greetYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	m.meshctl("document", "validate", path)
	m.meshctl("document", "create", "Greet", path, "--tag", "team=a")
	if out := m.meshctl("document", "show", "Greet", "--content"); strings.TrimSpace(out) != strings.TrimSpace(greetYAML) {
		t.Errorf("content %s", out)
	}
	if out, exit, _ := m.run("meshctl", "run", "Greet", "--nodes", "node1", "--parameter", "woh=x"); exit != 1 {
		t.Errorf("a misspelt parameter: exit %d, %s", exit, out)
	} else if _, _, err := m.run("meshctl", "run", "Greet", "--nodes", "node1", "--parameter", "woh=x"); err == nil || !strings.Contains(err.Error(), `did you mean "who"?`) {
		t.Errorf("a misspelt parameter: %v", err)
	}
	if out := m.meshctl("run", "Greet", "--nodes", "node1", "--parameter", "who=you"); !strings.Contains(out, "Success") {
		t.Errorf("run: %s", out)
	}
	other := filepath.Join(m.dir, "other.json")
	if err := os.WriteFile(other, []byte(greetJSON), 0o600); err != nil {
		t.Fatal(err)
	}
	m.meshctl("document", "update", "Greet", other, "--version-name", "two", "--based-on", "1")
	m.meshctl("document", "set-default", "Greet", "two")
	if out := m.meshctl("document", "versions", "Greet"); strings.Count(out, "default") != 1 || !strings.Contains(out, "two") {
		t.Errorf("versions: %s", out)
	}
	m.meshctl("document", "delete", "Greet", "--version", "1")
	m.meshctl("document", "delete", "Greet")
	if out := m.meshctl("document", "list", "--owner", "Self"); strings.Contains(out, "Greet") {
		t.Errorf("list: %s", out)
	}
}
