package meshtest_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/pki"
	"fleetmesh/test/meshtest"
)

// TestExpiryNeverLocksOut: a site that was dark for a month comes back by itself,
// and so does a single member. The nodes are stopped and their certificates
// replaced by ones of the mesh's own CA that ended long ago.
func TestExpiryNeverLocksOut(t *testing.T) {
	t.Parallel()
	m := meshtest.New(t, 4, meshtest.MemberOnly(3))
	status := m.AwaitVoters(3)
	ca := m.CA()
	voters := map[string]bool{}
	for _, id := range status.Voters {
		voters[id] = true
	}
	expire := func(n *meshtest.Node) {
		t.Helper()
		identity := filepath.Join(n.Config.DataDir, "identity")
		keyPEM, err := os.ReadFile(filepath.Join(identity, "node.key"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := pki.ParseKey(keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		chain, err := ca.Issue(pki.IssueRequest{
			MeshID: m.Admin.MeshID, NodeID: n.ID, Voter: voters[n.ID], PublicKey: key.Public(),
			Addresses: []net.IP{net.ParseIP(n.Config.Bind)}, Names: []string{n.Name},
			Now: time.Now().Add(-30 * 24 * time.Hour), Lifetime: pki.CertificateLifetime,
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(identity, "node.crt"), chain, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	works := func(what string) {
		t.Helper()
		m.AwaitOnline(4)
		m.Await(what+": a command on every node", func() error {
			out, err := m.Nodes[3].Client().SendCommand(t.Context(), &ssm.SendCommandInput{
				DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{m.Nodes[0].ID, m.Nodes[1].ID, m.Nodes[2].ID, m.Nodes[3].ID},
				Parameters: map[string][]string{"commands": {"true"}},
			})
			if err != nil {
				return err
			}
			if done := awaitDone(t, m, m.Nodes[0], *out.Command.CommandId); done.Status != types.CommandStatusSuccess {
				return fmt.Errorf("%s (%s)", done.Status, *done.StatusDetails)
			}
			return nil
		})
	}

	member := m.Nodes[3]
	member.Stop()
	expire(member)
	member.Start()
	works("a member that was away")

	for _, n := range m.Nodes {
		n.Stop()
	}
	for _, n := range m.Nodes {
		expire(n)
	}
	for _, n := range m.Nodes {
		n.Start()
	}
	m.Await("an API whose certificate is valid again", func() error { _, err := m.Nodes[0].Status(); return err })
	works("a site that was dark")
}
