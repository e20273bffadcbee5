package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fleetmesh/raftstore"
)

// sweeper deletes what is older than its time: answers to writes, audit entries,
// ended commands, patch snapshots, executions of maintenance windows.
type sweeper struct {
	store    Records
	settings Settings
	now      func() time.Time
	// kept are the ended commands that it has looked at, by id. They never change
	// but for a late report's detail, so one look is enough.
	kept map[string]keptCommand
	// windowsSwept is when the executions of windows were looked through last.
	windowsSwept time.Time
	// offersSwept is when the catalogue of patches was looked through last.
	offersSwept time.Time
}

// sweep works until ctx ends or something goes wrong.
func sweep(ctx context.Context, cfg Config) error {
	s := &sweeper{store: cfg.Store, settings: cfg.Settings, now: cfg.Now, kept: map[string]keptCommand{}}
	tick := time.NewTicker(cfg.Settings.SweepEvery)
	defer tick.Stop()
	for {
		if err := s.once(ctx); err != nil {
			if ctx.Err() != nil || over(err) {
				return err
			}
			cfg.Log.Warn("what is old cannot be deleted now", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// once deletes all that is old at this moment, in bounded transactions.
func (s *sweeper) once(ctx context.Context) error {
	now := s.now()
	if err := s.drain(ctx, "old answers", func(r raftstore.Reader) (raftstore.Txn, error) {
		return raftstore.SweepAnswers(r, now), nil
	}); err != nil {
		return err
	}
	if err := s.drain(ctx, "old audit entries", func(r raftstore.Reader) (raftstore.Txn, error) {
		return raftstore.SweepAudit(r, now.Add(-s.settings.AuditRetention)), nil
	}); err != nil {
		return err
	}
	if err := s.patches(ctx, now); err != nil {
		return err
	}
	if err := s.windows(ctx, now); err != nil {
		return err
	}
	commands, err := s.commands(ctx)
	if err != nil {
		return err
	}
	for _, id := range outdated(commands, now, s.settings.CommandRetention, s.settings.CommandSpace) {
		if err := s.apply(ctx, "an old command", func(r raftstore.Reader) (raftstore.Txn, error) {
			return raftstore.BeginCommandSweep(r, id)
		}); err != nil {
			return err
		}
		delete(s.kept, id)
	}
	// Also what an earlier leader has left.
	return s.drain(ctx, "old invocations", raftstore.SweepCommands)
}

// drain commits transactions until an empty one comes.
func (s *sweeper) drain(ctx context.Context, what string, next func(raftstore.Reader) (raftstore.Txn, error)) error {
	for {
		more := false
		err := s.apply(ctx, what, func(r raftstore.Reader) (raftstore.Txn, error) {
			txn, err := next(r)
			more = len(txn.Ops) > 0
			return txn, err
		})
		if err != nil || !more {
			return err
		}
	}
}

// apply commits what there is to delete. Whoever was quicker, the next round sees
// it.
func (s *sweeper) apply(ctx context.Context, what string, plan func(raftstore.Reader) (raftstore.Txn, error)) error {
	var txn raftstore.Txn
	err := s.store.View(func(r raftstore.Reader) error {
		var err error
		txn, err = plan(r)
		return err
	})
	if err != nil || len(txn.Ops) == 0 {
		return err
	}
	if _, err = s.store.Apply(ctx, txn); err != nil && !errors.Is(err, raftstore.ErrConflict) {
		return fmt.Errorf("delete %s: %w", what, err)
	}
	return nil
}

// commands are the ended commands, oldest first. Each is looked at once, in a view
// of its own: its outputs may be many, and a long view holds up the store.
func (s *sweeper) commands(ctx context.Context) ([]keptCommand, error) {
	var ids []string
	err := s.store.View(func(r raftstore.Reader) error {
		raftstore.ScanCommands(r, "", func(_, id string) bool {
			ids = append(ids, id)
			return true
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(ids)
	var commands []keptCommand
	for _, id := range ids {
		c, known := s.kept[id]
		if !known {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			ended := false
			if err := s.store.View(func(r raftstore.Reader) (err error) {
				c, ended, err = lookAtCommand(r, id)
				return err
			}); err != nil {
				return nil, err
			}
			if !ended {
				continue
			}
			s.kept[id] = c
		}
		commands = append(commands, c)
	}
	return commands, nil
}

func lookAtCommand(r raftstore.Reader, id string) (c keptCommand, ended bool, err error) {
	state, err := raftstore.GetCommandState(r, id)
	if errors.Is(err, raftstore.ErrNotFound) || err == nil && state.FinishedAt.IsZero() {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	command, err := raftstore.GetCommand(r, id)
	if err != nil {
		return c, false, err
	}
	return keptCommand{id: id, finishedAt: state.FinishedAt, expiresAt: command.ExpiresAt, size: raftstore.CommandSize(r, id)}, true, nil
}
