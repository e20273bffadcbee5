package leader

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"fleetmesh/raftstore"
)

// loneStream is Raft's network for a voter that is alone.
type loneStream struct {
	closed chan struct{}
	once   sync.Once
}

func (s *loneStream) Accept() (net.Conn, error) { <-s.closed; return nil, net.ErrClosed }
func (s *loneStream) Close() error              { s.once.Do(func() { close(s.closed) }); return nil }
func (s *loneStream) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (s *loneStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.New("alone")
}

type openGate struct{}

func (openGate) Update(raftstore.Roster) (bool, error) { return true, nil }

// TestAStepNeverBringsARemovedNodeBack: a step that was planned before a removal
// is executed after it.
func TestAStepNeverBringsARemovedNodeBack(t *testing.T) {
	t.Parallel()
	store, err := raftstore.Open(raftstore.Config{
		Dir: t.TempDir(), NodeID: "a", Address: "127.0.0.1:1", Stream: &loneStream{closed: make(chan struct{})}, Log: slog.New(slog.DiscardHandler),
		HeartbeatTimeout: 50 * time.Millisecond, ElectionTimeout: 50 * time.Millisecond, LeaderLeaseTimeout: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var first raftstore.Txn
	first.PutRoster(raftstore.Roster{
		Version: 1, MeshID: "m", Members: []raftstore.RosterMember{{NodeID: "a", PublicKey: "ka"}},
		Removed: []raftstore.RemovedKey{{NodeID: "b", PublicKey: "kb"}},
	})
	if err := store.Bootstrap(first); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); store.ConfirmedView(t.Context(), func(raftstore.Reader) error { return nil }) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the store does not lead")
		}
	}
	v := &voterLoop{cfg: Config{Store: store, Gate: openGate{}, Now: time.Now}}
	for _, key := range []string{"kb", "kc"} {
		err := v.updateRoster(t.Context(), step{stepPrepare, "x", ""}, func(r *raftstore.Roster) {
			r.Members = append(r.Members, raftstore.RosterMember{NodeID: "x", PublicKey: key})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	roster, err := v.roster()
	if err != nil || len(roster.Members) != 2 || roster.Members[1].PublicKey != "kc" || roster.Version != 2 {
		t.Errorf("roster %+v, %v", roster, err)
	}
}
