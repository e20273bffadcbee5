package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

func (c *call) describeInstanceInformation(in *ssm.DescribeInstanceInformationInput) (*ssm.DescribeInstanceInformationOutput, error) {
	filters, err := parseNodeFilters(in)
	if err != nil {
		return nil, err
	}
	if err := c.checkEnrolled(namedNodes(filters)); err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	members := c.face.membersByID()
	out := &ssm.DescribeInstanceInformationOutput{InstanceInformationList: []types.InstanceInformation{}}
	limit, next := pageSize(in.MaxResults), ""
	err = raftstore.ScanNodes(c, start, func(n raftstore.Node) bool {
		member := members[n.ID]
		view := viewNode(n, member)
		if slices.ContainsFunc(filters, func(f nodeFilter) bool { return !f.matches(view) }) {
			return true
		}
		if len(out.InstanceInformationList) == limit {
			next = n.ID
			return false
		}
		out.InstanceInformationList = append(out.InstanceInformationList, c.describeNode(view, member))
		return true
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// checkEnrolled refuses ids that are none of the mesh's nodes.
func (c *call) checkEnrolled(ids []string) error {
	var unknown []string
	for _, id := range ids {
		_, err := raftstore.GetNode(c, id)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
			unknown = append(unknown, id)
		case err != nil:
			return err
		}
	}
	if len(unknown) > 0 {
		return refuse(codeInvalidInstance, "Not enrolled in this mesh: %s.", strings.Join(unknown, ", "))
	}
	return nil
}

// membersByID is gossip's view by node id.
func (f *Face) membersByID() map[string]Member {
	all := f.cfg.Members()
	byID := make(map[string]Member, len(all))
	for _, m := range all {
		byID[m.NodeID] = m
	}
	return byID
}

// viewNode puts together what the store and gossip know of a node.
func viewNode(n raftstore.Node, m Member) nodeView {
	view := nodeView{Node: n, pingStatus: string(types.PingStatusConnectionLost), version: n.AgentVersion}
	if m.Alive {
		view.pingStatus = string(types.PingStatusOnline)
	}
	if m.Alive && m.Version != "" {
		view.version = m.Version
	}
	return view
}

func (c *call) describeNode(n nodeView, m Member) types.InstanceInformation {
	lastPing := n.LastPing
	switch {
	case m.Alive:
		lastPing = c.now
	case m.LastSeen.After(lastPing):
		lastPing = m.LastSeen
	}
	if lastPing.IsZero() {
		lastPing = n.RegisteredAt
	}
	return types.InstanceInformation{
		InstanceId: &n.ID, Name: &n.Name, ComputerName: &n.ComputerName, IPAddress: &n.IPAddress,
		PingStatus: types.PingStatus(n.pingStatus), LastPingDateTime: &lastPing,
		AgentVersion: &n.version, IsLatestVersion: aws.Bool(n.version == c.face.cfg.Version),
		PlatformType: types.PlatformType(n.PlatformType), PlatformName: &n.PlatformName, PlatformVersion: &n.PlatformVersion,
		ActivationId: optional(n.ActivationID), IamRole: optional(n.IamRole), RegistrationDate: optionalTime(n.RegisteredAt),
		ResourceType: types.ResourceTypeManagedInstance, SourceId: &n.ID, SourceType: sourceManagedInstance,
	}
}

// deregisterManagedInstance takes a node out of the mesh: its key is shut out from
// the moment of the commit. agent/leader pushes the roster, takes a voter out of
// Raft, ends what waits for the node and changes the gossip key.
func (c *call) deregisterManagedInstance(in *ssm.DeregisterManagedInstanceInput) (*ssm.DeregisterManagedInstanceOutput, error) {
	id := *in.InstanceId
	node, err := raftstore.GetNode(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidInstance, "%s is not enrolled in this mesh.", id)
	}
	if err != nil {
		return nil, err
	}
	roster, err := raftstore.GetRoster(c)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	members := c.face.membersByID()
	if problem := checkRemoval(voterIDs(roster), id, func(id string) bool { return members[id].Alive }); problem != "" {
		return nil, refuse(codeValidation, "%s cannot be removed now: %s", id, problem)
	}
	roster.Version++
	roster.Members = slices.DeleteFunc(slices.Clone(roster.Members), func(m raftstore.RosterMember) bool { return m.NodeID == id })
	kept, dropped := keptRemovals(roster, c.now)
	if dropped > 0 {
		if err := c.forgetCovered(dropped); err != nil {
			return nil, err
		}
	}
	roster.Removed = append(kept, raftstore.RemovedKey{NodeID: id, PublicKey: node.PublicKey, RemovedAt: c.now, Address: node.Address})
	c.txn.PutRoster(roster)
	c.txn.DeleteNode(node)
	c.resource = id
	return &ssm.DeregisterManagedInstanceOutput{}, nil
}

// removalKept is how long a removed key stays in the roster: until no certificate
// of it can be in its time any more. From then on the node is as any stranger is,
// and the roster, which is one entry of the store, stays small.
const removalKept = pki.CertificateLifetime + pki.BackDate

// keptRemovals are the roster's removed keys without those that are no use any
// more, which are the oldest and so the first; dropped is their number. A key that
// the roster still names as a member stays shut out.
func keptRemovals(roster raftstore.Roster, now time.Time) (kept []raftstore.RemovedKey, dropped int) {
	for dropped < len(roster.Removed) {
		k := roster.Removed[dropped]
		m, listed := roster.Member(k.NodeID)
		if now.Sub(k.RemovedAt) < removalKept || listed && m.PublicKey == k.PublicKey {
			break
		}
		dropped++
	}
	return slices.Clone(roster.Removed[dropped:]), dropped
}

// forgetCovered keeps the count of removals that the gossip keys cover right when
// the oldest of them are dropped.
func (c *call) forgetCovered(dropped int) error {
	ring, err := raftstore.GetKeyring(c)
	if err != nil {
		return fmt.Errorf("read the keyring: %w", err)
	}
	ring.CoversRemoved = max(ring.CoversRemoved-dropped, 0)
	c.txn.PutKeyring(ring)
	return nil
}

// voterIDs are the nodes that vote, as the roster says.
func voterIDs(roster raftstore.Roster) []string {
	var ids []string
	for _, m := range roster.Members {
		if !m.StandBy {
			ids = append(ids, m.NodeID)
		}
	}
	return ids
}

// checkRemoval says why a node must stay: without it the mesh could write no
// more, and nobody could bring it back by a request. "" when it may go.
func checkRemoval(voters []string, id string, alive func(id string) bool) string {
	if !slices.Contains(voters, id) {
		return ""
	}
	if len(voters) == 1 {
		return "it is the only voter, and the mesh would end with it. Let other machines join first."
	}
	living := 0
	for _, voter := range voters {
		if voter != id && alive(voter) {
			living++
		}
	}
	if rest := len(voters) - 1; living < rest/2+1 {
		return fmt.Sprintf("it votes, and of the %d voters that would remain only %d answer, which is no majority. Bring the others back first.", rest, living)
	}
	return ""
}
