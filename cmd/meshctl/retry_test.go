package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"fleetmesh/agent/meshapi"
)

// TestNobodyLeadsIsToldSoon: each endpoint is asked once, since each has searched.
func TestNobodyLeadsIsToldSoon(t *testing.T) {
	for _, count := range []int{1, 2, 4} {
		for operation, line := range both {
			var meshes []*fakeMesh
			var endpoints []string
			for range count {
				m := newFakeMesh(t)
				m.refuse(operation, "ServiceUnavailable", "no leader")
				meshes, endpoints = append(meshes, m), append(endpoints, m.server.URL)
			}
			path := filepath.Join(t.TempDir(), "all.yaml")
			meshes[0].writeConfig(path, endpoints...)
			if r := meshes[0].run(append(line, "--config", path)...); r.code != exitUnreachable || !strings.Contains(r.err, "no leader") {
				t.Errorf("%s: %+v", operation, r)
			}
			for i, m := range meshes {
				if calls := len(m.called(operation)); calls != 1 {
					t.Errorf("%s: endpoint %d of %d was asked %d times", operation, i+1, count, calls)
				}
			}
		}
	}
}

// TestOutcomeIsAskedForAgain: what may pass is tried again under the same id.
func TestOutcomeIsAskedForAgain(t *testing.T) {
	for operation, line := range both {
		m := newFakeMesh(t)
		m.refuse(operation, "InternalServerError", "the outcome is unknown")
		m.run(line...)
		if calls := m.called(operation); len(calls) < 2 || calls[0].Header.Get("Amz-Sdk-Invocation-Id") != calls[1].Header.Get("Amz-Sdk-Invocation-Id") {
			t.Errorf("%s: %d calls", operation, len(calls))
		}
	}
}

// slowHosts answers for every host but those that are slow as often as told; these
// never connect.
type slowHosts map[string]int

func (s slowHosts) RoundTrip(request *http.Request) (*http.Response, error) {
	host := request.URL.Host
	if s[host] > 0 {
		s[host]--
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(host)), Request: request}, nil
}

// TestSilentEndpoint: one that does not connect is passed over, and is waited for
// when no other is better.
func TestSilentEndpoint(t *testing.T) {
	for _, test := range []struct {
		name string
		slow slowHosts
		want string
	}{
		{"the first is silent", slowHosts{"a": 9}, "b"},
		{"both are slow", slowHosts{"a": 1, "b": 9}, "a"},
	} {
		f, err := newFailover([]string{"https://a", "https://b"}, test.slow)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://a/", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := f.RoundTrip(request)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got, err := io.ReadAll(response.Body)
		if err != nil || string(got) != test.want || response.Body.Close() != nil {
			t.Errorf("%s: %s answered (%v), want %s", test.name, got, err, test.want)
		}
	}
}

// TestFollowWaitsForTheNode: its meshd starts again, the output goes on.
func TestFollowWaitsForTheNode(t *testing.T) {
	away := &smithy.GenericAPIError{Code: "TargetNotConnected", Message: "away"}
	var answers []any
	read := func(_ context.Context, in *meshapi.ReadOutputInput) (*meshapi.ReadOutputOutput, error) {
		next := answers[0]
		answers = answers[1:]
		if err, bad := next.(error); bad {
			return nil, err
		}
		out := next.(string)
		return &meshapi.ReadOutputOutput{Data: []byte(out), NextOffset: in.Offset + int64(len(out)), Ended: len(answers) == 0}, nil
	}
	var out, talk bytes.Buffer
	a := &app{surroundings: surroundings{err: &talk}}
	answers = []any{"one ", away, &smithy.GenericAPIError{Code: "ServiceUnavailable"}, "two"}
	if err := a.copyOutput(t.Context(), read, &meshapi.ReadOutputInput{}, true, &out); err != nil || out.String() != "one two" {
		t.Errorf("%v, %q", err, out.String())
	}
	if !strings.Contains(talk.String(), "the node does not answer (away)") {
		t.Errorf("said %q", talk.String())
	}
	answers = []any{away}
	var refusal smithy.APIError
	if err := a.copyOutput(t.Context(), read, &meshapi.ReadOutputInput{}, false, &out); !errors.As(err, &refusal) {
		t.Errorf("without --follow: %v", err)
	}
}

// TestFollowFromTheStart: a command that was sent a moment ago has no nodes yet.
func TestFollowFromTheStart(t *testing.T) {
	m := newFakeMesh(t)
	var resolved atomic.Bool
	m.on("Mesh.WatchCommand", func([]byte) (any, error) {
		out := &meshapi.WatchCommandOutput{Index: 1, Status: "Pending"}
		if !resolved.CompareAndSwap(false, true) {
			out = &meshapi.WatchCommandOutput{Index: 2, Status: "Success", Resolved: true, Done: true, TargetCount: 1, Invocations: []meshapi.InvocationChange{change(web1, "web-1", "Success", 0, "")}}
		}
		return out, nil
	})
	m.on("ListCommandInvocations", func([]byte) (any, error) {
		out := &ssm.ListCommandInvocationsOutput{}
		if resolved.Load() {
			out.CommandInvocations = []types.CommandInvocation{{InstanceId: aws.String(web1), CommandPlugins: []types.CommandPlugin{{Name: aws.String("step")}}}}
		}
		return out, nil
	})
	m.always("Mesh.ReadOutput", &meshapi.ReadOutputOutput{Data: []byte("all"), NextOffset: 3, Ended: true})
	if r := m.run("command", "output", commandID, "--node", web1, "--follow"); r.code != 0 || r.out != "all" {
		t.Errorf("%+v", r)
	}
}
