package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/smithy-go"

	"fleetmesh/internal/awsjson"
)

var update = flag.Bool("update", false, "write the golden files anew")

// answer is what the scripted mesh answers to an operation.
type answer func(body []byte) (any, error)

// fakeMesh plays a small script over real TLS.
type fakeMesh struct {
	t      *testing.T
	server *httptest.Server
	home   string

	mu      sync.Mutex
	answers map[string]answer // by X-Amz-Target
	calls   []recordedCall
}

type recordedCall struct {
	Target string
	Header http.Header
	Host   string
	Body   string
}

func newFakeMesh(t *testing.T) *fakeMesh {
	t.Helper()
	m := &fakeMesh{t: t, home: t.TempDir(), answers: map[string]answer{}}
	m.server = httptest.NewUnstartedServer(m)
	m.server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	m.server.StartTLS()
	t.Cleanup(m.server.Close)
	m.writeConfig(filepath.Join(m.home, ".config", "meshctl", "config.yaml"), m.server.URL)
	return m
}

func (m *fakeMesh) caPEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.server.Certificate().Raw}))
}

// writeConfig writes what `meshd init` writes.
func (m *fakeMesh) writeConfig(path string, endpoints ...string) {
	m.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "mesh_name: prod\nmesh_id: 5b0e1c5e-6a53-4b8c-9a0c-0d8f6b1f2a11\nendpoints:\n")
	for _, endpoint := range endpoints {
		fmt.Fprintf(&b, "    - %s\n", endpoint)
	}
	fmt.Fprintf(&b, "ca: |\n    %s\n", strings.ReplaceAll(strings.TrimSpace(m.caPEM()), "\n", "\n    "))
	fmt.Fprintf(&b, "access_key_id: FMKEYADMIN0001\nsecret_access_key: s3cret/with+odd=chars\n")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// on scripts the answer to an operation: "ListCommands", or "Mesh.Status".
func (m *fakeMesh) on(operation string, a answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !strings.Contains(operation, ".") {
		operation = "AmazonSSM." + operation
	}
	m.answers[operation] = a
}

// always scripts an answer that does not depend on the request.
func (m *fakeMesh) always(operation string, out any) {
	m.on(operation, func([]byte) (any, error) { return out, nil })
}

func (m *fakeMesh) refuse(operation, code, message string) {
	m.on(operation, func([]byte) (any, error) { return nil, &smithy.GenericAPIError{Code: code, Message: message} })
}

func (m *fakeMesh) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	target := r.Header.Get("X-Amz-Target")
	m.mu.Lock()
	m.calls = append(m.calls, recordedCall{Target: target, Header: r.Header.Clone(), Host: r.Host, Body: string(body)})
	script := m.answers[target]
	m.mu.Unlock()
	if script == nil {
		script = func([]byte) (any, error) {
			return nil, &smithy.GenericAPIError{Code: "UnknownOperationException", Message: target + " is not in the script"}
		}
	}
	out, err := script(body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if err != nil {
		refusal := err.(*smithy.GenericAPIError)
		status := http.StatusBadRequest
		switch refusal.Code {
		case "ServiceUnavailable":
			status = http.StatusServiceUnavailable
		case "InternalServerError":
			status = http.StatusInternalServerError
		}
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"__type": refusal.Code, "message": refusal.Message})
		return
	}
	content, err := awsjson.Marshal(out)
	if err != nil {
		m.t.Errorf("script of %s: %v", target, err)
	}
	w.Write(content)
}

// called returns the calls of an operation, in their order.
func (m *fakeMesh) called(operation string) []recordedCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []recordedCall
	for _, c := range m.calls {
		if strings.HasSuffix(c.Target, "."+operation) || c.Target == operation {
			found = append(found, c)
		}
	}
	return found
}

// result is what a command line did.
type result struct {
	code     int
	out, err string
}

// testNow is when the tests' commands run.
var testNow = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// surroundings of a process without a terminal.
func (m *fakeMesh) surroundings(out, err io.Writer) surroundings {
	return surroundings{
		in: strings.NewReader(""), out: out, err: err,
		getenv:        func(string) string { return "" },
		home:          func() (string, error) { return m.home, nil },
		defaultSocket: filepath.Join(m.home, "no-such.sock"),
		now:           func() time.Time { return testNow },
		zone:          time.UTC,
	}
}

func (m *fakeMesh) run(arguments ...string) result {
	return m.runIn(nil, arguments...)
}

// runIn runs a command line in surroundings that the test has changed.
func (m *fakeMesh) runIn(change func(*surroundings), arguments ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out, err bytes.Buffer
	s := m.surroundings(&out, &err)
	if change != nil {
		change(&s)
	}
	code := run(ctx, s, arguments)
	return result{code: code, out: out.String(), err: err.String()}
}

// golden compares with testdata/name.
func golden(t *testing.T, name string, r result) {
	t.Helper()
	got := fmt.Sprintf("exit %d\n--- stdout\n%s--- stderr\n%s", r.code, r.out, r.err)
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew)\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}

// deadAddress is one where nothing listens.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "https://" + l.Addr().String()
}
