package peer

import "context"

// The calls from the leader to a node. All are idempotent: each is sent once more
// when its connection breaks.

// Jobs hands jobs to a node.
func (c *Client) Jobs(ctx context.Context, to Target, in *JobsRequest) (*JobsResponse, error) {
	return call[JobsRequest, JobsResponse](ctx, c, toNode, to, routeJobs, in, true)
}

// Cancel asks a node to end jobs.
func (c *Client) Cancel(ctx context.Context, to Target, in *CancelRequest) (*CancelResponse, error) {
	return call[CancelRequest, CancelResponse](ctx, c, toNode, to, routeCancel, in, true)
}

// JobStates asks a node which of its jobs it has never accepted.
func (c *Client) JobStates(ctx context.Context, to Target, in *JobStatesRequest) (*JobStatesResponse, error) {
	return call[JobStatesRequest, JobStatesResponse](ctx, c, toNode, to, routeJobStates, in, true)
}

// Output reads a part of a step's output.
func (c *Client) Output(ctx context.Context, to Target, in *OutputRequest) (*OutputResponse, error) {
	return call[OutputRequest, OutputResponse](ctx, c, toNode, to, routeOutput, in, true)
}

// Roster pushes the roster.
func (c *Client) Roster(ctx context.Context, to Target, in *RosterRequest) error {
	_, err := call[RosterRequest, empty](ctx, c, toNode, to, routeRoster, in, true)
	return err
}

// Farewell tells a node the roster that shuts it out, so that it ends by itself.
func (c *Client) Farewell(ctx context.Context, to Target, in *RosterRequest) error {
	_, err := call[RosterRequest, empty](ctx, c, toRemoved, to, routeRoster, in, true)
	return err
}

// Keyring pushes the gossip keys.
func (c *Client) Keyring(ctx context.Context, to Target, in *KeyringRequest) error {
	_, err := call[KeyringRequest, empty](ctx, c, toNode, to, routeKeyring, in, true)
	return err
}

// Promote prepares a node to hold the store.
func (c *Client) Promote(ctx context.Context, to Target, in *PromoteRequest) error {
	_, err := call[PromoteRequest, empty](ctx, c, toNode, to, routePromote, in, true)
	return err
}

// Demote tells a node that it holds the store no more.
func (c *Client) Demote(ctx context.Context, to Target, in *DemoteRequest) error {
	_, err := call[DemoteRequest, empty](ctx, c, toNode, to, routeDemote, in, true)
	return err
}

// RaftState asks how far a node's store is.
func (c *Client) RaftState(ctx context.Context, to Target, in *RaftStateRequest) (*RaftStateResponse, error) {
	return call[RaftStateRequest, RaftStateResponse](ctx, c, toNode, to, routeRaftState, in, true)
}
