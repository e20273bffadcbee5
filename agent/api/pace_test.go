package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
)

func TestPace(t *testing.T) {
	now := time.Now()
	var p paces
	for n := range paceBurst {
		if !p.take("a", now) {
			t.Fatalf("write %d of a burst is refused", n+1)
		}
	}
	if p.take("a", now) {
		t.Error("a write beyond the burst is allowed")
	}
	if !p.take("b", now) {
		t.Error("one node's burst is another's")
	}
	for n := range 3 {
		now = now.Add(paceEvery)
		if !p.take("a", now) || p.take("a", now) {
			t.Errorf("after %d pauses: not just one write", n+1)
		}
	}
	if !p.take("a", now.Add(-365*24*time.Hour)) {
		t.Error("a clock that was set back shuts a node out")
	}
	now = now.Add(paceBurst * paceEvery)
	for n := range 3 * paceSweep {
		p.take(fmt.Sprint(n), now.Add(time.Duration(n)*paceEvery))
	}
	if len(p.free) > paceSweep {
		t.Errorf("%d nodes are remembered", len(p.free))
	}
}

// TestAMemberCannotFillTheStore: by its own authority a node writes no faster than
// people do; with an access key, and on a voter, it may.
func TestAMemberCannotFillTheStore(t *testing.T) {
	b := newBed(t)
	ask := func(from peer.Caller) *peer.ForwardResponse {
		t.Helper()
		out, err := b.leader.ServeForwarded(t.Context(), from, &peer.ForwardRequest{
			Method: http.MethodPost, Path: "/", Local: true, Header: map[string][]string{targetHeader: {"AmazonSSM.SendCommand"}},
			Body: []byte(`{"DocumentName":"AWS-RunShellScript","InstanceIds":["` + from.NodeID + `"],"Parameters":{"commands":["true"]}}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for range paceBurst {
		b.leader.paces.take(memberID, b.clock.now())
	}
	if out := ask(peer.Caller{NodeID: memberID}); !strings.Contains(string(out.Body), "ThrottlingException") {
		t.Errorf("HTTP %d %s", out.Status, out.Body)
	}
	if out := ask(peer.Caller{NodeID: leaderID, Voter: true}); out.Status != http.StatusOK {
		t.Errorf("a voter's root: HTTP %d %s", out.Status, out.Body)
	}
	if _, err := b.mesh(b.memberURL).CreateActivation(t.Context(), &meshapi.CreateActivationInput{}); err != nil {
		t.Errorf("an access key through the same node: %v", err)
	}
	n := b.node(memberID)
	_, err := b.leader.Renew(t.Context(), peer.Caller{NodeID: memberID, PublicKey: n.PublicKey}, &peer.RenewRequest{Facts: facts("127.0.0.2", "x")})
	if refused := (*peer.Refusal)(nil); !errors.As(err, &refused) || refused.Kind != peer.RefusedUnavailable {
		t.Errorf("renewing without end: %v", err)
	}
	b.clock.move(2 * paceEvery)
	if out := ask(peer.Caller{NodeID: memberID}); out.Status != http.StatusOK {
		t.Errorf("after a pause: HTTP %d %s", out.Status, out.Body)
	}
}
