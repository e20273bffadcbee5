package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

// associations runs what associations ask for, while this node leads. It has no
// goroutine: keepAssociations tells it what may have changed and lets it work (once).
type associations struct {
	store   Records
	alive   func(nodeID string) bool
	compose func(r raftstore.Reader, in *ssm.SendCommandInput, id, caller string, now time.Time) (raftstore.Command, raftstore.CommandState, string, error)
	// started is Config.Started; nil: nobody says.
	started func(nodeID string) uint64
	now     func() time.Time
	log     *slog.Logger
	// retention is how long executions without a command stay, sweepEvery how often what
	// is old is looked for.
	retention, sweepEvery time.Duration

	// plans are the associations, read.
	plans map[string]*associationPlan
	// unreadable are those that this program cannot read, by modify index.
	unreadable map[string]uint64
	// seen are the modify indexes of the states of commands whose outcomes were taken.
	seen map[string]uint64
	// startsSeen are the starts of nodes that were looked at; nil: read them.
	startsSeen map[string]uint64
	// nodesChanged and documentsChanged: look at them in the next round.
	nodesChanged, documentsChanged bool
	swept                          time.Time
}

func newAssociations(cfg Config) *associations {
	return &associations{
		store: cfg.Store, alive: cfg.Members.Alive, started: cfg.Started, compose: cfg.Compose, now: cfg.Now, log: cfg.Log,
		retention: cfg.Settings.CommandRetention, sweepEvery: cfg.Settings.SweepEvery,
		plans: map[string]*associationPlan{}, unreadable: map[string]uint64{}, seen: map[string]uint64{},
		nodesChanged: true, documentsChanged: true,
	}
}

// Times of keepAssociations.
const (
	// associationGather is how long changes wait for others to share a round.
	associationGather = 50 * time.Millisecond
	// associationRetry is the wait for what others are about to write.
	associationRetry = 250 * time.Millisecond
)

// keepAssociations works until ctx ends or something goes wrong.
func keepAssociations(ctx context.Context, cfg Config) error {
	if cfg.Compose == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	records := cfg.Store.Watch(raftstore.AssociationPrefix, raftstore.AssociationDuePrefix, raftstore.AssociationOwedPrefix, raftstore.CommandStatePrefix)
	defer records.Stop()
	nodes := cfg.Store.Watch(raftstore.NodePrefix)
	defer nodes.Stop()
	documents := cfg.Store.Watch(raftstore.DocumentPrefix)
	defer documents.Stop()
	members, unsubscribe := cfg.Members.Subscribe()
	defer unsubscribe()
	a := newAssociations(cfg)
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		next, err := a.once(ctx)
		if err != nil {
			return err
		}
		wait := idlePause
		if !next.IsZero() {
			wait = min(max(next.Sub(cfg.Now()), associationGather), idlePause)
		}
		wake.Reset(wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-wake.C:
		case <-records.C:
		case <-nodes.C:
			a.nodesChanged = true
		case <-documents.C:
			a.documentsChanged = true
		case <-members:
		}
		pause(ctx, associationGather)
	}
}

// once does all that there is to do at this moment. next is when there is more, by
// time alone; zero for never.
func (a *associations) once(ctx context.Context) (next time.Time, err error) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, step := range []func(context.Context) (time.Time, error){a.refresh, a.outcomes, a.documents, a.due, a.starts, a.targets, a.owed, a.sweep} {
		again, err := step(ctx)
		if errors.Is(err, raftstore.ErrConflict) {
			again, err = a.now(), nil // somebody wrote at the same time; look again
		}
		if err != nil {
			return time.Time{}, err
		}
		sooner(again)
	}
	return next, nil
}

// refresh reads the associations that have changed.
func (a *associations) refresh(context.Context) (time.Time, error) {
	return time.Time{}, a.store.View(func(r raftstore.Reader) error {
		there := map[string]bool{}
		var stale []string
		raftstore.ScanAssociationIndexes(r, func(id string, index uint64) bool {
			there[id] = true
			if p := a.plans[id]; (p == nil || p.record.ModifyIndex != index) && a.unreadable[id] != index {
				stale = append(stale, id)
			}
			return true
		})
		for id := range a.plans {
			if !there[id] {
				delete(a.plans, id)
			}
		}
		for _, id := range stale {
			record, err := raftstore.GetAssociation(r, id)
			var p *associationPlan
			if err == nil {
				p, err = planAssociation(record)
			}
			if err != nil {
				a.log.Error("an association cannot be read and is left alone", "association", id, "error", err)
				a.unreadable[id] = record.ModifyIndex
				delete(a.plans, id)
				continue
			}
			a.plans[id] = p
		}
		return nil
	})
}

// apply commits t, if there is anything in it.
func (a *associations) apply(ctx context.Context, t raftstore.Txn) error {
	if len(t.Ops) == 0 {
		return nil
	}
	_, err := a.store.Apply(ctx, t)
	return err
}

// maxDue is how many things of the due index are decided on one moment of the store.
const maxDue = 100

// due takes up what is due.
func (a *associations) due(ctx context.Context) (time.Time, error) {
	for {
		var ready []raftstore.AssociationDue
		var next time.Time
		now := a.now()
		err := a.store.View(func(r raftstore.Reader) error {
			return raftstore.ScanAssociationsDue(r, func(d raftstore.AssociationDue) bool {
				if d.At.After(now) {
					next = d.At
					return false
				}
				ready = append(ready, d)
				return len(ready) < maxDue
			})
		})
		if err != nil || len(ready) == 0 {
			return next, err
		}
		left := false
		for _, d := range ready {
			done, err := a.takeUp(ctx, d)
			if errors.Is(err, raftstore.ErrConflict) {
				return now, nil
			}
			if err != nil {
				return next, err
			}
			left = left || !done
		}
		if left {
			return now.Add(associationRetry), nil
		}
	}
}

// takeUp does what is due. done is false when it must be looked at again.
func (a *associations) takeUp(ctx context.Context, d raftstore.AssociationDue) (done bool, err error) {
	if strings.HasPrefix(d.Cause, raftstore.AssociationTargets) {
		return a.dropStrangers(ctx, d)
	}
	var txn raftstore.Txn
	done = true
	err = a.store.View(func(r raftstore.Reader) error {
		var err error
		txn, done, err = a.claim(r, d)
		return err
	})
	if err != nil {
		return false, err
	}
	return done, a.apply(ctx, txn)
}

// documents looks for associations whose document has another version now.
func (a *associations) documents(ctx context.Context) (time.Time, error) {
	if !a.documentsChanged {
		return time.Time{}, nil
	}
	var txn raftstore.Txn
	err := a.store.View(func(r raftstore.Reader) error {
		for id, p := range a.plans {
			d, found, err := newDocument(r, p, a.now())
			if err != nil {
				return fmt.Errorf("look at the document of association %s: %w", id, err)
			}
			if found {
				txn.PutAssociationDue(d)
			}
		}
		return nil
	})
	if err == nil {
		err = a.apply(ctx, txn)
	}
	if err == nil {
		a.documentsChanged = false
	}
	return time.Time{}, err
}

// sweep deletes what is old or has lost its node or association.
func (a *associations) sweep(ctx context.Context) (time.Time, error) {
	now := a.now()
	if due := a.swept.Add(a.sweepEvery); now.Before(due) && !now.Before(a.swept) {
		return due, nil
	}
	a.swept = now
	var deleted, removed []string
	if err := a.store.View(func(r raftstore.Reader) error {
		deleted = raftstore.DeletedAssociations(r)
		for _, id := range raftstore.NodesOfAssociations(r) {
			_, err := raftstore.GetNode(r, id)
			if errors.Is(err, raftstore.ErrNotFound) {
				removed = append(removed, id)
			} else if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return now, err
	}
	for _, id := range deleted {
		if err := a.forget(ctx, func(r raftstore.Reader, fn func(raftstore.AssociationTarget) bool) error {
			return raftstore.ScanAssociationTargets(r, id, "", fn)
		}); err != nil {
			return now, err
		}
	}
	for _, id := range removed {
		if err := a.forget(ctx, func(r raftstore.Reader, fn func(raftstore.AssociationTarget) bool) error {
			return scanNodeTargets(r, id, fn)
		}); err != nil {
			return now, err
		}
	}
	for _, plan := range []func(r raftstore.Reader) (raftstore.Txn, error){
		strayStarts,
		func(r raftstore.Reader) (raftstore.Txn, error) { return raftstore.SweepAssociations(r), nil },
		func(r raftstore.Reader) (raftstore.Txn, error) {
			return raftstore.SweepEmptyAssociationExecutions(r, now.Add(-a.retention))
		},
	} {
		for {
			var txn raftstore.Txn
			if err := a.store.View(func(r raftstore.Reader) (err error) { txn, err = plan(r); return err }); err != nil {
				return now, err
			}
			if len(txn.Ops) == 0 {
				break
			}
			if err := a.apply(ctx, txn); err != nil {
				return now, err
			}
		}
	}
	return now.Add(a.sweepEvery), nil
}
