package peer

import "context"

// Handlers does what calls ask for. The server has already checked that the
// caller may use the route (see each method) and, for calls from the leader, the
// term. Calls run concurrently, each on a goroutine of the server; the context
// ends with the connection. An error of type *Refusal reaches the caller with its
// sentence; any other error is logged and answered as internal.
type Handlers interface {
	// From any enrolled node with a valid certificate.
	Forward(ctx context.Context, from Caller, in *ForwardRequest) (*ForwardResponse, error)
	Report(ctx context.Context, from Caller, in *ReportRequest) (*ReportResponse, error)
	// Renew is also open to an expired certificate of an enrolled key.
	Renew(ctx context.Context, from Caller, in *RenewRequest) (*RenewResponse, error)

	// From a voter of the roster, with a term not below the highest seen.
	Jobs(ctx context.Context, from Caller, in *JobsRequest) (*JobsResponse, error)
	Cancel(ctx context.Context, from Caller, in *CancelRequest) (*CancelResponse, error)
	JobStates(ctx context.Context, from Caller, in *JobStatesRequest) (*JobStatesResponse, error)
	Output(ctx context.Context, from Caller, in *OutputRequest) (*OutputResponse, error)
	// Roster has already replaced the gate's when it is called.
	Roster(ctx context.Context, from Caller, in *RosterRequest) error
	Keyring(ctx context.Context, from Caller, in *KeyringRequest) error
	Promote(ctx context.Context, from Caller, in *PromoteRequest) error
	Demote(ctx context.Context, from Caller, in *DemoteRequest) error
	RaftState(ctx context.Context, from Caller, in *RaftStateRequest) (*RaftStateResponse, error)
}

// RefusalKind is why a peer refuses a call; its text travels.
type RefusalKind string

const (
	// RefusedNotLeader: ask the leader; Refusal.Leader names it where known.
	RefusedNotLeader RefusalKind = "not-leader"
	// RefusedForbidden: this caller may not use this route.
	RefusedForbidden RefusalKind = "forbidden"
	// RefusedStaleTerm: the caller leads no more.
	RefusedStaleTerm RefusalKind = "stale-term"
	// RefusedInput: the request is malformed or too large.
	RefusedInput RefusalKind = "input"
	// RefusedUnavailable: not now; nothing happened; try again.
	RefusedUnavailable RefusalKind = "unavailable"
	// RefusedInternal: a fault at the other side; it is logged there.
	RefusedInternal RefusalKind = "internal"
)

// Refusal is an answered refusal: the call had no effect.
type Refusal struct {
	Kind    RefusalKind
	Message string
	// Leader is host:port of the leader, for RefusedNotLeader, "" when unknown.
	Leader   string
	LeaderID string
}

func (r *Refusal) Error() string { return r.Message }
