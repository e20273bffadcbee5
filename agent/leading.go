package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"time"

	"crypto/x509"

	"fleetmesh/agent/api"
	"fleetmesh/agent/leader"
	"fleetmesh/executor"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// leaderConfig is what the leader's loops need of this node.
func (a *Agent) leaderConfig(store *raftstore.Store) leader.Config {
	return leader.Config{
		NodeID: a.identity.NodeID(), Store: store, Peers: a.client, Members: a.gossip.Load(), Gate: a.gate,
		Log: a.log.With("part", "leader"), Now: a.clock.Now, Clock: a.clock,
		Platforms: documentPlatforms, Compose: api.ComposeCommand,
		LastSeen: func(nodeID string) time.Time {
			at := a.gossip.Load().LastSeen(nodeID)
			if at.IsZero() {
				return at
			}
			return at.Add(a.clock.Now().Sub(a.clock.Own())) // gossip goes by this machine's clock
		},
		Started: func(nodeID string) uint64 { return a.gossip.Load().Started(nodeID) },
		MeshKey: func() pki.MeshKey {
			key, _ := a.identity.MeshKey() // a node that holds the store has it
			return key
		},
		OpenGossipKey: func(key raftstore.GossipKey) ([]byte, error) {
			meshKey, _ := a.identity.MeshKey()
			return meshKey.Open(key.Sealed, sealGossipKey+key.ID)
		},
		NewGossipKey: func() (raftstore.GossipKey, error) {
			meshKey, _ := a.identity.MeshKey()
			secret := randomBytes(32)
			id := gossipKeyID(secret)
			return raftstore.GossipKey{ID: id, Sealed: meshKey.Seal(secret, sealGossipKey+id)}, nil
		},
		IssueVoterCertificate: func(node raftstore.Node, voter bool) ([]byte, error) {
			return a.issueCertificate(store, node, voter)
		},
		Settings: leader.Settings{
			RampUp: a.config.RampUp, Voters: a.config.Voters, StandBys: a.config.StandBys, DeadAfter: time.Duration(a.config.VoterDeadAfter),
			CommandRetention: time.Duration(a.config.CommandRetention), CommandSpace: a.config.CommandSpace, AuditRetention: time.Duration(a.config.AuditRetention),
		},
	}
}

// documentPlatforms says what a document is for; one that cannot be read is for
// all, and its nodes say what is wrong with it.
func documentPlatforms(content json.RawMessage) []string {
	document, err := executor.ParseDocument(content)
	if err != nil {
		return nil
	}
	return document.Platforms()
}

// issueCertificate issues a certificate for a node's enrolled key with the CA of
// the store.
func (a *Agent) issueCertificate(store *raftstore.Store, node raftstore.Node, voter bool) ([]byte, error) {
	var mesh raftstore.Mesh
	err := store.View(func(r raftstore.Reader) (err error) {
		mesh, err = raftstore.GetMesh(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the mesh's CA: %w", err)
	}
	meshKey, _ := a.identity.MeshKey()
	keyPEM, err := meshKey.Open(mesh.SealedCAKey, sealCAKey)
	if err != nil {
		return nil, fmt.Errorf("open the mesh's CA: %w", err)
	}
	ca, err := pki.LoadCA(mesh.CACertificate, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load the mesh's CA: %w", err)
	}
	public, err := x509.ParsePKIXPublicKey(node.PublicKeyDER)
	if err != nil {
		return nil, fmt.Errorf("read the key of node %s: %w", node.ID, err)
	}
	return ca.Issue(pki.IssueRequest{
		MeshID: mesh.ID, NodeID: node.ID, Voter: voter, PublicKey: public,
		Addresses: []net.IP{net.ParseIP(node.IPAddress)}, Names: node.CertificateNames,
		Now: a.clock.Now(), Lifetime: pki.CertificateLifetime,
	})
}
