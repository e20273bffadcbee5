package meshapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

var testKey = aws.Credentials{AccessKeyID: "FMKEY", SecretAccessKey: "secret"}

// script answers one request after the other and keeps what came.
type script struct {
	mu       sync.Mutex
	steps    []func(w http.ResponseWriter)
	requests []*http.Request
	bodies   []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	step := s.steps[min(len(s.requests), len(s.steps)-1)]
	s.requests = append(s.requests, r)
	s.bodies = append(s.bodies, string(body))
	s.mu.Unlock()
	step(w)
}

func answers(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func breaks(http.ResponseWriter) { panic(http.ErrAbortHandler) }

func testClient(t *testing.T, credentials aws.CredentialsProvider, steps ...func(http.ResponseWriter)) (*Client, *script) {
	t.Helper()
	s := &script{steps: steps}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	return NewClient(Config{
		Endpoint: server.URL, HTTPClient: server.Client(), Credentials: credentials, Region: "us-east-1", UserAgent: "test/1", Timeout: time.Minute,
	}), s
}

func signing() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return testKey, nil })
}

func TestRequest(t *testing.T) {
	c, s := testClient(t, signing(), answers(200, `{"MeshId":"m","Leader":"mi-1","Voters":["mi-1"],"Nodes":{"Online":3},"FromTheFuture":1}`))
	out, err := c.Status(context.Background(), &StatusInput{})
	if err != nil || out.Leader != "mi-1" || out.Nodes.Online != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	r := s.requests[0]
	if r.Method != "POST" || r.URL.Path != "/" || s.bodies[0] != "{}" {
		t.Errorf("%s %s %q", r.Method, r.URL, s.bodies[0])
	}
	for header, want := range map[string]string{"X-Amz-Target": "Mesh.Status", "Content-Type": "application/x-amz-json-1.1", "User-Agent": "test/1", "Amz-Sdk-Request": "attempt=1; max=3"} {
		if got := r.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	// The mesh verifies by signing again what it got.
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := http.NewRequest(r.Method, "https://"+r.Host+"/", bytes.NewReader([]byte(s.bodies[0])))
	if err != nil {
		t.Fatal(err)
	}
	_, signed, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	signed, _, _ = strings.Cut(signed, ",")
	for _, name := range strings.Split(signed, ";") {
		if value := r.Header.Get(name); value != "" {
			again.Header.Set(name, value)
		}
	}
	hash := sha256.Sum256([]byte(s.bodies[0]))
	if err := v4.NewSigner().SignHTTP(context.Background(), testKey, again, hex.EncodeToString(hash[:]), "ssm", "us-east-1", at); err != nil {
		t.Fatal(err)
	}
	if again.Header.Get("Authorization") != r.Header.Get("Authorization") {
		t.Errorf("signed anew: %s\nsent: %s", again.Header.Get("Authorization"), r.Header.Get("Authorization"))
	}
	if !slices.Contains(strings.Split(signed, ";"), "x-amz-target") || !slices.Contains(strings.Split(signed, ";"), "amz-sdk-invocation-id") {
		t.Errorf("signed headers: %s", signed)
	}
}

func TestEveryOperation(t *testing.T) {
	c, s := testClient(t, nil, answers(200, `{}`))
	ctx := context.Background()
	keys := []string{}
	for _, call := range []struct {
		operation, body string
		do              func() error
	}{
		{"Status", `{}`, func() error { _, err := c.Status(ctx, &StatusInput{}); return err }},
		{"Members", `{"TagKey":"role"}`, func() error { _, err := c.Members(ctx, &MembersInput{TagKey: "role"}); return err }},
		{"CreateActivation", `{"JoinerTags":[],"RegistrationLimit":2}`, func() error {
			_, err := c.CreateActivation(ctx, &CreateActivationInput{RegistrationLimit: 2, JoinerTags: &keys})
			return err
		}},
		{"WatchCommand", `{"AfterIndex":7,"CommandId":"c","WaitSeconds":20}`, func() error {
			_, err := c.WatchCommand(ctx, &WatchCommandInput{CommandId: "c", AfterIndex: 7, WaitSeconds: 20})
			return err
		}},
		{"ReadOutput", `{"CommandId":"c","InstanceId":"i","Offset":3,"Wait":true}`, func() error {
			_, err := c.ReadOutput(ctx, &ReadOutputInput{CommandId: "c", InstanceId: "i", Offset: 3, Wait: true})
			return err
		}},
		{"Keyring", `{"Action":"use","KeyId":"k"}`, func() error { _, err := c.Keyring(ctx, &KeyringInput{Action: "use", KeyId: "k"}); return err }},
	} {
		if err := call.do(); err != nil {
			t.Errorf("%s: %v", call.operation, err)
			continue
		}
		last := len(s.requests) - 1
		var got, want any
		if err := json.Unmarshal([]byte(s.bodies[last]), &got); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal([]byte(call.body), &want); err != nil {
			t.Error(err)
		}
		if s.requests[last].Header.Get("X-Amz-Target") != "Mesh."+call.operation || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: asked %s", call.operation, s.bodies[last])
		}
		if s.requests[last].Header.Get("Authorization") != "" {
			t.Errorf("%s is signed without a key", call.operation)
		}
	}
}

// A lost answer, a node without a leader: asked again under the same id.
func TestRetriesAreTheSameInvocation(t *testing.T) {
	c, s := testClient(t, signing(), breaks, answers(503, `{"__type":"ServiceUnavailable","message":"no leader"}`), answers(200, `{"ActivationId":"a"}`))
	out, err := c.CreateActivation(context.Background(), &CreateActivationInput{})
	if err != nil || out.ActivationId != "a" {
		t.Fatalf("%+v, %v", out, err)
	}
	if len(s.requests) != 3 {
		t.Fatalf("%d requests", len(s.requests))
	}
	id := s.requests[0].Header.Get("Amz-Sdk-Invocation-Id")
	for i, r := range s.requests {
		if r.Header.Get("Amz-Sdk-Invocation-Id") != id || id == "" || s.bodies[i] != s.bodies[0] {
			t.Errorf("request %d: id %q, body %q", i, r.Header.Get("Amz-Sdk-Invocation-Id"), s.bodies[i])
		}
	}
	if _, err := c.CreateActivation(context.Background(), &CreateActivationInput{}); err != nil || s.requests[3].Header.Get("Amz-Sdk-Invocation-Id") == id {
		t.Errorf("another call has the same id: %v", err)
	}
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		status        int
		body          string
		code, message string
		requests      int
	}{
		{400, `{"__type":"InvalidCommandId","message":"no such"}`, "InvalidCommandId", "no such", 1},
		{400, `{"__type":"com.amazonaws.ssm#InvalidCommandId:http://x","Message":"no such"}`, "InvalidCommandId", "no such", 1},
		{503, `{"__type":"ServiceUnavailable","message":"no leader"}`, "ServiceUnavailable", "no leader", 3},
		{500, `{"__type":"InternalServerError"}`, "InternalServerError", "", 3},
		{404, `<html>not an API</html>`, "UnknownError", "the answer is 404 Not Found", 1},
		{302, ``, "UnknownError", "the answer is 302 Found", 1},
	} {
		c, s := testClient(t, signing(), answers(test.status, test.body))
		_, err := c.Members(context.Background(), &MembersInput{})
		var refusal smithy.APIError
		var response *smithyhttp.ResponseError
		var operation *smithy.OperationError
		if !errors.As(err, &refusal) || refusal.ErrorCode() != test.code || refusal.ErrorMessage() != test.message ||
			!errors.As(err, &response) || response.HTTPStatusCode() != test.status || !errors.As(err, &operation) || operation.OperationName != "Members" {
			t.Errorf("%d %s: %v", test.status, test.body, err)
		}
		if len(s.requests) != test.requests {
			t.Errorf("%d %s: %d requests, want %d", test.status, test.body, len(s.requests), test.requests)
		}
	}
	for name, step := range map[string]func(http.ResponseWriter){"no JSON": answers(200, "{"), "too large": answers(200, strings.Repeat(" ", maxAnswer+1)+"{}")} {
		c, s := testClient(t, signing(), step)
		if _, err := c.Members(context.Background(), &MembersInput{}); err == nil || len(s.requests) != 1 {
			t.Errorf("%s: %v after %d requests", name, err, len(s.requests))
		}
	}
}

func TestContextEnds(t *testing.T) {
	c, s := testClient(t, signing(), breaks)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Status(ctx, &StatusInput{}); !errors.Is(err, context.Canceled) || len(s.requests) > 1 {
		t.Errorf("%v after %d requests", err, len(s.requests))
	}
	release := make(chan struct{})
	defer close(release)
	c, _ = testClient(t, signing(), func(http.ResponseWriter) { <-release })
	c.config.Timeout = 50 * time.Millisecond
	if _, err := c.Status(context.Background(), &StatusInput{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the time limit: %v", err)
	}
}

// A clock that is hours off is put right by the mesh's, once.
func TestClockSkew(t *testing.T) {
	theirs := time.Now().Add(3 * time.Hour).UTC()
	refuse := func(w http.ResponseWriter) {
		w.Header().Set("Date", theirs.Format(http.TimeFormat))
		answers(400, `{"__type":"InvalidSignatureException","message":"Signature not yet current"}`)(w)
	}
	c, s := testClient(t, signing(), refuse, answers(200, `{}`))
	if _, err := c.Status(context.Background(), &StatusInput{}); err != nil {
		t.Fatal(err)
	}
	signedAt, err := time.Parse("20060102T150405Z", s.requests[1].Header.Get("X-Amz-Date"))
	if err != nil || signedAt.Sub(theirs).Abs() > time.Minute {
		t.Errorf("signed at %v, theirs is %v (%v)", signedAt, theirs, err)
	}
	c, s = testClient(t, signing(), answers(400, `{"__type":"InvalidSignatureException","message":"wrong secret"}`))
	if _, err := c.Status(context.Background(), &StatusInput{}); err == nil || len(s.requests) != 1 {
		t.Errorf("a wrong secret is tried again: %v, %d requests", err, len(s.requests))
	}
}
