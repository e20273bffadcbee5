package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// Config says where a store lives and how it keeps time. Zero timings and
// counts mean the defaults below.
type Config struct {
	// Dir holds raft.db, state.db and snapshots/; it is made (0700) when missing.
	// One process at a time may have it open.
	Dir string
	// NodeID is this server's Raft id, for all time. A directory that was made
	// for another id is refused.
	NodeID string
	// MeshID, when set, must be the id of the mesh that the store holds, once the
	// store knows it.
	MeshID string
	// Address is host:port under which the other servers reach Stream.
	Address string
	// Stream carries Raft's connections. The store owns it from Open on and closes
	// it, with every connection that came out of it.
	Stream raft.StreamLayer
	Log    *slog.Logger
	// Fatal is called at most once, in a goroutine of its own, when the node must
	// stop rather than guess: an entry that this version does not know, a disk
	// that takes no writes. From then on the store changes nothing more; what it
	// holds can still be read. Fatal may call Close. When nil, the error is logged
	// and the process exits with code 1.
	Fatal func(error)

	// HeartbeatTimeout is how long a follower hears nothing from the leader before
	// it asks for votes (checked at a random moment once to three times as long).
	// A leader sends a heartbeat every fifth to two fifths of it. Default 400 ms. Lower: a dead leader is replaced sooner. Higher: a machine
	// that is busy for that long does not cost an election.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes before it tries
	// again, at least HeartbeatTimeout. Default 400 ms. Lower: a split vote is
	// repeated sooner. Higher: slow answers still count.
	ElectionTimeout time.Duration
	// LeaderLeaseTimeout is how long a leader goes on without an answer from a
	// majority, at most HeartbeatTimeout. Default 400 ms. Lower: a leader that is
	// cut off refuses writes sooner. Higher: short stalls of the others do not cost
	// the leadership.
	LeaderLeaseTimeout time.Duration
	// CommitTimeout is how long a follower may lag behind the last commit when no
	// further entry tells it (up to twice as long, at random). Default 400 ms.
	// Lower: followers are fresher. Higher: less idle traffic and CPU.
	CommitTimeout time.Duration

	// SnapshotThreshold is how many entries are worth a snapshot, which is a copy
	// of the whole state. Default 8192. Lower: a shorter log on disk and a faster
	// start. Higher: fewer copies.
	SnapshotThreshold uint64
	// SnapshotInterval is how often that is checked (up to twice as long, at
	// random). Default 30 s. Lower: the log is cut sooner under a flood of writes.
	// Higher: fewer copies under such a flood.
	SnapshotInterval time.Duration
	// TrailingLogs is how many entries stay in the log behind a snapshot, so that
	// a follower that was away briefly is sent entries and not the whole state.
	// Default 8192, some megabytes of usual entries. Lower: a smaller log. Higher:
	// longer absences, and slower installs, without another full copy.
	TrailingLogs uint64
}

const (
	defaultHeartbeatTimeout   = 400 * time.Millisecond
	defaultElectionTimeout    = 400 * time.Millisecond
	defaultLeaderLeaseTimeout = 400 * time.Millisecond
	defaultCommitTimeout      = 400 * time.Millisecond
	defaultSnapshotThreshold  = 8192
	defaultSnapshotInterval   = 30 * time.Second
	defaultTrailingLogs       = 8192

	// lockTimeout is how long Open waits for another process to let go of the
	// directory: a daemon that was just told to end gets the time to do so.
	lockTimeout = 3 * time.Second
	// retainedSnapshots is how many snapshots stay on disk: the newest, and one
	// before it in case the newest turns out damaged.
	retainedSnapshots = 2
	// transportTimeout bounds one Raft RPC, and a dial. A server that vanished
	// without a word is given up after it; a slow disk must fit in.
	transportTimeout = 5 * time.Second
	// transportPool is how many idle connections are kept per server: heartbeats,
	// entries, and one to spare for votes.
	transportPool = 3
)

// withDefaults fills in what was left zero, and checks the rest.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, errors.New("the store needs a directory")
	case c.NodeID == "":
		return c, errors.New("the store needs a node id")
	case c.Address == "":
		return c, errors.New("the store needs an address")
	case c.Stream == nil:
		return c, errors.New("the store needs a stream layer")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fatal == nil {
		log := c.Log
		c.Fatal = func(err error) {
			log.Error("the store cannot go on", "error", err)
			os.Exit(1)
		}
	}
	setDefault(&c.HeartbeatTimeout, defaultHeartbeatTimeout)
	setDefault(&c.ElectionTimeout, max(defaultElectionTimeout, c.HeartbeatTimeout))
	setDefault(&c.LeaderLeaseTimeout, min(defaultLeaderLeaseTimeout, c.HeartbeatTimeout))
	setDefault(&c.CommitTimeout, defaultCommitTimeout)
	setDefault(&c.SnapshotThreshold, defaultSnapshotThreshold)
	setDefault(&c.SnapshotInterval, defaultSnapshotInterval)
	setDefault(&c.TrailingLogs, defaultTrailingLogs)
	if err := raft.ValidateConfig(raftConfig(c)); err != nil {
		return c, fmt.Errorf("check the timings: %w", err)
	}
	return c, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// raftConfig is Raft's own configuration made from ours.
func raftConfig(c Config) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.NodeID)
	rc.HeartbeatTimeout = c.HeartbeatTimeout
	rc.ElectionTimeout = c.ElectionTimeout
	rc.LeaderLeaseTimeout = c.LeaderLeaseTimeout
	rc.CommitTimeout = c.CommitTimeout
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.SnapshotInterval = c.SnapshotInterval
	rc.TrailingLogs = c.TrailingLogs
	rc.Logger = newRaftLogger(c.Log)
	// state.db is the state: Open itself makes sure that it is not behind the
	// newest snapshot.
	rc.NoSnapshotRestoreOnStart = true
	// A removed server stays open as a follower until its owner closes it: only
	// the owner knows what has to end first.
	rc.ShutdownOnRemove = false
	// A server that was away comes back without deposing a healthy leader.
	rc.PreVoteDisabled = false
	rc.NoLegacyTelemetry = true
	return rc
}

func (c Config) logPath() string      { return filepath.Join(c.Dir, "raft.db") }
func (c Config) statePath() string    { return filepath.Join(c.Dir, "state.db") }
func (c Config) restorePath() string  { return filepath.Join(c.Dir, "state.db.restore") }
func (c Config) snapshotPath() string { return filepath.Join(c.Dir, "snapshots") }
