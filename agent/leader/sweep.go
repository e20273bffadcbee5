package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fleetmesh/raftstore"
)

// sweep deletes kept answers and signatures whose time is over. It works
// until ctx ends or something goes wrong.
func sweep(ctx context.Context, cfg Config) error {
	tick := time.NewTicker(cfg.Settings.SweepEvery)
	defer tick.Stop()
	for {
		more, err := sweepOnce(ctx, cfg)
		if err != nil && (ctx.Err() != nil || over(err)) {
			return err
		}
		if err != nil {
			cfg.Log.Warn("old answers cannot be deleted now", "error", err)
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// sweepOnce deletes one bounded lot; more tells that there was one.
func sweepOnce(ctx context.Context, cfg Config) (more bool, err error) {
	var txn raftstore.Txn
	err = cfg.Store.View(func(r raftstore.Reader) error {
		txn = raftstore.SweepAnswers(r, cfg.Now())
		return nil
	})
	if err != nil || len(txn.Ops) == 0 {
		return false, err
	}
	if _, err = cfg.Store.Apply(ctx, txn); errors.Is(err, raftstore.ErrConflict) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete old answers: %w", err)
	}
	return true, nil
}
