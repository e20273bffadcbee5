package leader

import (
	"context"
	"time"

	"fleetmesh/raftstore"
)

// patches deletes snapshots whose time is over, offers that nobody has made for long,
// and what removed nodes have told.
func (s *sweeper) patches(ctx context.Context, now time.Time) error {
	if err := s.drain(ctx, "old patch snapshots", func(r raftstore.Reader) (raftstore.Txn, error) {
		return raftstore.SweepPatchSnapshots(r, now), nil
	}); err != nil {
		return err
	}
	if err := s.drain(ctx, "what removed nodes told", func(r raftstore.Reader) (raftstore.Txn, error) {
		return raftstore.SweepRemovedNodes(r), nil
	}); err != nil {
		return err
	}
	if now.Sub(s.offersSwept) < offersSweepEvery {
		return nil
	}
	for next, begun := "", false; !begun || next != ""; begun = true {
		start := next
		if err := s.apply(ctx, "old offers of patches", func(r raftstore.Reader) (t raftstore.Txn, err error) {
			t, next, err = raftstore.SweepPatchOffers(r, now.Add(-raftstore.OfferRetention), start)
			return t, err
		}); err != nil {
			return err
		}
	}
	s.offersSwept = now
	return nil
}

// offersSweepEvery: offers are kept for more than a year, and reading them all for
// the few that are too old need not be often.
const offersSweepEvery = 24 * time.Hour
