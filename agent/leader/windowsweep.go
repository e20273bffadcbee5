package leader

import (
	"context"
	"time"

	"fleetmesh/raftstore"
)

// windowsSweepEvery: executions stay for days, and reading them all need not be often.
const windowsSweepEvery = time.Hour

// windows deletes executions of maintenance windows that ended longer ago than
// commands are kept. Without it an opening takes up nothing: its commands are gone too.
func (s *sweeper) windows(ctx context.Context, now time.Time) error {
	if now.Sub(s.windowsSwept) < windowsSweepEvery {
		return nil
	}
	var old []string
	err := s.store.View(func(r raftstore.Reader) error {
		return raftstore.ScanEndedWindowExecutions(r, func(x raftstore.WindowExecution) bool {
			if now.Sub(x.EndedAt) >= s.settings.CommandRetention {
				old = append(old, x.ID)
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	for _, id := range old {
		if err := s.drain(ctx, "an old execution of a maintenance window", func(r raftstore.Reader) (raftstore.Txn, error) {
			return raftstore.SweepWindowExecution(r, id)
		}); err != nil {
			return err
		}
	}
	s.windowsSwept = now
	return nil
}
