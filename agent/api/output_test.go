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
