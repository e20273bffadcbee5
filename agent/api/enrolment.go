package api

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

const (
	maxName = 255
	// maxFact bounds each of the facts that a node tells of itself, in bytes.
	maxFact = 255
	// maxGossipPeers is how many nodes a joiner is told to gossip with at first.
	maxGossipPeers = 20
)

// errActivation is the one answer to an activation that does not let in, whatever
// the reason: a guesser learns nothing.
var errActivation = refuse("InvalidActivation", "The activation isn't valid: there is none with this id and code, or it has expired, or as many machines as it allows have joined. Make a new one with `meshctl activation create`.")

// enrol lets a machine into the mesh, or answers one that is in already the same
// again: its key pair is who it is.
func (c *call) enrol(in *meshapi.EnrolInput) (*meshapi.EnrolOutput, error) {
	activation, err := c.provenActivation(in)
	if err != nil {
		return nil, err
	}
	c.who = caller{name: "activation/" + activation.ID}
	public, err := pki.ParseCertificateRequest([]byte(in.CertificateRequest))
	if err != nil {
		return nil, refuse(codeValidation, "The certificate request is not one of a P-256 key: %s.", err)
	}
	key, err := newNodeKey(public)
	if err != nil {
		return nil, err
	}
	roster, err := raftstore.GetRoster(c)
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	if roster.IsRemoved(key.fingerprint) {
		return nil, refuse(codeAccessDenied, "This machine's key was removed from the mesh. Delete its directory and join again.")
	}
	if err := checkFacts(peer.NodeFacts(in.Facts)); err != nil {
		return nil, err
	}
	// What is recorded of a node that is in already stays: the code proves nothing
	// about this node, since others may know it. The node itself tells its facts
	// anew, with its key, when it runs.
	node, err := raftstore.GetNodeByKey(c, key.fingerprint)
	switch {
	case errors.Is(err, raftstore.ErrNotFound):
		node, err = c.newNode(in, activation, key)
	case err == nil && node.ActivationID != activation.ID:
		err = errActivation
	}
	if err != nil {
		return nil, err
	}
	out := &meshapi.EnrolOutput{NodeId: node.ID, RefusedTags: refusedTags(activation, in.Tags)}
	certificate, err := c.issue(&node, roster, public)
	if err != nil {
		return nil, err
	}
	out.Certificate = string(certificate)
	c.txn.PutNode(node)
	c.resource = node.ID
	if err := c.welcome(out, roster); err != nil {
		return nil, err
	}
	code, err := c.key.Open(activation.SealedCode, sealActivation+activation.ID)
	if err != nil {
		return nil, fmt.Errorf("open the code of activation %s: %w", activation.ID, err)
	}
	out.Proof = pki.EnrolmentAnswerProof(string(code), in.Proof, out.Canonical())
	return out, nil
}

// provenActivation returns the activation whose code the joiner has proven to
// know. What may fail fails alike.
func (c *call) provenActivation(in *meshapi.EnrolInput) (raftstore.Activation, error) {
	activation, err := raftstore.GetActivation(c, in.ActivationId)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return activation, err
	}
	// Nobody can prove to know this code: an id that does not exist takes the way
	// of a wrong code.
	code := []byte(rand.Text())
	if err == nil {
		if code, err = c.key.Open(activation.SealedCode, sealActivation+activation.ID); err != nil {
			return activation, fmt.Errorf("open the code of activation %s: %w", activation.ID, err)
		}
	}
	if !pki.CheckEnrolmentProof(string(code), in.Canonical(), in.Proof) {
		return activation, errActivation
	}
	return activation, nil
}

// nodeKey is a node's public key as records have it.
type nodeKey struct {
	fingerprint string
	der         []byte
}

func newNodeKey(public any) (nodeKey, error) {
	fingerprint, err := pki.PublicKeyFingerprint(public)
	if err != nil {
		return nodeKey{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nodeKey{}, fmt.Errorf("encode the node's key: %w", err)
	}
	return nodeKey{fingerprint: fingerprint, der: der}, nil
}

// newNode makes the record of a node and counts it in its activation, whose
// record is a precondition: of two that would take the last place, one is refused.
func (c *call) newNode(in *meshapi.EnrolInput, activation raftstore.Activation, key nodeKey) (raftstore.Node, error) {
	if activation.Registrations >= activation.RegistrationLimit || !c.now.Before(activation.ExpiresAt) {
		return raftstore.Node{}, errActivation
	}
	name := in.NodeName
	if name == "" {
		name = activation.DefaultName
	}
	if name == "" {
		name = in.Facts.ComputerName
	}
	if name == "" || utf8.RuneCountInString(name) > max(maxName, maxDefaultName) || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl) {
		return raftstore.Node{}, refuse(codeValidation, "A node's name has 1 to %d characters, and no control characters.", maxName)
	}
	tags := joinedTags(activation, in.Tags)
	if err := checkTagTexts(tags); err != nil {
		return raftstore.Node{}, err
	}
	if err := checkTags(tags); err != nil {
		return raftstore.Node{}, err
	}
	id, err := c.newNodeID()
	if err != nil {
		return raftstore.Node{}, err
	}
	if err := c.checkAddressFree(in.Facts.Address, id); err != nil {
		return raftstore.Node{}, err
	}
	names, err := c.freeNames(name, in.Facts.ComputerName)
	if err != nil {
		return raftstore.Node{}, err
	}
	activation.Registrations++
	c.txn.PutActivation(activation)
	node := raftstore.Node{
		ID: id, Name: name, CertificateNames: names, PublicKey: key.fingerprint, PublicKeyDER: key.der, ActivationID: activation.ID, IamRole: activation.IamRole,
		RegisteredAt: c.now, MemberOnly: activation.MemberOnly, Tags: tags,
	}
	applyFacts(&node, peer.NodeFacts(in.Facts))
	return node, nil
}

// newNodeID draws an id that no node has.
func (c *call) newNodeID() (string, error) {
	for {
		var random [9]byte
		if _, err := rand.Read(random[:]); err != nil {
			return "", fmt.Errorf("draw a node id: %w", err)
		}
		id := "mi-" + hex.EncodeToString(random[:])[:17]
		_, err := raftstore.GetNode(c, id)
		if errors.Is(err, raftstore.ErrNotFound) {
			return id, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// leftToJoiner says whether the joiner may choose the value of a tag.
func leftToJoiner(activation raftstore.Activation, key string) bool {
	return activation.JoinerTags == nil || slices.Contains(activation.JoinerTags, key)
}

// joinedTags are the activation's tags and, over them, those of the joiner's that
// are left to it.
func joinedTags(activation raftstore.Activation, asked map[string]string) map[string]string {
	tags := maps.Clone(activation.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	for key, value := range asked {
		if leftToJoiner(activation, key) {
			tags[key] = value
		}
	}
	return tags
}

// refusedTags are the keys that the joiner asked for and may not choose.
func refusedTags(activation raftstore.Activation, asked map[string]string) []string {
	var keys []string
	for key := range asked {
		if !leftToJoiner(activation, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// checkFacts refuses what no node can say of itself. The facts become parts of
// certificates and lists.
func checkFacts(facts peer.NodeFacts) error {
	for _, fact := range []string{
		facts.IPAddress, facts.Address, facts.GossipAddress, facts.ComputerName,
		facts.PlatformType, facts.PlatformName, facts.PlatformVersion, facts.AgentVersion,
	} {
		if len(fact) > maxFact || !utf8.ValidString(fact) || strings.ContainsFunc(fact, isControl) {
			return refuse(codeValidation, "A fact about the node is longer than %d bytes or has control characters.", maxFact)
		}
	}
	ip, err := netip.ParseAddr(facts.IPAddress)
	if err != nil || ip.IsUnspecified() || ip.IsMulticast() {
		return refuse(codeValidation, "The node's IP address %q is not the address of one machine.", facts.IPAddress)
	}
	// Addresses are compared as text, and a certificate has no spellings: another
	// one of somebody's address must not look free.
	if ip.Unmap().WithZone("").String() != facts.IPAddress {
		return refuse(codeValidation, "The node's IP address %q is not written in the usual way, which is %s.", facts.IPAddress, ip.Unmap().WithZone(""))
	}
	for _, address := range []string{facts.Address, facts.GossipAddress} {
		at, err := netip.ParseAddrPort(address)
		if err != nil || at.Port() == 0 || at.Addr() != ip || at.String() != address {
			return refuse(codeValidation, "The node's address %q is not its IP address %s and a port.", address, ip)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

func applyFacts(node *raftstore.Node, facts peer.NodeFacts) {
	node.IPAddress, node.Address, node.GossipAddress = facts.IPAddress, facts.Address, facts.GossipAddress
	node.ComputerName = facts.ComputerName
	node.PlatformType, node.PlatformName, node.PlatformVersion = facts.PlatformType, facts.PlatformName, facts.PlatformVersion
	node.AgentVersion = facts.AgentVersion
}

// checkAddressFree refuses the address of another node that is alive or holds the
// store: a certificate for it would be one to impersonate that node with. A dead
// node's address may be taken, by the machine that comes after it.
func (c *call) checkAddressFree(address, nodeID string) error {
	roster, err := raftstore.GetRoster(c)
	if err != nil {
		return fmt.Errorf("read the roster: %w", err)
	}
	members := c.face.membersByID()
	ip := hostOf(address)
	var holder string
	err = raftstore.ScanNodes(c, "", func(n raftstore.Node) bool {
		if _, holds := roster.Member(n.ID); n.ID != nodeID && hostOf(n.Address) == ip && (holds || members[n.ID].Alive) {
			holder = n.ID
		}
		return holder == ""
	})
	if err == nil && holder != "" {
		err = refuse(codeValidation, "%s is the address of %s. If that machine is gone, remove it first with `meshctl node remove %s`.", ip, holder, holder)
	}
	return err
}

func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}

// issue signs a certificate for the node and notes its end.
func (c *call) issue(node *raftstore.Node, roster raftstore.Roster, public any) ([]byte, error) {
	meshRecord, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	caKey, err := c.key.Open(meshRecord.SealedCAKey, sealCAKey)
	if err != nil {
		return nil, fmt.Errorf("open the CA's key: %w", err)
	}
	ca, err := pki.LoadCA(meshRecord.CACertificate, caKey)
	if err != nil {
		return nil, err
	}
	_, holds := roster.Member(node.ID)
	chain, err := ca.Issue(pki.IssueRequest{
		MeshID: meshRecord.ID, NodeID: node.ID, Voter: holds, PublicKey: public,
		Addresses: []net.IP{net.ParseIP(node.IPAddress)}, Names: node.CertificateNames,
		Now: c.now, Lifetime: pki.CertificateLifetime,
	})
	if err != nil {
		return nil, err
	}
	node.CertificateEnds = c.now.Add(pki.CertificateLifetime)
	return chain, nil
}

// freeNames are, of the names that a joiner gives, the host names that no other
// node's certificate has: the first to enrol keeps a name, and a name proves a
// machine only as far as it is its own.
func (c *call) freeNames(given ...string) ([]string, error) {
	taken := map[string]bool{}
	err := raftstore.ScanNodes(c, "", func(n raftstore.Node) bool {
		for _, name := range n.CertificateNames {
			taken[name] = true
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	var free []string
	for _, name := range given {
		if name, ok := pki.HostName(name); ok && !taken[name] {
			taken[name] = true
			free = append(free, name)
		}
	}
	return free, nil
}

// welcome fills in all that a node needs to run beside its certificate.
func (c *call) welcome(out *meshapi.EnrolOutput, roster raftstore.Roster) error {
	meshRecord, err := c.readMesh()
	if err != nil {
		return err
	}
	out.MeshId, out.MeshName, out.CACertificate = meshRecord.ID, meshRecord.Name, string(meshRecord.CACertificate)
	keys, version, err := c.gossipKeys()
	if err != nil {
		return err
	}
	out.KeyringVersion = version
	for _, key := range keys {
		out.GossipKeys = append(out.GossipKeys, base64.StdEncoding.EncodeToString(key))
	}
	if out.Roster, err = json.Marshal(roster); err != nil {
		return fmt.Errorf("encode the roster: %w", err)
	}
	out.GossipPeers, err = c.gossipPeers(roster)
	return err
}

// gossipPeers are nodes to gossip with: those that hold the store, then the
// living.
func (c *call) gossipPeers(roster raftstore.Roster) ([]string, error) {
	members := c.face.membersByID()
	var lasting, living []string
	err := raftstore.ScanNodes(c, "", func(n raftstore.Node) bool {
		if _, holds := roster.Member(n.ID); holds {
			lasting = append(lasting, n.GossipAddress)
		} else if members[n.ID].Alive && len(living) < maxGossipPeers {
			living = append(living, n.GossipAddress)
		}
		return true
	})
	peers := append(lasting, living...)
	return peers[:min(len(peers), maxGossipPeers)], err
}

// gossipKeys opens the keyring; the first key encrypts.
func (c *call) gossipKeys() (keys [][]byte, version uint64, err error) {
	ring, err := raftstore.GetKeyring(c)
	if err != nil {
		return nil, 0, fmt.Errorf("read the keyring: %w", err)
	}
	for _, k := range ring.Keys {
		key, err := c.key.Open(k.Sealed, sealGossipKey+k.ID)
		if err != nil {
			return nil, 0, fmt.Errorf("open gossip key %s: %w", k.ID, err)
		}
		keys = append(keys, key)
	}
	return keys, ring.Version, nil
}

// maskEnrolment keeps what tells of an enrolment and leaves out what proves it.
func maskEnrolment(body []byte) json.RawMessage {
	var in meshapi.EnrolInput
	if err := awsjson.Unmarshal(body, &in); err != nil {
		return nil
	}
	shown, err := json.Marshal(struct {
		ActivationId, NodeName string
		Tags                   map[string]string `json:",omitempty"`
		Facts                  meshapi.EnrolFacts
	}{in.ActivationId, in.NodeName, in.Tags, in.Facts})
	if err != nil {
		return nil
	}
	return shown
}

// checkTagTexts checks what the model checks in Systems Manager's own requests.
func checkTagTexts(tags map[string]string) error {
	for key, value := range tags {
		if key == "" || utf8.RuneCountInString(key) > 128 || utf8.RuneCountInString(value) > 256 || !tagText(key) || !tagText(value) {
			return refuse(codeValidation, "A tag's key has 1 to 128 characters and its value up to 256: letters, digits, blanks and _.:/=+-@.")
		}
	}
	return nil
}
