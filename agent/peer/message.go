package peer

import (
	"encoding/json"
	"time"

	"fleetmesh/raftstore"
)

// Caller is who is at the other end of a connection, as its certificate and the
// roster say.
type Caller struct {
	NodeID    string
	PublicKey string // lower-case hex SHA-256 of the SubjectPublicKeyInfo
	// Voter is true for a voter or stand-by of the roster that presents a voter's
	// certificate with the key that the roster names.
	Voter bool
	// Expired is true when the certificate is past its end: such a caller may only
	// renew it.
	Expired bool
	// RemoteAddress is the connection's host:port.
	RemoteAddress string
}

// Fence is in every call from the leader to a node. A node refuses a term below
// the highest that it has seen, so a deposed leader is not obeyed.
type Fence struct {
	Term  uint64
	Epoch uint64
	// Sent is the leader's steady time (clock.Clock) when it made the call, Now the
	// mesh's.
	Sent time.Duration `json:",omitzero"`
	Now  time.Time     `json:",omitzero"`
	// Late is how long the call was on its way, as far as the receiver knows; the
	// server sets it.
	Late time.Duration `json:"-"`
}

// Job is one command on one node. CommandID is the job's id on that node.
type Job struct {
	CommandID       string
	NodeID          string
	DocumentName    string
	DocumentVersion string
	Document        json.RawMessage
	Nested          map[string]raftstore.NestedDocument `json:",omitempty"`
	Parameters      map[string][]string
	// Patch is what steps of patching need, a patcher.Order without what their inputs
	// say; where there is none, PatchProblem is the sentence why.
	Patch        json.RawMessage `json:",omitempty"`
	PatchProblem string          `json:",omitempty"`
	// StartWithin is how long after the call was made the job may start, and
	// ExpiresWithin after which time it has expired. Durations, because the node's
	// clock may be wrong.
	StartWithin   time.Duration
	ExpiresWithin time.Duration
	// StartUntil and ExpiresAt are the same by the clock of the node, which sets
	// them on receipt: a start after the one is refused; until the other the job's
	// id is kept, and what still runs then is killed.
	StartUntil time.Time `json:",omitzero"`
	ExpiresAt  time.Time `json:",omitzero"`
	Epoch      uint64
}

// Arrive sets the deadlines of a job that was on its way for late, by the clock of
// the node that it has come to.
func (j *Job) Arrive(now time.Time, late time.Duration) {
	j.StartUntil, j.ExpiresAt = now.Add(j.StartWithin-late), now.Add(j.ExpiresWithin-late)
}

// JobsRequest hands jobs to a node. Accepting is idempotent by CommandID.
type JobsRequest struct {
	Fence
	Jobs []Job
}

// JobsResponse answers each job of the request, in its order.
type JobsResponse struct {
	Answers []JobAnswer
}

// JobAnswer says whether the node has the job, durably. Refused is empty when it
// has (Known when it had it already); else it is a sentence and the job will
// never run there.
type JobAnswer struct {
	CommandID string
	Known     bool
	Refused   string
	// TooLate is set with Refused when the time to start was over, by the node's
	// clock: such an invocation was not delivered, and has not failed.
	TooLate bool `json:",omitempty"`
}

// CancelRequest asks a node to end jobs.
type CancelRequest struct {
	Fence
	CommandIDs []string
}

// CancelResponse acknowledges; the outcome comes as a report.
type CancelResponse struct{}

// JobStatesRequest asks what a node knows of jobs: a new leader's question for
// what is in flight. The node answers and reports anew what the leader misses.
type JobStatesRequest struct {
	Fence
	CommandIDs []string
}

// JobStatesResponse lists the jobs that the node has never accepted; for all
// others a report comes or has come.
type JobStatesResponse struct {
	Unknown []string
}

// OutputRequest reads a part of a step's output, at most 256 KiB. With Wait and
// nothing to read yet, the node holds the answer until there is, the step ends,
// or 10 s are over.
type OutputRequest struct {
	Fence
	CommandID string
	Plugin    string // "" for the only step
	Stderr    bool
	Offset    int64
	Limit     int
	Wait      bool
}

// OutputResponse: Ended is set when the step has ended and Data reaches the end.
type OutputResponse struct {
	Data  []byte
	Size  int64 // bytes written so far
	Ended bool
}

// RosterRequest pushes the roster.
type RosterRequest struct {
	Fence
	Roster raftstore.Roster
}

// KeyringRequest pushes the gossip keys, in the clear inside TLS; Keys[0]
// encrypts.
type KeyringRequest struct {
	Fence
	Version uint64
	Keys    [][]byte
}

// PromoteRequest prepares a node to hold the store: the mesh key and a voter's
// certificate. It is sent before the node is added to Raft.
type PromoteRequest struct {
	Fence
	MeshKey     []byte
	Certificate []byte // PEM chain
}

// DemoteRequest tells a node that it holds the store no more; it closes and
// deletes its copy and the mesh key and takes a member's certificate.
type DemoteRequest struct {
	Fence
	Certificate []byte
}

// RaftStateRequest asks a voter or stand-by how far its store is.
type RaftStateRequest struct{ Fence }

// RaftStateResponse: zero values from a node that does not hold the store.
type RaftStateResponse struct {
	HoldsStore bool
	// HoldsKey: the node has the mesh key, as whoever holds the store must.
	HoldsKey bool
	// Trouble says why a node that has a store cannot use it at the moment.
	Trouble      string
	AppliedIndex uint64
	LastIndex    uint64
	Term         uint64
}

// ForwardRequest carries an API request as it came. Local is set when it came
// over the caller's own socket; what such a request may do follows from the
// caller's certificate.
type ForwardRequest struct {
	Method   string
	Path     string
	RawQuery string
	Host     string
	Header   map[string][]string
	Body     []byte
	SourceIP string
	Local    bool
}

// ForwardResponse is the API's answer.
type ForwardResponse struct {
	Status int
	Header map[string][]string
	Body   []byte
}

// JobReport is a change of a job's state. Sequence counts up per job from 1.
type JobReport struct {
	CommandID     string
	Sequence      uint64
	Status        string
	StatusDetails string
	StartedAt     time.Time
	FinishedAt    time.Time // zero until terminal
	Plugins       []raftstore.PluginResult
	Reason        string
	// Findings are what steps have found out for the mesh, by the step's name, in the
	// form of their plugin.
	Findings map[string][]byte `json:",omitempty"`
}

// ReportRequest is a node's reports, for itself only.
type ReportRequest struct {
	Reports []JobReport
}

// ReportResponse acknowledges by answering: all reports of the request are
// committed (or will never be wanted: Unknown lists commands the mesh does not
// know).
type ReportResponse struct {
	Unknown []string
}

// RenewRequest asks for a new certificate for the caller's own key. The facts
// update the node's record.
type RenewRequest struct {
	Facts NodeFacts
}

// NodeFacts is what a node says of itself.
type NodeFacts struct {
	IPAddress       string
	Address         string // host:port of the TLS port
	GossipAddress   string
	ComputerName    string
	PlatformType    string
	PlatformName    string
	PlatformVersion string
	AgentVersion    string
}

// RenewResponse: the new certificate and what the node may have missed.
type RenewResponse struct {
	Certificate    []byte // PEM chain
	Roster         raftstore.Roster
	KeyringVersion uint64
	GossipKeys     [][]byte
}
