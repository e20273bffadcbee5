package main

import (
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"fleetmesh/agent/meshapi"
)

// both asks over both faces: a Mesh operation and one of SSM's.
var both = map[string][]string{"Mesh.Members": {"mesh", "members"}, "ListDocuments": {"document", "list"}}

func TestFailover(t *testing.T) {
	m := newFakeMesh(t)
	m.always("Mesh.Members", &meshapi.MembersOutput{})
	m.always("ListDocuments", struct{}{})
	cutOff := newFakeMesh(t) // sees no leader; it has the same httptest certificate
	cutOff.refuse("Mesh.Members", "ServiceUnavailable", "no leader")
	cutOff.refuse("ListDocuments", "ServiceUnavailable", "no leader")

	dead := deadAddress(t)
	path := filepath.Join(t.TempDir(), "many.yaml")
	m.writeConfig(path, dead, cutOff.server.URL, m.server.URL)
	for operation, line := range both {
		if r := m.run(append(line, "--config", path)...); r.code != 0 {
			t.Errorf("%v: %+v", line, r)
		}
		sick, well := cutOff.called(operation), m.called(operation)
		if len(sick) != 1 || len(well) != 1 {
			t.Fatalf("%s: %d and %d calls", operation, len(sick), len(well))
		}
		// A retry is the same call, and the signature holds for the Host it was made for.
		if id := sick[0].Header.Get("Amz-Sdk-Invocation-Id"); id == "" || id != well[0].Header.Get("Amz-Sdk-Invocation-Id") {
			t.Errorf("%s: invocation ids %q and %q", operation, id, well[0].Header.Get("Amz-Sdk-Invocation-Id"))
		}
		if host := strings.TrimPrefix(dead, "https://"); well[0].Host != host {
			t.Errorf("%s: Host %q, signed for %q", operation, well[0].Host, host)
		}
		if !strings.HasPrefix(well[0].Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=FMKEYADMIN0001/") {
			t.Errorf("%s: Authorization %q", operation, well[0].Header.Get("Authorization"))
		}
		if agent := well[0].Header.Get("User-Agent"); !strings.Contains(agent, "meshctl/") {
			t.Errorf("%s: User-Agent %q", operation, agent)
		}
	}
}

func TestUnreachable(t *testing.T) {
	m := newFakeMesh(t)
	dead := filepath.Join(t.TempDir(), "dead.yaml")
	m.writeConfig(dead, deadAddress(t), deadAddress(t))
	for _, line := range both {
		if r := m.run(append(line, "--config", dead)...); r.code != exitUnreachable || !strings.Contains(r.err, "no node could be reached: 127.0.0.1:") || !strings.Contains(r.err, "connection refused; 127.0.0.1:") {
			t.Errorf("%v: %+v", line, r)
		}
		if r := m.run(append(line, "--socket", filepath.Join(m.home, "none.sock"))...); r.code != exitUnreachable || !strings.Contains(r.err, "none.sock") {
			t.Errorf("%v over a socket that is not there: %+v", line, r)
		}
	}
	if r := m.run("run", "--config", dead, "--targets", "all", "-o", "json", "--", "x"); r.code != exitUnreachable || !strings.HasPrefix(r.err, `{"Error":{"Code":"Unreachable"`) {
		t.Errorf("as an object: %+v", r)
	}
}

func TestForeignCertificate(t *testing.T) {
	m := newFakeMesh(t)
	// A configuration whose CA is not the server's.
	path := filepath.Join(t.TempDir(), "foreign.yaml")
	writeConfigWithCA(t, path, otherCA(t), m.server.URL)
	for _, line := range both {
		if r := m.run(append(line, "--config", path)...); r.code != exitUnreachable || !strings.Contains(r.err, "not of this configuration's mesh") {
			t.Errorf("%v: %+v", line, r)
		}
	}
	if len(m.calls) != 0 {
		t.Error("a request went over an untrusted connection")
	}
}

func TestNoLeaderAndTimeout(t *testing.T) {
	m := newFakeMesh(t)
	m.refuse("Mesh.Members", "ServiceUnavailable", "the mesh has no leader")
	m.refuse("ListDocuments", "ServiceUnavailable", "the mesh has no leader")
	for _, line := range both {
		if r := m.run(line...); r.code != exitUnreachable || !strings.Contains(r.err, "ServiceUnavailable: the mesh has no leader") {
			t.Errorf("%v: %+v", line, r)
		}
	}
	release := make(chan struct{})
	hang := func([]byte) (any, error) {
		<-release
		return nil, &smithy.GenericAPIError{Code: "InternalServerError"}
	}
	m.on("Mesh.Members", hang)
	m.on("ListDocuments", hang)
	for _, line := range both {
		if r := m.run(append(line, "--timeout", "300ms")...); r.code != exitUnreachable || !strings.Contains(r.err, "no answer in time") {
			t.Errorf("%v: %+v", line, r)
		}
	}
	close(release)
}

func TestRefusals(t *testing.T) {
	m := newFakeMesh(t)
	for code, want := range map[string]string{
		"UnrecognizedClientException": "is not one of this mesh",
		"InvalidSignatureException":   "clock",
		"AccessDeniedException":       "AccessDeniedException: sentence", // which says what to do
		"ValidationException":         "ValidationException: sentence",
		"InternalServerError":         "the node's log",
	} {
		for operation, line := range both {
			m.refuse(operation, code, "sentence")
			if r := m.run(line...); r.code != exitRefused || !strings.HasPrefix(r.err, "meshctl: "+code+": sentence\n") || !strings.Contains(r.err, want) {
				t.Errorf("%s of %v: %+v", code, line, r)
			}
		}
	}
}

// The public model gives some errors no message, and the SDK drops it.
func TestRefusalIsNeverSilent(t *testing.T) {
	m := threeNodes(t)
	for _, test := range []struct{ operation, code, line string }{
		{"ListCommands", "InvalidCommandId", "command show " + commandID},
		{"CancelCommand", "InvalidCommandId", "command cancel " + commandID},
		{"SendCommand", "DuplicateInstanceId", "run --nodes web-1,web-1 -- true"},
		{"AddTagsToResource", "InvalidResourceId", "node tag web-1 a=b"},
		{"AddTagsToResource", "TooManyTagsError", "node tag web-1 a=b"},
		{"DescribeActivations", "InvalidFilter", "activation list"},
	} {
		m.refuse(test.operation, test.code, "what the mesh says")
		if r := m.run(strings.Fields(test.line)...); r.code != exitRefused || r.out != "" || !strings.HasPrefix(r.err, "meshctl: "+test.code+": what the mesh says\n") {
			t.Errorf("%s: %+v", test.line, r)
		}
		m.refuse(test.operation, test.code, "")
		if r := m.run(strings.Fields(test.line)...); r.code != exitRefused || !strings.Contains(r.err, test.code+": refused, and no reason was given") {
			t.Errorf("%s, without a text: %+v", test.line, r)
		}
	}
}

func TestFaultOfThisMachineIsNoNetworkFault(t *testing.T) {
	m := newFakeMesh(t)
	path := filepath.Join(t.TempDir(), "admin.yaml")
	m.writeConfig(path, m.server.URL)
	r := m.runIn(func(s *surroundings) { s.home = func() (string, error) { return path, nil } }, "env", "--config", path)
	if r.code != exitRefused || r.out != "" || !strings.HasPrefix(r.err, "meshctl: write the CA bundle: mkdir "+path) {
		t.Errorf("got %+v", r)
	}
}

func TestSocket(t *testing.T) {
	m := newFakeMesh(t)
	m.always("Mesh.Members", &meshapi.MembersOutput{AnsweredBy: web1})
	m.always("ListDocuments", struct{}{})
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(m)
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	for operation, line := range both {
		if r := m.run(append(line, "--socket", path)...); r.code != 0 {
			t.Errorf("%v: %+v", line, r)
		}
		calls := m.called(operation)
		if len(calls) != 1 || calls[0].Header.Get("Authorization") != "" || calls[0].Host != "meshd" || calls[0].Header.Get("Amz-Sdk-Invocation-Id") == "" {
			t.Errorf("%s: %+v", operation, calls)
		}
	}
}
