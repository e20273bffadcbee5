package leader

import (
	"context"
	"errors"
	"sync"
	"time"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/clock"
	"fleetmesh/raftstore"
)

const (
	// clockFirst bounds the first look at the voters' clocks, before anything of a
	// term is decided. Longer delays the work of a leader whose fellow is silent.
	clockFirst = time.Second
	// clockEvery is how often the voters are asked for their clocks and stores.
	clockEvery = 5 * time.Second
)

// errClockSet ends a leader's loops so that they begin anew, since the time has
// jumped under them.
var errClockSet = errors.New("the mesh's clock was set")

// fence is what goes with each call to a node.
func (c Config) fence(term, epoch uint64) peer.Fence {
	f := peer.Fence{Term: term, Epoch: epoch, Now: c.Now()}
	if c.Clock != nil {
		f.Sent = c.Clock.Steady()
	}
	return f
}

// beginClock makes this node tell the time: it goes on with the time that the
// leader before has told, unless a majority of the voters' clocks says another.
func (l *Leader) beginClock(ctx context.Context, term uint64, seen *inspection) {
	if l.cfg.Clock == nil {
		return
	}
	l.cfg.Clock.Lead(term)
	first, cancel := context.WithTimeout(ctx, clockFirst)
	defer cancel()
	l.inspect(first, term, seen)
	if by, jumps := l.wrongBy(); jumps {
		l.setClock(by)
	} else {
		// The word of this node, from now on: what its machine is set to later counts
		// only when others agree.
		l.cfg.Clock.Set(l.cfg.Clock.Now())
	}
}

// keepClock looks at the voters until ctx ends or the mesh's time must be set.
func (l *Leader) keepClock(ctx context.Context, term uint64, seen *inspection) error {
	for {
		pause(ctx, clockEvery)
		bounded, cancel := context.WithTimeout(ctx, l.cfg.Settings.CallTimeout)
		l.inspect(bounded, term, seen)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.cfg.Clock == nil {
			continue
		}
		if by, jumps := l.wrongBy(); jumps {
			l.setClock(by)
			return errClockSet
		}
	}
}

func (l *Leader) setClock(by time.Duration) {
	now := l.cfg.Clock.Now().Add(by)
	l.cfg.Log.Warn("the mesh's clock is set, as most voters' clocks say", "by", by.Round(time.Millisecond), "now", now, "own clock", l.cfg.Clock.Own().UTC())
	l.cfg.Clock.Set(now)
}

// inspect asks the other voters and the stand-bys about their stores. Each answer
// also tells what the node's clock says.
func (l *Leader) inspect(ctx context.Context, term uint64, seen *inspection) {
	servers, _, err := l.cfg.Store.Servers()
	if err != nil {
		return // the store is closing
	}
	var epoch uint64
	err = l.cfg.Store.View(func(r raftstore.Reader) error {
		mesh, err := raftstore.GetMesh(r)
		epoch = mesh.Epoch
		return err
	})
	if err != nil {
		return
	}
	var calls sync.WaitGroup
	for _, s := range servers {
		if s.ID == l.cfg.NodeID {
			continue
		}
		calls.Go(func() {
			out, err := l.cfg.Peers.RaftState(ctx, peer.Target{NodeID: s.ID, Address: s.Address}, &peer.RaftStateRequest{Fence: l.cfg.fence(term, epoch)})
			if err != nil {
				l.cfg.Log.Debug("a voter cannot be asked about its store", "node", s.ID, "error", err)
				return
			}
			seen.note(s.ID, out, l.cfg.Now())
		})
	}
	calls.Wait()
}

// wrongBy is how far the mesh's time is behind what most voters' clocks say; jumps
// is false when it is right, or when nobody can say.
func (l *Leader) wrongBy() (by time.Duration, jumps bool) {
	servers, _, err := l.cfg.Store.Servers()
	if err != nil {
		return 0, false
	}
	others := l.cfg.Clock.Ahead()
	ahead := []time.Duration{0}
	voters := 0
	for _, s := range servers {
		if !s.Voter {
			continue
		}
		voters++
		if by, known := others[s.ID]; known && s.ID != l.cfg.NodeID {
			ahead = append(ahead, by)
		}
	}
	agreed, ok := clock.Agreed(ahead, voters)
	if !ok {
		return 0, false
	}
	by = l.cfg.Clock.Own().Add(agreed).Sub(l.cfg.Clock.Now())
	return by, by.Abs() > clock.Tolerance
}
