package leader

import "time"

// Settings are the knobs of the leader. Zero takes the default.
type Settings struct {
	// Voters is how many nodes vote at rest, when there are enough: 1, 3 or 5.
	// Default 5. More survive more failures at once; each costs the leader one more
	// copy of every write before it is acknowledged.
	Voters int
	// StandBys is how many nodes follow without a vote at rest; negative is none.
	// Default 1. More
	// replace several lost voters at once; each holds the mesh's secrets.
	StandBys int

	// StableAfter is how long a node must be alive before it is made a stand-by or
	// voter. Default 2 s. Shorter grows a young mesh faster; longer keeps nodes that
	// come and go out of the quorum.
	StableAfter time.Duration
	// DeadAfter is how long a voter must be silent before another takes its place.
	// Default 30 s. Shorter restores the tolerance sooner; longer spares a reboot
	// the copy of the whole store to another node.
	DeadAfter time.Duration
	// TransitFor is how long an even number of voters waits for the candidate that
	// makes it odd, before it is made odd by a demotion. Default 15 s.
	TransitFor time.Duration
	// CaughtUpWithin is how many entries a candidate may be behind, as its store
	// counts them. Default 256. More promotes earlier under load; fewer keeps
	// commits from waiting for a straggler.
	CaughtUpWithin uint64

	// CallsInFlight bounds the calls to nodes at one time. Default 128. More starts
	// a large command faster; each holds a goroutine and its request's memory.
	CallsInFlight int
	// CallTimeout bounds one call to a node. Default 10 s. Shorter finds a hanging
	// node sooner; longer waits for slow disks.
	CallTimeout time.Duration
	// RetryFirst and RetryMost bound the pause before a call is repeated, which
	// doubles each time. Default 200 ms and 5 s.
	RetryFirst time.Duration
	RetryMost  time.Duration
	// ReportDelay is how long a report may wait for others to share its commit,
	// unless all that are expected are there or another start waits for it.
	// Default 10 ms. Longer makes fewer entries; shorter shows progress sooner.
	ReportDelay time.Duration

	// RampUp starts a command on one node, on two more once that one has reported,
	// and so on, up to MaxConcurrency. Default off. On, a mistake is seen on few nodes
	// first; a command for many takes some more round trips.
	RampUp bool

	// PushesInFlight bounds the nodes told of roster and keyring at one time.
	// Default 32.
	PushesInFlight int
	// SweepEvery is how often the store is looked through for what is old: answers,
	// audit entries, ended commands. Default 1 min.
	SweepEvery time.Duration
	// CommandRetention is how long an ended command can be read. Default 30 days, as
	// in Systems Manager. CommandSpace is how many bytes all ended commands may take
	// before the oldest go earlier; one that ended within the last hour stays.
	// Default 1 GiB.
	CommandRetention time.Duration
	CommandSpace     int64
	// AuditRetention is how long audit entries stay. Default 400 days.
	AuditRetention time.Duration
	// RotationPatience is how long a phase of a gossip key rotation waits for living
	// nodes that do not confirm. Default 1 min. Shorter shuts a removed node out of
	// gossip sooner; longer spares slow nodes a reconnection by renewal.
	RotationPatience time.Duration
}

func (s Settings) withDefaults() Settings {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	count := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	count(&s.Voters, 5)
	count(&s.StandBys, 1)
	def(&s.StableAfter, 2*time.Second)
	def(&s.DeadAfter, 30*time.Second)
	def(&s.TransitFor, 15*time.Second)
	if s.CaughtUpWithin == 0 {
		s.CaughtUpWithin = 256
	}
	count(&s.CallsInFlight, 128)
	def(&s.CallTimeout, 10*time.Second)
	def(&s.RetryFirst, 200*time.Millisecond)
	def(&s.RetryMost, 5*time.Second)
	def(&s.ReportDelay, 10*time.Millisecond)
	count(&s.PushesInFlight, 32)
	def(&s.SweepEvery, time.Minute)
	def(&s.CommandRetention, 30*24*time.Hour)
	def(&s.AuditRetention, 400*24*time.Hour)
	if s.CommandSpace == 0 {
		s.CommandSpace = 1 << 30
	}
	def(&s.RotationPatience, time.Minute)
	return s
}
