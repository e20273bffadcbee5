package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// full is a document of exactly the limit: head, then filling as often as it fits,
// then blanks, then tail.
func full(head, filling, tail string) string {
	room := maxDocumentSize - len(head) - len(tail)
	body := strings.Repeat(filling, room/len(filling))
	return head + body + tail + strings.Repeat(" ", room-len(body))
}

// What a document of the limit's size consists of, its record and its answer fit
// into one transaction, it comes back byte for byte, and it runs.
func TestDocumentsOfTheLargestSize(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	const steps = `"mainSteps":[{"action":"aws:runShellScript","name":"x","inputs":{"runCommand":["true"]}}]}`
	var parameters strings.Builder
	for i := 0; parameters.Len() < maxDocumentSize-300; i++ {
		fmt.Fprintf(&parameters, `"p%d":{"type":"String","default":"%d","description":"<&>"},`, i, i)
	}
	for name, test := range map[string]struct {
		content string
		format  types.DocumentFormat
	}{
		"Description":  {full(`{"schemaVersion":"2.2","description":"`, "d", `",`+steps), "JSON"},
		"Brackets":     {full(`{"schemaVersion":"2.2","description":"`, "<&>", `",`+steps), "JSON"},
		"Unicode":      {full(`{"schemaVersion":"2.2","description":"`, "世界🙂", `",`+steps), "JSON"},
		"Escapes":      {full(`{"schemaVersion":"2.2","description":"`, `\"\\\n\u0001`, `",`+steps), "JSON"},
		"Parameters":   {full(`{"schemaVersion":"2.2","parameters":{`+strings.TrimSuffix(parameters.String(), ",")+`},`, " ", steps), "JSON"},
		"Script":       {full(`{"schemaVersion":"2.2","mainSteps":[{"action":"aws:runShellScript","name":"x","inputs":{"runCommand":["true"`, `,"a < b > c & d"`, `]}}]}`), "JSON"},
		"Yaml-Script":  {full("schemaVersion: '2.2'\nmainSteps:\n- action: aws:runShellScript\n  name: x\n  inputs:\n    runCommand:\n    - |\n      true\n", "      echo \"a\" > b\n", "      true\n"), "YAML"},
		"Yaml-Comment": {full("schemaVersion: '2.2'\nmainSteps:\n- {action: aws:runShellScript, name: x, inputs: {runCommand: ['true']}}\n#", " é", "\n"), "YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			if len(test.content) != maxDocumentSize {
				t.Fatalf("%d bytes", len(test.content))
			}
			create(t, c, name, test.content, func(in *ssm.CreateDocumentInput) { in.DocumentFormat = test.format })
			got, err := c.GetDocument(t.Context(), &ssm.GetDocumentInput{Name: &name, DocumentFormat: test.format})
			if err != nil || *got.Content != test.content {
				t.Errorf("came back changed, %v", err)
			}
			if _, err := c.DescribeDocument(t.Context(), &ssm.DescribeDocumentInput{Name: &name}); err != nil {
				t.Error(err)
			}
			send(t, c, ssm.SendCommandInput{DocumentName: &name, InstanceIds: []string{memberID}, Parameters: map[string][]string{}})
			more := test.content + " "
			_, err = c.UpdateDocument(t.Context(), &ssm.UpdateDocumentInput{Name: &name, Content: &more, DocumentFormat: test.format})
			wantCode(t, err, "MaxDocumentSizeExceeded", "65537")
		})
	}
	// Aliases that grow beyond all bounds, in a small file.
	var bomb strings.Builder
	bomb.WriteString("schemaVersion: '2.2'\ndescription: &a0 " + strings.Repeat("x", 100) + "\nparameters:\n  p:\n    type: MapList\n    default:\n")
	for i := range 30 {
		fmt.Fprintf(&bomb, "    - &a%d {k: [*a%d, *a%d]}\n", i+1, i, i)
	}
	bomb.WriteString("mainSteps:\n- {action: aws:runShellScript, name: x, inputs: {runCommand: ['true']}}\n")
	text := bomb.String()
	if _, err := c.CreateDocument(t.Context(), &ssm.CreateDocumentInput{Name: aws.String("Bomb"), Content: &text, DocumentFormat: "YAML", DocumentType: "Command"}); err == nil {
		t.Error("a document that doubles thirty times is accepted")
	}
}

// A repeated creation is answered again, and is not told that the document exists.
func TestRepeatedDocumentWrites(t *testing.T) {
	b := newBed(t)
	for i, write := range []struct {
		operation string
		in        any
	}{
		{"CreateDocument", map[string]any{"Name": "Greet", "Content": greeting("hello"), "DocumentType": "Command"}},
		{"UpdateDocument", map[string]any{"Name": "Greet", "Content": greeting("again"), "DocumentVersion": "1"}},
		{"DeleteDocument", map[string]any{"Name": "Greet"}},
	} {
		body, err := json.Marshal(write.in)
		if err != nil {
			t.Fatal(err)
		}
		header := map[string]string{invocationHeader: fmt.Sprintf("5f2c3b1e-0000-4000-8000-%012d", i)}
		first := b.do(b.request(b.leaderURL, "AmazonSSM."+write.operation, string(body), time.Now(), header))
		again := b.do(b.request(b.memberURL, "AmazonSSM."+write.operation, string(body), time.Now().Add(time.Second), header))
		if first.status != http.StatusOK || again.status != http.StatusOK || again.body != first.body {
			t.Errorf("%s: %d %s, and again %d %s", write.operation, first.status, first.body, again.status, again.body)
		}
	}
}
