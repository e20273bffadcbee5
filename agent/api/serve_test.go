package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

// request is a signed request to a face, to be changed before it is sent.
func (b *bed) request(url, target, body string, at time.Time, header map[string]string) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, url+"/", strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set(targetHeader, target)
	for name, value := range header {
		r.Header.Set(name, value)
	}
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(b.t.Context(), aws.Credentials{AccessKeyID: adminKeyID, SecretAccessKey: adminSecret}, r, hex.EncodeToString(sum[:]), "ssm", "us-east-1", at)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

type reply struct {
	status  int
	header  http.Header
	body    string
	Type    string `json:"__type"`
	Message string `json:"message"`
}

func (b *bed) do(r *http.Request) reply {
	b.t.Helper()
	response, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	got := reply{status: response.StatusCode, header: response.Header, body: string(body)}
	if response.StatusCode != http.StatusOK {
		if err := json.Unmarshal(body, &got); err != nil {
			b.t.Errorf("HTTP %d with the body %q", response.StatusCode, body)
		}
		if got.header.Get(errorTypeHeader) != got.Type {
			b.t.Errorf("%s header %q, __type %q", errorTypeHeader, got.header.Get(errorTypeHeader), got.Type)
		}
	}
	if got.header.Get("Content-Type") != contentType || got.header.Get(requestIDHeader) == "" || got.header.Get(outcomeHeader) != "" {
		b.t.Errorf("headers %v", got.header)
	}
	return got
}

// TestRequestsAreRefused: whatever is wrong with a request itself is said with
// the name and status that SSM clients expect, by the leader and by a member.
func TestRequestsAreRefused(t *testing.T) {
	b := newBed(t)
	const list = "AmazonSSM.ListCommands"
	for name, test := range map[string]struct {
		target, body string
		at           time.Duration
		edit         func(*http.Request)
		status       int
		code, says   string
	}{
		"unsigned":                 {edit: func(r *http.Request) { r.Header.Del("Authorization") }, status: 400, code: "MissingAuthenticationTokenException"},
		"malformed signature":      {edit: func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, status: 400, code: "IncompleteSignatureException"},
		"unknown key":              {edit: replaceAuthorization(adminKeyID, "FMKATESTNOBODY000000"), status: 400, code: "UnrecognizedClientException"},
		"wrong signature":          {edit: replaceAuthorization("Signature=", "Signature=0"), status: 400, code: "IncompleteSignatureException"},
		"other operation":          {edit: func(r *http.Request) { r.Header.Set(targetHeader, "AmazonSSM.ListDocuments") }, status: 400, code: "InvalidSignatureException"},
		"tampered body":            {edit: func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`[]`)) }, status: 400, code: "InvalidSignatureException"},
		"old":                      {at: -16 * time.Minute, status: 400, code: "InvalidSignatureException", says: "Signature expired: "},
		"early":                    {at: 16 * time.Minute, status: 400, code: "InvalidSignatureException", says: "Signature not yet current: "},
		"unknown operation":        {target: "AmazonSSM.MakeCoffee", status: 400, code: "UnknownOperationException", says: "MakeCoffee"},
		"operation to come":        {target: "AmazonSSM.PutParameter", status: 400, code: "UnknownOperationException", says: "not supported"},
		"unknown mesh operation":   {target: "Mesh.MakeCoffee", status: 400, code: "UnknownOperationException"},
		"other service":            {target: "DynamoDB_20120810.ListTables", status: 400, code: "UnknownOperationException"},
		"no target":                {edit: func(r *http.Request) { r.Header.Del(targetHeader) }, status: 400, code: "UnknownOperationException"},
		"odd target":               {target: "AmazonSSM.List Commands", status: 400, code: "UnknownOperationException"},
		"unknown and unsigned":     {target: "AmazonSSM.PutParameter", edit: func(r *http.Request) { r.Header.Del("Authorization") }, status: 400, code: "MissingAuthenticationTokenException"},
		"no JSON":                  {body: `{"MaxResults":`, status: 400, code: "SerializationException"},
		"no object":                {body: `[]`, status: 400, code: "SerializationException"},
		"wrong type":               {body: `{"MaxResults":"5"}`, status: 400, code: "SerializationException"},
		"out of bounds":            {body: `{"MaxResults":500}`, status: 400, code: "ValidationException"},
		"null":                     {target: "AmazonSSM.CancelCommand", body: `{"CommandId":null}`, status: 400, code: "ValidationException"},
		"null in a list":           {target: "AmazonSSM.AddTagsToResource", body: `{"ResourceType":"ManagedInstance","ResourceId":"` + memberID + `","Tags":[null]}`, status: 400},
		"unknown member":           {body: `{"MaxResult":5}`, status: 400, code: "ValidationException"},
		"mesh with unknown member": {target: "Mesh.Status", body: `{"Colour":1}`, status: 400, code: "SerializationException"},
		"too large":                {body: `{"NextToken":"` + strings.Repeat("x", maxBody) + `"}`, status: 413, code: "RequestEntityTooLarge"},
		"deep":                     {body: strings.Repeat(`{"a":`, 5000), status: 400, code: "SerializationException"},
		"compressed":               {edit: func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, status: 400, code: "SerializationException"},
		"GET":                      {edit: func(r *http.Request) { r.Method, r.Body, r.ContentLength = http.MethodGet, nil, 0 }, status: 405, code: "UnknownOperationException"},
		"other path":               {edit: func(r *http.Request) { r.URL.Path = "/v1/jobs" }, status: 404, code: "UnknownOperationException"},
	} {
		t.Run(name, func(t *testing.T) {
			target, body := test.target, test.body
			if target == "" {
				target = list
			}
			if body == "" {
				body = `{}`
			}
			for _, url := range []string{b.leaderURL, b.memberURL} {
				r := b.request(url, target, body, time.Now().Add(test.at), nil)
				if test.edit != nil {
					test.edit(r)
				}
				got := b.do(r)
				if got.status != test.status || test.code != "" && got.Type != test.code || !strings.Contains(got.Message, test.says) {
					t.Errorf("HTTP %d %s %q, want %d %s %q", got.status, got.Type, got.Message, test.status, test.code, test.says)
				}
			}
		})
	}
}

// TestUnsignedIsRefusedWithoutTheLeader: what nobody signed is not sent on, and
// whoever sent it learns what is wrong with it while nobody leads.
func TestUnsignedIsRefusedWithoutTheLeader(t *testing.T) {
	b := newBed(t)
	var forwarded atomic.Int32
	b.mu.Lock()
	b.forward = func(*peer.ForwardRequest, bool) (*peer.ForwardResponse, error) {
		forwarded.Add(1)
		return nil, errors.Join(peer.ErrNoLeader, peer.ErrNotSent)
	}
	b.mu.Unlock()
	for _, target := range []string{"AmazonSSM.SendCommand", "AmazonSSM.ListCommands", "Mesh.Status", "Mesh.Keyring"} {
		r := b.request(b.memberURL, target, `{}`, time.Now(), nil)
		r.Header.Del("Authorization")
		if got := b.do(r); got.status != 400 || got.Type != "MissingAuthenticationTokenException" {
			t.Errorf("%s: HTTP %d %s", target, got.status, got.Type)
		}
	}
	if n := forwarded.Load(); n != 0 {
		t.Errorf("%d were sent on", n)
	}
	r := b.request(b.memberURL, "Mesh.Enrol", `{}`, time.Now(), nil)
	r.Header.Del("Authorization") // its proof is in its body
	if got := b.do(r); got.Type != "ServiceUnavailable" || forwarded.Load() == 0 {
		t.Errorf("an enrolment: %s", got.Type)
	}
}

func replaceAuthorization(old, new string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
	}
}

// TestEveryOperationIsAnswered: each of the model's operations is served, or said
// to be unknown at once, without a leader.
func TestEveryOperationIsAnswered(t *testing.T) {
	b := newBed(t)
	b.mu.Lock()
	b.forward = func(*peer.ForwardRequest, bool) (*peer.ForwardResponse, error) {
		t.Error("a request went to the leader")
		return nil, peer.ErrNoLeader
	}
	b.mu.Unlock()
	served := map[string]bool{}
	for name := range operationTable() {
		served[name] = true
	}
	for _, name := range []string{
		"SendCommand", "ListCommands", "ListCommandInvocations", "GetCommandInvocation", "CancelCommand", "DescribeInstanceInformation",
		"CreateActivation", "DescribeActivations", "DeleteActivation", "DeregisterManagedInstance", "AddTagsToResource",
		"RemoveTagsFromResource", "ListTagsForResource", "GetDocument", "DescribeDocument", "ListDocuments",
	} {
		if !served[name] {
			t.Errorf("%s is not served", name)
		}
	}
	all := awsjson.Operations()
	if len(all) != 146 {
		t.Errorf("%d operations", len(all))
	}
	for _, name := range all {
		if served[name] {
			continue
		}
		if got := b.do(b.request(b.memberURL, "AmazonSSM."+name, `{}`, time.Now(), nil)); got.status != 400 || got.Type != "UnknownOperationException" {
			t.Errorf("%s: HTTP %d %s", name, got.status, got.Type)
		}
	}
}

func TestKeyWithoutRightsIsDenied(t *testing.T) {
	b := newBed(t)
	var txn raftstore.Txn
	txn.PutAccessKey(raftstore.AccessKey{ID: "FMKANOBODY", SealedSecret: b.key.Seal([]byte("s"), sealAccessKey+"FMKANOBODY"), UserName: "nobody"})
	b.apply(txn)
	c := b.ssm(b.leaderURL, func(o *ssm.Options) { o.Credentials = credentials.NewStaticCredentialsProvider("FMKANOBODY", "s", "") })
	_, err := c.ListCommands(t.Context(), &ssm.ListCommandsInput{})
	wantCode(t, err, "AccessDeniedException", "FMKANOBODY")
}

// TestFaultsAreHidden: a fault's text is in the log under the request's id and
// not in the answer.
func TestFaultsAreHidden(t *testing.T) {
	b := newBed(t)
	var txn raftstore.Txn
	txn.PutAccessKey(raftstore.AccessKey{ID: "FMKABROKEN", SealedSecret: []byte("not sealed"), Administrator: true})
	b.apply(txn)
	c := b.ssm(b.leaderURL, func(o *ssm.Options) { o.Credentials = credentials.NewStaticCredentialsProvider("FMKABROKEN", "s", "") })
	_, err := c.ListCommands(t.Context(), &ssm.ListCommandsInput{})
	wantCode(t, err, "InternalServerError", "request id")
	var refused smithy.APIError
	if errors.As(err, &refused) && strings.Contains(refused.ErrorMessage(), "FMKABROKEN") {
		t.Errorf("the answer shows the fault: %q", refused.ErrorMessage())
	}
	if !strings.Contains(b.log.String(), "open the secret of access key FMKABROKEN") {
		t.Errorf("the log does not show the fault: %s", b.log)
	}
}

// TestNoLeader: writes and reads are refused in time; on the socket, members and
// status are still told.
func TestNoLeader(t *testing.T) {
	if worst := max(leaderSearch, confirmPatience); worst >= 5*time.Second {
		t.Errorf("a client waits up to %s to hear that nobody leads", worst)
	}
	b := newBed(t)
	b.setAlive(memberID)
	b.mu.Lock()
	b.forward = func(*peer.ForwardRequest, bool) (*peer.ForwardResponse, error) {
		return nil, errors.Join(peer.ErrNoLeader, peer.ErrNotSent)
	}
	b.mu.Unlock()
	type outcome struct {
		got  reply
		took time.Duration
	}
	outcomes := make(chan outcome)
	for _, target := range []string{"AmazonSSM.ListCommands", "AmazonSSM.SendCommand", "Mesh.Status", "Mesh.Members"} {
		go func() {
			start := time.Now()
			got := b.do(b.request(b.memberURL, target, `{}`, time.Now(), nil))
			outcomes <- outcome{got, time.Since(start)}
		}()
	}
	for range 4 {
		o := <-outcomes
		if o.got.status != http.StatusServiceUnavailable || o.got.Type != "ServiceUnavailable" || o.took > 20*time.Second {
			t.Errorf("HTTP %d %s after %s", o.got.status, o.got.Type, o.took)
		}
	}
	_, socket := b.socket(b.member)
	status, err := socket.Status(t.Context(), &meshapi.StatusInput{})
	if err != nil {
		t.Fatal(err)
	}
	if status.Source != "gossip" || status.Leader != "" || status.AnsweredBy != memberID || status.MeshId != b.meshID ||
		len(status.Voters) != 1 || status.Nodes.Online != 2 || len(status.Advice) == 0 {
		t.Errorf("status %+v", status)
	}
	members, err := socket.Members(t.Context(), &meshapi.MembersInput{})
	if err != nil || members.AnsweredBy != memberID || len(members.Members) != 2 {
		t.Errorf("members %+v, %v", members, err)
	}
}

// TestStoreWithoutMajority: a leader that cannot confirm itself does not hang.
func TestStoreWithoutMajority(t *testing.T) {
	b := newBed(t)
	b.mu.Lock()
	b.wrap = func(s Store) Store { return unconfirmed{s} }
	b.mu.Unlock()
	got := b.do(b.request(b.leaderURL, "AmazonSSM.ListCommands", `{}`, time.Now(), nil))
	if got.Type != "ServiceUnavailable" {
		t.Errorf("%s %s", got.Type, got.Message)
	}
}

type unconfirmed struct{ Store }

func (unconfirmed) ConfirmedView(ctx context.Context, _ func(raftstore.Reader) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestForwardErrors(t *testing.T) {
	b := newBed(t)
	answer := func(err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.forward = func(*peer.ForwardRequest, bool) (*peer.ForwardResponse, error) { return nil, err }
	}
	broken := errors.New("the connection broke")
	for _, test := range []struct {
		name   string
		err    error
		target string
		code   string
	}{
		{"removed node", &peer.Refusal{Kind: peer.RefusedForbidden, Message: "removed"}, "AmazonSSM.ListCommands", "AccessDeniedException"},
		{"too large", &peer.Refusal{Kind: peer.RefusedInput, Message: "large"}, "AmazonSSM.ListCommands", "ValidationException"},
		{"fault", &peer.Refusal{Kind: peer.RefusedInternal, Message: "fault"}, "AmazonSSM.ListCommands", "InternalServerError"},
		{"broken read", broken, "AmazonSSM.ListCommands", "ServiceUnavailable"},
		{"broken write without id", broken, "AmazonSSM.SendCommand", "InternalServerError"},
	} {
		answer(test.err)
		if got := b.do(b.request(b.memberURL, test.target, `{}`, time.Now(), nil)); got.Type != test.code {
			t.Errorf("%s: %s %q, want %s", test.name, got.Type, got.Message, test.code)
		}
	}
}

// TestNotLeaderRefersOn: a forwarded request that reaches a node that does not
// lead is refused with the leader's name, not answered.
func TestNotLeaderRefersOn(t *testing.T) {
	b := newBed(t)
	in := &peer.ForwardRequest{Method: "POST", Path: "/", Header: map[string][]string{targetHeader: {"AmazonSSM.ListCommands"}, "Authorization": {"for the leader to read"}}, Body: []byte(`{}`)}
	_, err := b.member.ServeForwarded(t.Context(), peer.Caller{NodeID: leaderID}, in)
	var refused *peer.Refusal
	if !errors.As(err, &refused) || refused.Kind != peer.RefusedNotLeader {
		t.Errorf("got %v", err)
	}
}

// TestAWSCommandLine drives the unmodified AWS CLI against a member. Each run costs a
// third of a second of CPU: here is what only this client does, the rest is in test/e2e.
func TestAWSCommandLine(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS CLI is not installed on this machine: its part of the API's test is left out")
	}
	b := newBed(t)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	server := tlsCertificate(t, b.client, b.memberURL)
	if err := os.WriteFile(bundle, server, 0o600); err != nil {
		t.Fatal(err)
	}
	attempts := "1"
	run := func(arguments ...string) (string, string, error) {
		command := exec.CommandContext(t.Context(), program, append([]string{"ssm"}, arguments...)...)
		command.Env = append(os.Environ(), "AWS_ENDPOINT_URL_SSM="+b.memberURL, "AWS_CA_BUNDLE="+bundle, "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
			"AWS_ACCESS_KEY_ID="+adminKeyID, "AWS_SECRET_ACCESS_KEY="+adminSecret, "AWS_MAX_ATTEMPTS="+attempts, "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "HOME="+t.TempDir())
		var stdout, stderr bytes.Buffer
		command.Stdout, command.Stderr = &stdout, &stderr
		err := command.Run()
		return stdout.String(), stderr.String(), err
	}
	out, stderr, err := run("send-command", "--document-name", shellDocument, "--instance-ids", memberID, "--parameters", `commands=["echo hi"]`, "--query", "Command.CommandId", "--output", "text")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	id := strings.TrimSpace(out)
	b.finish(id, "Success", "Success", ended(memberID, "Success", "Success", "hi\n", "", 0))
	out, stderr, err = run("get-command-invocation", "--command-id", id, "--instance-id", memberID, "--query", "[Status,StandardOutputContent,ExecutionElapsedTime]", "--output", "text")
	if err != nil || strings.Join(strings.Fields(out), " ") != "Success hi PT1.5S" {
		t.Errorf("get-command-invocation: %q %s %v", out, stderr, err)
	}
	if _, stderr, err = run("send-command", "--document-name", shellDocument, "--instance-ids", memberID, memberID, "--parameters", `commands=["true"]`); err == nil || !strings.Contains(stderr, "(DuplicateInstanceId)") || !strings.Contains(stderr, memberID) {
		t.Errorf("a node twice: %s %v", stderr, err)
	}
	// Equal requests of one second have one signature with this client: it signs the
	// second anew, and both are done.
	attempts = "10"
	before := b.commandCount()
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if _, stderr, err := run("send-command", "--document-name", shellDocument, "--instance-ids", memberID, "--parameters", `commands=["at once"]`); err != nil {
				t.Errorf("equal commands at once: %v: %s", err, stderr)
			}
		})
	}
	group.Wait()
	if n := b.commandCount() - before; n != 2 {
		t.Errorf("%d commands of 2 equal ones", n)
	}
}

// FuzzServe sends anything: every answer is one, and no input brings the face
// down or makes it call a fault its own.
func FuzzServe(f *testing.F) {
	f.Add("POST", "/", "AmazonSSM.SendCommand", "AWS4-HMAC-SHA256 Credential=a/20261123/r/ssm/aws4_request, SignedHeaders=host, Signature="+strings.Repeat("0", 64), "id", []byte(`{"DocumentName":"x"}`), false)
	f.Add("POST", "/", "Mesh.Enrol", "", "", []byte(`{"ActivationId":"x","Tags":{"a":"b"}}`), false)
	f.Add("POST", "/", "Mesh.Status", "", "a", []byte(`{}`), true)
	f.Add("GET", "/x", "", "", "", []byte{}, false)
	face := New(Config{
		NodeID: memberID, Store: func() Store { return nil }, Members: func() []Member { return nil },
		Forward: func(_ context.Context, in *peer.ForwardRequest, _ bool) (*peer.ForwardResponse, error) {
			if op := operationTable()[strings.TrimPrefix(in.Header[targetHeader][0], ssmPrefix)]; op != nil {
				if input, err := op.decode(in.Body); err == nil {
					_ = op.mask(in.Body)
					if _, err := awsjson.Marshal(input); err != nil {
						return nil, err
					}
				} else if !isRefusal(err) {
					return nil, err
				}
			}
			return &peer.ForwardResponse{Status: 200, Body: []byte(`{}`)}, nil
		},
		Now: time.Now, Log: discard,
	})
	f.Fuzz(func(t *testing.T, method, path, target, authorization, id string, body []byte, local bool) {
		r := &http.Request{
			Method: method, Host: "h", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), RemoteAddr: "127.0.0.1:1",
			URL: mustURL(path),
		}
		r.Header.Set(targetHeader, target)
		r.Header.Set("Authorization", authorization)
		r.Header.Set(invocationHeader, id)
		w := newRecorder()
		face.serve(w, r.WithContext(t.Context()), local)
		if w.status == http.StatusInternalServerError || w.status == 0 {
			t.Fatalf("HTTP %d %s", w.status, w.body.String())
		}
		var parsed map[string]any
		if err := json.Unmarshal(w.body.Bytes(), &parsed); err != nil {
			t.Fatalf("HTTP %d with %q", w.status, w.body.String())
		}
	})
}
