//go:build !race

// Not under the race detector: hashicorp/raft 1.8.0 reads a follower's id without
// the lock under which it replaces its address (updateLastAppended,
// startStopReplication). The id is the same before and after.

package meshtest_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/test/meshtest"
)

// move gives a node another address, from its next start on.
func move(n *meshtest.Node) {
	address := netip.MustParseAddr(n.Config.Bind).As4()
	address[3] += 40
	n.Config.Bind = netip.AddrFrom4(address).String()
}

// allWork waits until the mesh names all nodes at their present addresses and a
// command runs on each of them.
func allWork(t *testing.T, m *meshtest.Mesh, what string) {
	t.Helper()
	m.AwaitOnline(len(m.Nodes))
	m.Await(what+": the new addresses", func() error {
		for _, through := range m.Nodes {
			out, err := through.Client().DescribeInstanceInformation(t.Context(), &ssm.DescribeInstanceInformationInput{})
			if err != nil {
				return fmt.Errorf("through %s: %w", through.Name, err)
			}
			for _, i := range out.InstanceInformationList {
				if n := m.Node(*i.InstanceId); aws.ToString(i.IPAddress) != n.Config.Bind {
					return fmt.Errorf("%s is named at %s, and is at %s", n.Name, aws.ToString(i.IPAddress), n.Config.Bind)
				}
			}
		}
		return nil
	})
	var ids []string
	for _, n := range m.Nodes {
		ids = append(ids, n.ID)
	}
	id := send(t, m.Nodes[0], ssm.SendCommandInput{InstanceIds: ids}, "true")
	if done := awaitDone(t, m, m.Nodes[0], id); done.Status != types.CommandStatusSuccess {
		t.Errorf("%s: %s (%s)", what, done.Status, *done.StatusDetails)
	}
}

// TestAddressesChange: nodes of every role come back at other addresses, one after
// another, most voters at once, and all at once.
func TestAddressesChange(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 5, meshtest.MemberOnly(4))
	status := m.AwaitVoters(3)
	m.Await("a stand-by", func() (err error) {
		if status, err = m.Leader().Status(); err == nil && len(status.StandBys) != 1 {
			err = fmt.Errorf("%v", status.StandBys)
		}
		return err
	})
	restart := func(n *meshtest.Node) {
		n.Stop()
		move(n)
		n.Start()
	}
	restart(m.Nodes[4])
	allWork(t, m, "a member")
	restart(m.Node(status.StandBys[0]))
	allWork(t, m, "a stand-by")
	restart(m.Leader())
	allWork(t, m, "the leader")

	var moved []*meshtest.Node
	for _, id := range m.AwaitVoters(3).Voters[:2] {
		moved = append(moved, m.Node(id))
	}
	for _, n := range moved {
		n.Stop()
		move(n)
	}
	for _, n := range moved {
		n.Start()
	}
	allWork(t, m, "two of three voters at once")

	for _, n := range m.Nodes {
		n.Stop()
		move(n)
	}
	for _, n := range m.Nodes[1:] {
		n.Config.Peers = []string{m.Nodes[0].Config.Bind}
	}
	for _, n := range m.Nodes {
		n.Start()
	}
	allWork(t, m, "a renumbered site")
	for _, n := range m.Nodes[1:] {
		n.Stop()
		n.Config.Peers = nil
	}
	for _, n := range m.Nodes[1:] {
		n.Start()
	}
	allWork(t, m, "the addresses are remembered")
}
