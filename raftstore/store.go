package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"fleetmesh/internal/durable"
)

// Store is one server's replica. Its methods may be called from any goroutine.
//
// It owns these goroutines, all ended by Close: Raft's own and its transport's;
// one that follows the leadership; one for each call that waits for Raft; one for
// a round of confirmations; one for each state file that was replaced and still
// has readers.
type Store struct {
	cfg       Config
	logs      *logStore
	state     atomic.Pointer[bbolt.DB]
	snapshots *snapshotStore
	stream    *ownedStream
	transport *raft.NetworkTransport
	raft      *raft.Raft

	watches    watches
	leadership *leadership
	confirmer  confirmer
	answers    answers

	calls    calls
	fatal    sync.Once
	stopRun  context.CancelFunc
	running  sync.WaitGroup // the goroutine of leadership
	retiring sync.WaitGroup // replaced state files
	closed   chan struct{}
	closeErr error // to be read after closed

	// stateInUse is set once the log says so; failed once the node has to stop.
	stateInUse bool
	failed     atomic.Bool
}

// Open opens the store in cfg.Dir, or makes an empty one: a server that waits to
// be added by a leader, or for [Store.Bootstrap]. It refuses a directory that
// another process has open, that is damaged, or that belongs to another node or
// mesh.
func Open(cfg Config) (_ *Store, err error) {
	// From here on the stream is ours to close.
	stream := cfg.Stream
	defer func() {
		if err != nil && stream != nil {
			stream.Close()
		}
	}()
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, closed: make(chan struct{})}
	if err := durable.MakeDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("make the store's directory: %w", err)
	}
	if s.logs, err = openLog(cfg, s.stop); err != nil {
		return nil, err
	}
	if err := s.openFiles(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	if err := s.startRaft(); err != nil {
		s.logs.release()
		s.stream.closeConnections()
		return nil, errors.Join(err, s.transport.Close(), s.closeFiles())
	}
	s.leadership = newLeadership(s.raft, cfg.Log)
	s.confirmer.ask = s.confirmLeadership
	s.confirmer.start = s.calls.run
	ctx, stop := context.WithCancel(context.Background())
	s.stopRun = stop
	s.running.Go(func() { s.leadership.run(ctx) })
	return s, nil
}

// openFiles opens the state and brings it up to the newest snapshot. raft.db is
// open, and with it the directory is ours.
func (s *Store) openFiles() error {
	if err := removeLeftovers(s.cfg); err != nil {
		return err
	}
	var err error
	if s.snapshots, err = openSnapshots(s.cfg); err != nil {
		return fmt.Errorf("open the snapshots: %w", err)
	}
	reach, err := s.checkHistory()
	if err != nil {
		return err
	}
	db, err := recoverState(s.cfg, s.logs, s.snapshots, reach)
	s.state.Store(db)
	if err != nil {
		return err
	}
	if err := s.logs.markState(stateInUse); err != nil {
		return err
	}
	s.stateInUse = true
	// From here on this server votes and acknowledges: not into files whose names
	// a power cut may take.
	if err := errors.Join(durable.SyncDir(s.cfg.Dir), durable.SyncDir(filepath.Dir(s.cfg.Dir))); err != nil {
		return fmt.Errorf("make the store's files durable: %w", err)
	}
	return nil
}

// removeLeftovers deletes what a crash has left half done.
func removeLeftovers(cfg Config) error {
	if err := os.Remove(cfg.restorePath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("delete an unfinished restore: %w", err)
	}
	entries, err := os.ReadDir(cfg.snapshotPath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("list the snapshots: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".tmp") {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cfg.snapshotPath(), entry.Name())); err != nil {
			return fmt.Errorf("delete an unfinished snapshot: %w", err)
		}
	}
	return nil
}

// checkHistory refuses a log that does not join on to the newest snapshot, and one
// that is new although there are snapshots: raft.db was lost, and with it this
// server's votes. It returns how far the two reach.
func (s *Store) checkHistory() (reach uint64, err error) {
	list, err := s.snapshots.List()
	if err != nil {
		return 0, fmt.Errorf("list the snapshots: %w", err)
	}
	var snapshot uint64
	if len(list) > 0 {
		snapshot = list[0].Index
	}
	if err := s.logs.checkEntries(snapshot); err != nil {
		return 0, fmt.Errorf("open %s: %w", s.cfg.logPath(), err)
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	if s.logs.made && snapshot > 0 {
		return 0, fmt.Errorf("%s is gone and there are snapshots in %s: %s", s.cfg.logPath(), s.cfg.snapshotPath(), rejoin)
	}
	return max(last, snapshot), nil
}

func (s *Store) startRaft() error {
	log := newRaftLogger(s.cfg.Log)
	s.stream = newOwnedStream(s.cfg)
	s.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s.stream, MaxPool: transportPool, Timeout: transportTimeout, Logger: log, MsgpackUseNewTimeFormat: true,
	})
	machine := &fsm{
		cfg: s.cfg, state: &s.state, watches: &s.watches, stop: s.stop,
		retire: func(db *bbolt.DB) { s.retiring.Go(func() { s.closeRetired(db) }) },
	}
	var err error
	s.raft, err = raft.NewRaft(raftConfig(s.cfg), machine, &recentLog{LogStore: s.logs}, s.logs, s.snapshots, &heartbeats{NetworkTransport: s.transport, answers: &s.answers})
	if err != nil {
		return fmt.Errorf("start Raft: %w", err)
	}
	return nil
}

// closeRetired waits for the readers of a replaced state file.
func (s *Store) closeRetired(db *bbolt.DB) {
	if err := db.Close(); err != nil {
		s.cfg.Log.Warn("close the replaced state", "error", err)
	}
}

// stop ends the node, see Config.Fatal.
func (s *Store) stop(err error) {
	s.failed.Store(true)
	s.fatal.Do(func() { go s.cfg.Fatal(err) })
}

// Close ends the store and waits until everything of it has ended. Entries that
// were acknowledged are on disk; calls that wait get their answer, ErrClosed or
// ErrUnknownOutcome. It hands no leadership over, see TransferLeadership. Closing
// again waits for the first.
func (s *Store) Close() error {
	if !s.calls.close() {
		<-s.closed
		return s.closeErr
	}
	// The order matters. First whoever asks Raft gets an answer, since Raft leaves
	// questions unanswered when it is shut down; a Raft that waits for a failed
	// disk is let go for that. Then Raft is told to end, then its connections are
	// closed, since it waits for answers that may never come. The files are last:
	// Raft writes until it has ended.
	s.logs.release()
	s.stopRun()
	s.running.Wait()
	s.calls.waiting.Wait()
	ended := s.raft.Shutdown()
	err := s.transport.Close()
	s.stream.closeConnections()
	err = errors.Join(err, ended.Error())
	s.stream.handlers.Wait()
	s.closeErr = errors.Join(err, s.closeFiles())
	close(s.closed)
	return s.closeErr
}

func (s *Store) closeFiles() error {
	var errs []error
	if db := s.state.Load(); db != nil {
		if s.stateInUse && !s.failed.Load() {
			errs = append(errs, s.settleState(db))
		}
		errs = append(errs, db.Close()) // waits for views
	}
	s.retiring.Wait()
	return errors.Join(append(errs, s.logs.close())...)
}

// settleState makes the state durable, so that the next Open need not make it
// again.
func (s *Store) settleState(db *bbolt.DB) error {
	err := errors.Join(db.Sync(), durable.SyncDir(s.cfg.Dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil // somebody has deleted the directory: there is no next time
	}
	if err != nil {
		return fmt.Errorf("sync the state: %w", err)
	}
	return s.logs.markState(stateClosed)
}

// bootstrapTimeout bounds Bootstrap: an election among one, and one write.
const bootstrapTimeout = 30 * time.Second

// Bootstrap makes this server the only voter of a new mesh and writes the first
// records. A store that holds records or knows other servers is refused. It is
// done when first is: after a crash in between, call it again.
func (s *Store) Bootstrap(first Txn) error {
	ctx, cancel := context.WithTimeout(context.Background(), bootstrapTimeout)
	defer cancel()
	servers := s.raft.GetConfiguration().Configuration().Servers
	self := raft.Server{ID: raft.ServerID(s.cfg.NodeID), Address: raft.ServerAddress(s.cfg.Address), Suffrage: raft.Voter}
	switch {
	case len(servers) > 1 || len(servers) == 1 && servers[0] != self:
		return errors.New("bootstrap: this store belongs to a mesh already")
	case len(servers) == 0:
		err := s.await(ctx, func() error {
			return s.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{self}}).Error()
		})
		if err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	if s.leadership.wait(ctx) == nil {
		return errors.New("bootstrap: this node did not become leader")
	}
	empty := true
	if err := s.ConfirmedView(ctx, func(r Reader) error {
		r.Scan("", "", func(string, []byte, uint64) bool { empty = false; return false })
		return nil
	}); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if !empty {
		return errors.New("bootstrap: this store holds a mesh already")
	}
	if _, err := s.Apply(ctx, first); err != nil {
		return fmt.Errorf("bootstrap: write the first records: %w", err)
	}
	return nil
}

// View calls fn with one moment of this replica, which may be behind the leader's.
// fn must be short and must not wait for a write: a state file that has to grow
// waits for its readers. It returns fn's error, or ErrClosed.
func (s *Store) View(fn func(Reader) error) error {
	return s.read(func(tx *bbolt.Tx) error { return fn(newView(tx)) })
}

// read runs fn in a read transaction of the present state file.
func (s *Store) read(fn func(*bbolt.Tx) error) error {
	for {
		db := s.state.Load()
		tx, err := db.Begin(false)
		if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
			if s.state.Load() != db {
				continue // a snapshot has just replaced it
			}
			return ErrClosed
		}
		if err != nil {
			return fmt.Errorf("read the state: %w", err)
		}
		defer tx.Rollback()
		return fn(tx)
	}
}

// Leader returns the leader as far as this server knows, empty when it knows none.
func (s *Store) Leader() (id, address string) {
	a, i := s.raft.LeaderWithID()
	return string(i), string(a)
}

// IsLeader reports whether this server believes to lead; only
// [Store.ConfirmedView] and [Store.Apply] prove it.
func (s *Store) IsLeader() bool { return s.raft.State() == raft.Leader }

// Term is the highest term that this server has seen.
func (s *Store) Term() uint64 { return s.raft.CurrentTerm() }

// AppliedIndex is how far this server has given entries to its state, Raft's own
// entries included; [Reader.Index] is what a view shows.
func (s *Store) AppliedIndex() uint64 { return s.raft.AppliedIndex() }

// LastIndex is the last index in this server's log.
func (s *Store) LastIndex() uint64 { return s.raft.LastIndex() }

// Snapshot makes a snapshot now and cuts the log. It is no error when nothing is
// new since the last one.
func (s *Store) Snapshot() error {
	for {
		err := s.await(context.Background(), func() error { return s.raft.Snapshot().Error() })
		switch {
		case err == nil, errors.Is(err, raft.ErrNothingNewToSnapshot):
			return nil
		case strings.Contains(err.Error(), "wait until the configuration entry"):
			// A change of servers is committed and not yet applied; Raft has no other
			// word for that.
			time.Sleep(enqueueSlice)
		default:
			return fmt.Errorf("make a snapshot: %w", err)
		}
	}
}
