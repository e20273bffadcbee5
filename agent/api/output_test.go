package api

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

// TestOutputOfACommandOnItsWay: the start is committed and the node has not heard
// of it; who waits for its output gets it when it comes.
func TestOutputOfACommandOnItsWay(t *testing.T) {
	b := newBed(t)
	m := b.mesh(b.memberURL)
	id := *send(t, b.ssm(b.memberURL), ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId
	asked := make(chan struct{}, 16)
	b.mu.Lock()
	b.output = func(peer.Target, *peer.OutputRequest) (*peer.OutputResponse, error) {
		asked <- struct{}{}
		return nil, &peer.Refusal{Kind: peer.RefusedInput, Message: "unknown here"}
	}
	b.mu.Unlock()
	started := raftstore.Invocation{NodeID: memberID, Status: "InProgress", StatusDetails: "InProgress", DispatchedAt: time.Now()}
	b.finish(id, "InProgress", "InProgress", started)
	_, err := m.ReadOutput(t.Context(), &meshapi.ReadOutputInput{CommandId: id, InstanceId: memberID})
	wantCode(t, err, "ValidationException", "on its way")
	<-asked

	type answer struct {
		out *meshapi.ReadOutputOutput
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := m.ReadOutput(t.Context(), &meshapi.ReadOutputInput{CommandId: id, InstanceId: memberID, Wait: true})
		answers <- answer{out, err}
	}()
	<-asked
	b.mu.Lock()
	b.output = func(peer.Target, *peer.OutputRequest) (*peer.OutputResponse, error) {
		return &peer.OutputResponse{Data: []byte("data"), Size: 4, Ended: true}, nil
	}
	b.mu.Unlock()
	started.StartedAt = time.Now()
	b.finish(id, "InProgress", "InProgress", started)
	if got := <-answers; got.err != nil || string(got.out.Data) != "data" || !got.out.Ended {
		t.Errorf("%+v, %v", got.out, got.err)
	}
}

// TestOutputOfAStepThatDidNotRun: the node has nothing of it, and has forgotten why;
// the mesh knows.
func TestOutputOfAStepThatDidNotRun(t *testing.T) {
	b := newBed(t)
	m := b.mesh(b.memberURL)
	id := *send(t, b.ssm(b.memberURL), ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId
	b.mu.Lock()
	b.output = func(peer.Target, *peer.OutputRequest) (*peer.OutputResponse, error) {
		return &peer.OutputResponse{Ended: true}, nil
	}
	b.mu.Unlock()
	at := time.Now()
	b.finish(id, "Failed", "Failed", raftstore.Invocation{
		NodeID: memberID, Status: "Failed", StatusDetails: "Failed", DispatchedAt: at, StartedAt: at, FinishedAt: at,
		Plugins: []raftstore.PluginResult{{Name: "aws:runShellScript", Status: "Failed", StatusDetails: "Failed", FinishedAt: at, Stderr: "refused\n"}},
	})
	for offset, want := range map[int64]string{0: "refused\n", 3: "used\n", 8: "", 99: ""} {
		out, err := m.ReadOutput(t.Context(), &meshapi.ReadOutputInput{CommandId: id, InstanceId: memberID, Stderr: true, Offset: offset})
		if err != nil || string(out.Data) != want || !out.Ended || out.NextOffset != offset+int64(len(want)) {
			t.Errorf("from %d: %+v, %v", offset, out, err)
		}
	}
	if out, err := m.ReadOutput(t.Context(), &meshapi.ReadOutputInput{CommandId: id, InstanceId: memberID}); err != nil || len(out.Data) > 0 || !out.Ended {
		t.Errorf("stdout: %+v, %v", out, err)
	}
}
