package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// Server is a node that holds the store.
type Server struct {
	ID string
	// Address is host:port under which Raft reaches it.
	Address string
	// Voter is false for a stand-by, which follows without a vote.
	Voter bool
}

// Servers returns the servers as of the last change that was committed and
// reached this node, and the index of that change: what the methods below want
// as prevIndex. Both are zero on a node that nobody has added yet.
func (s *Store) Servers() (servers []Server, index uint64, err error) {
	var stored storedServers
	err = s.read(func(tx *bbolt.Tx) (err error) {
		stored, err = readServers(tx)
		return err
	})
	return stored.Servers, stored.Index, err
}

// The changes below are asked of the leader. Each is made only if the servers are
// still those of prevIndex, else the answer is ErrConflict: read them, decide
// again. They return when the change is committed. Errors are those of
// [Store.Apply]. A new voter counts towards the majority at once, so it is first
// added as non-voter and promoted when it has caught up.

// AddNonvoter adds a server without a vote, or gives one that is there another
// address.
func (s *Store) AddNonvoter(ctx context.Context, id, address string, prevIndex uint64) error {
	return s.changeServers(ctx, "add "+id, prevIndex, func(slice time.Duration) raft.IndexFuture {
		return s.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), prevIndex, slice)
	})
}

// AddVoter gives a server its vote, or a voter another address.
func (s *Store) AddVoter(ctx context.Context, id, address string, prevIndex uint64) error {
	return s.changeServers(ctx, "promote "+id, prevIndex, func(slice time.Duration) raft.IndexFuture {
		return s.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), prevIndex, slice)
	})
}

// Demote takes a server's vote; it goes on following.
func (s *Store) Demote(ctx context.Context, id string, prevIndex uint64) error {
	return s.changeServers(ctx, "demote "+id, prevIndex, func(slice time.Duration) raft.IndexFuture {
		return s.raft.DemoteVoter(raft.ServerID(id), prevIndex, slice)
	})
}

// Remove takes a server out. It may not hear of that: its owner closes its store
// and deletes its directory.
func (s *Store) Remove(ctx context.Context, id string, prevIndex uint64) error {
	return s.changeServers(ctx, "remove "+id, prevIndex, func(slice time.Duration) raft.IndexFuture {
		return s.raft.RemoveServer(raft.ServerID(id), prevIndex, slice)
	})
}

// changeServers asks for a change until Raft has taken it or ctx has ended. Raft
// takes one at a time, and the first of a term only when the term has begun.
func (s *Store) changeServers(ctx context.Context, what string, prevIndex uint64, ask func(time.Duration) raft.IndexFuture) error {
	if prevIndex == 0 {
		return fmt.Errorf("%s: the index of the present servers is needed", what) // Raft would not check
	}
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		err := s.await(ctx, func() error { return ask(enqueueSlice).Error() })
		switch {
		case err == nil:
			return nil
		case errors.Is(err, raft.ErrEnqueueTimeout):
			continue
		case errors.Is(err, ErrClosed):
			return err
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return fmt.Errorf("%s: %w: %w", what, ErrUnknownOutcome, err)
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return ErrNotLeader
		case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
			return fmt.Errorf("%s: %w", what, ErrUnknownOutcome)
		}
		// Raft refused the change before it was in the log, because of prevIndex or
		// because it makes no sense, and has no value for either.
		if _, index, readErr := s.Servers(); readErr == nil && index != prevIndex {
			return ErrConflict
		}
		return fmt.Errorf("%s: %w", what, err)
	}
}

// TransferLeadership asks the voter that is furthest to take over, and waits until
// this node leads no more. ErrNotLeader when it does not lead; any other error
// means that it may go on leading.
func (s *Store) TransferLeadership(ctx context.Context) error {
	if reign, _, _ := s.leadership.current(); reign == nil {
		return ErrNotLeader
	}
	err := s.await(ctx, func() error { return s.raft.LeadershipTransfer().Error() })
	if errors.Is(err, raft.ErrNotLeader) {
		return ErrNotLeader
	}
	if err != nil {
		return fmt.Errorf("hand over the leadership: %w", err)
	}
	return nil
}
