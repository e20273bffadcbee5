package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// runsDocument is a document of one step for each of paths.
func runsDocument(paths ...string) string {
	var steps []string
	for i, path := range paths {
		steps = append(steps, fmt.Sprintf(`{"name": "s%d", "action": "aws:runDocument", "inputs": {"documentType": "SSMDocument", "documentPath": %q, "documentParameters": {"next": "{{ next }}"}}}`, i, path))
	}
	return fmt.Sprintf(`{"schemaVersion": "2.2", "parameters": {"next": {"type": "String", "default": "Leaf"}}, "mainSteps": [%s]}`, strings.Join(steps, ","))
}

// A command carries the documents that its steps lead to, by their parameters, in
// the versions of that moment.
func TestNestedDocumentsAreFrozen(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create := func(name, content string) {
		t.Helper()
		if _, err := c.CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: &name, Content: &content, DocumentType: types.DocumentTypeCommand}); err != nil {
			t.Fatal(err)
		}
	}
	create("Leaf", `{"schemaVersion": "2.2", "mainSteps": [{"name": "a", "action": "aws:runShellScript", "inputs": {"runCommand": ["echo one"]}}]}`)
	create("Any", runsDocument("{{ next }}"))
	create("Middle", runsDocument("Any", "arn:aws:ssm:mesh-1:000000000000:document/Leaf:1", "NotThere", "AWS-RunShellScript"))
	create("Self", runsDocument("Any"))
	create("Deep1", runsDocument("Deep2"))
	create("Deep2", runsDocument("Deep3"))
	create("Deep3", runsDocument("Leaf"))
	create("Deep0", runsDocument("Deep1"))
	one := func(document, next string) ssm.SendCommandInput {
		return ssm.SendCommandInput{DocumentName: &document, InstanceIds: []string{memberID}, Parameters: map[string][]string{"next": {next}}}
	}
	sent := send(t, b.ssm(b.memberURL), one("Middle", "Leaf:$LATEST"))
	b.read(func(r raftstore.Reader) error {
		command, err := raftstore.GetCommand(r, *sent.CommandId)
		if err != nil {
			return err
		}
		for path, name := range map[string]string{"Any": "Any:1", "Leaf:$LATEST": "Leaf:1", "arn:aws:ssm:mesh-1:000000000000:document/Leaf:1": "Leaf:1", "AWS-RunShellScript": "AWS-RunShellScript:1"} {
			if d := command.Nested[path]; d.Name != name || len(d.Content) == 0 || d.Problem != "" {
				t.Errorf("%s: %+v", path, d)
			}
		}
		if d := command.Nested["NotThere"]; len(command.Nested) != 5 || d.Content != nil || !strings.Contains(d.Problem, `there is no document "NotThere"`) {
			t.Errorf("%d documents, %+v", len(command.Nested), d)
		}
		return nil
	})
	for _, test := range []struct {
		in   ssm.SendCommandInput
		says string
	}{
		{one("Self", "Self"), "leads to itself"},
		{one("Any", "Any"), "leads to itself"},
		{one("Deep0", "x"), "depth 4; the limit is 3"},
	} {
		_, err := c.SendCommand(t.Context(), &test.in)
		wantCode(t, err, "InvalidDocument", test.says)
	}
	send(t, c, one("Deep1", "x"))
	if _, err := c.CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: aws.String("Fleetmesh-Mine"), Content: aws.String(runsDocument("Leaf")), DocumentType: types.DocumentTypeCommand}); err == nil {
		t.Error("a reserved name was taken")
	}
}
