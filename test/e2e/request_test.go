//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// requests are clients that repeat themselves, and what they were answered.
type requests struct {
	*ledger
	// answers are the command ids that a request got, by its token.
	answers map[string][]string
}

func (q *requests) answered(token, id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.answers[token] = append(q.answers[token], id)
}

// repeatRaw signs a request once and sends it, signature and all, to three nodes,
// two of them at the same moment; every second one has no invocation id.
func (q *requests) repeatRaw(ctx context.Context) {
	c, in := q.draft(0.05, 3, q.nodes...)
	id := ""
	if rand.IntN(2) == 0 {
		id = fmt.Sprintf("raw-%x", rand.Uint64())
	}
	request, body := q.sign(ctx, in, id)
	order := rand.Perm(len(q.nodes))
	send := func(through *node) {
		if command, err := q.sendRaw(ctx, through, request, body); err == nil {
			q.answered(c.token, command)
		}
	}
	var both sync.WaitGroup
	both.Go(func() { send(q.nodes[order[0]]) })
	both.Go(func() { send(q.nodes[order[1]]) })
	both.Wait()
	send(q.nodes[order[2]])
	q.mu.Lock()
	got := q.answers[c.token]
	q.mu.Unlock()
	if len(got) > 0 {
		q.enter(got[0], c)
	}
	time.Sleep(50 * time.Millisecond)
}

// sign makes a signed SendCommand; without an id it names no invocation.
func (q *requests) sign(ctx context.Context, in *ssm.SendCommandInput, id string) (*http.Request, []byte) {
	body, err := json.Marshal(map[string]any{
		"DocumentName": in.DocumentName, "InstanceIds": in.InstanceIds, "Comment": in.Comment,
		"MaxConcurrency": in.MaxConcurrency, "MaxErrors": in.MaxErrors, "Parameters": in.Parameters,
	})
	if err != nil {
		panic(err) // strings can be encoded
	}
	o := q.client.Options()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, *o.BaseEndpoint+"/", bytes.NewReader(body))
	if err != nil {
		panic(err) // the URL is a constant
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "AmazonSSM.SendCommand")
	if id != "" {
		request.Header.Set("Amz-Sdk-Invocation-Id", id)
	}
	sum := sha256.Sum256(body)
	key, err := o.Credentials.Retrieve(ctx)
	if err == nil {
		err = v4.NewSigner().SignHTTP(ctx, key, request, hex.EncodeToString(sum[:]), "ssm", "us-east-1", time.Now())
	}
	if err != nil {
		q.t.Errorf("sign a request: %v", err)
	}
	return request, body
}

// sendRaw sends a signed request through a node, once.
func (q *requests) sendRaw(ctx context.Context, through *node, signed *http.Request, body []byte) (commandID string, err error) {
	transport := q.client.Options().HTTPClient.(*http.Client).Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return q.dial(ctx, through.address+":7947") }
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	request := signed.Clone(ctx)
	request.Body = io.NopCloser(bytes.NewReader(body))
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var out struct{ Command struct{ CommandId string } }
	if err := json.Unmarshal(text, &out); err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, text)
	}
	return out.Command.CommandId, nil
}

// useCLI sends a command with the AWS CLI, which repeats itself as it likes.
func (q *requests) useCLI(ctx context.Context) {
	c, in := q.draft(0.05, 3, q.nodes...)
	parameters, err := json.Marshal(in.Parameters)
	if err != nil {
		panic(err) // strings can be encoded
	}
	out, err := q.aws(q.nodes[rand.IntN(len(q.nodes))], append([]string{"send-command", "--document-name", "AWS-RunShellScript",
		"--comment", c.token, "--max-concurrency", *in.MaxConcurrency, "--max-errors", "100%", "--parameters", string(parameters), "--instance-ids"}, c.nodes...)...)
	var sent struct{ Command struct{ CommandId string } }
	if err == nil {
		err = json.Unmarshal([]byte(out), &sent)
	}
	if err != nil {
		q.t.Logf("not acknowledged to the AWS CLI: %s", firstLine(err))
		return
	}
	q.answered(c.token, sent.Command.CommandId)
	q.enter(sent.Command.CommandId, c)
}

func firstLine(err error) string {
	text := strings.TrimSpace(err.Error())
	return text[strings.LastIndex(text, "\n")+1:]
}

// prove: no request, however often it was sent, has made two commands or got two
// answers; and what was answered is there.
func (q *requests) prove() {
	q.t.Helper()
	all, err := q.allCommands()
	if err != nil {
		q.t.Fatalf("list all commands: %v", err)
	}
	made := map[string][]string{}
	for _, c := range all {
		token := aws.ToString(c.Comment)
		made[token] = append(made[token], *c.CommandId)
	}
	for token, ids := range made {
		if len(ids) != 1 {
			q.t.Errorf("the request %s made %d commands: %v", token, len(ids), ids)
		}
	}
	twice := 0
	for token, ids := range q.answers {
		for _, id := range ids {
			if len(made[token]) == 0 || id != made[token][0] {
				q.t.Errorf("the request %s was answered with %v and made %v", token, ids, made[token])
			}
		}
		if len(ids) > 1 {
			twice++
		}
	}
	for id, c := range q.sent {
		if len(made[c.token]) == 0 || made[c.token][0] != id {
			q.t.Errorf("the request %s was acknowledged as %s and made %v", c.token, id, made[c.token])
		}
	}
	q.t.Logf("%d commands of %d requests that repeat themselves, %d of them answered more than once", len(all), len(q.answers), twice)
}
