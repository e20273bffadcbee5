package meshapi

import (
	"strconv"
	"time"

	"fleetmesh/internal/pki"
)

// StatusInput asks for the state of the mesh.
type StatusInput struct{}

// StatusOutput is the state of the mesh. Without a leader it is answered from
// gossip on the local socket, and Source says so.
type StatusOutput struct {
	MeshId string
	Name   string
	// Leader is a node id, "" without one.
	Leader   string
	Term     uint64
	Voters   []string
	StandBys []string
	// FailureTolerance is how many voters may fail before writes stop.
	FailureTolerance int
	Nodes            NodeCounts
	// Advice is what to do, in sentences; empty when all is well.
	Advice []string
	// Source is "store" (confirmed by the leader) or "gossip" (this node's view).
	Source string
	// AnsweredBy is the node that answered.
	AnsweredBy string
}

// NodeCounts counts enrolled nodes by ping status.
type NodeCounts struct {
	Online         int
	ConnectionLost int
}

// MembersInput asks which nodes gossip sees. TagKey and TagValue, where given,
// keep those that carry the tag. Every node answers from its own view.
type MembersInput struct {
	TagKey   string `json:",omitempty"`
	TagValue string `json:",omitempty"`
}

// MembersOutput is the answering node's own view.
type MembersOutput struct {
	AnsweredBy string
	Members    []Member
}

// Member is a node as gossip sees it.
type Member struct {
	NodeId  string
	Address string // host:port of the TLS port
	Version string
	Voter   bool
	Alive   bool
	Tags    map[string]string `json:",omitempty"`
}

// CreateActivationInput is SSM's CreateActivation and what SSM has no word for.
type CreateActivationInput struct {
	Description         string            `json:",omitempty"`
	DefaultInstanceName string            `json:",omitempty"`
	RegistrationLimit   int               `json:",omitempty"` // default 1
	ExpirationDate      *time.Time        `json:",omitempty"` // default in 24 h
	Tags                map[string]string `json:",omitempty"`
	MemberOnly          bool              `json:",omitempty"`
	// JoinerTags are the keys the joiner may choose; nil means all.
	JoinerTags *[]string `json:",omitempty"`
}

// CreateActivationOutput has the code, once, and a token for `meshd join`.
type CreateActivationOutput struct {
	ActivationId   string
	ActivationCode string
	JoinToken      string
}

// EnrolInput is a machine's request to join. Proof is the hex HMAC-SHA256 over
// the canonical request, keyed from the activation code (docs/protocol.md).
type EnrolInput struct {
	ActivationId string
	// CertificateRequest is a PEM PKCS#10 request; its signature proves the key.
	CertificateRequest string
	NodeName           string
	Tags               map[string]string `json:",omitempty"`
	Facts              EnrolFacts
	Proof              string
}

// EnrolFacts is what the joiner says of itself.
type EnrolFacts struct {
	IPAddress       string
	Address         string
	GossipAddress   string
	ComputerName    string
	PlatformType    string
	PlatformName    string
	PlatformVersion string
	AgentVersion    string
}

// EnrolOutput is all that a joined node needs to run.
type EnrolOutput struct {
	MeshId         string
	MeshName       string
	NodeId         string
	Certificate    string   // PEM chain, leaf first
	CACertificate  string   // PEM
	GossipKeys     []string // base64, the first encrypts
	KeyringVersion uint64
	// Roster is the JSON of raftstore.Roster.
	Roster      []byte
	GossipPeers []string // host:port
	// RefusedTags are the keys that the joiner asked for and that the activation
	// does not leave to it; the node is without them.
	RefusedTags []string `json:",omitempty"`
	// Proof is the leader's (pki.EnrolmentAnswerProof), over all the rest.
	Proof string
}

// Canonical is what the answer's Proof is computed over: every field but Proof.
func (out *EnrolOutput) Canonical() []byte {
	texts := []string{
		out.MeshId, out.MeshName, out.NodeId, out.Certificate, out.CACertificate,
		strconv.FormatUint(out.KeyringVersion, 10), string(out.Roster),
	}
	for _, list := range [][]string{out.GossipKeys, out.GossipPeers, out.RefusedTags} {
		texts = append(texts, strconv.Itoa(len(list)))
		texts = append(texts, list...)
	}
	return pki.CanonicalStrings(texts...)
}

// WatchCommandInput waits for a command to change: it returns at once when the
// store has a newer state than AfterIndex, else when it changes or after Wait.
type WatchCommandInput struct {
	CommandId   string
	AfterIndex  uint64 `json:",omitempty"`
	WaitSeconds int    `json:",omitempty"` // at most 20
}

// WatchCommandOutput has the command's counters and the invocations that changed
// after AfterIndex.
type WatchCommandOutput struct {
	Index                 uint64
	Status                string
	StatusDetails         string
	Resolved              bool
	TargetCount           int
	CompletedCount        int
	ErrorCount            int
	DeliveryTimedOutCount int
	InFlight              int
	Done                  bool
	Invocations           []InvocationChange
	// More is set when the list was cut: ask again with Index.
	More bool
}

// InvocationChange is where one node stands.
type InvocationChange struct {
	InstanceId    string
	Name          string
	Status        string
	StatusDetails string
	ResponseCode  int
	StartedAt     *time.Time `json:",omitempty"`
	FinishedAt    *time.Time `json:",omitempty"`
	// FirstLine is the first line of the output, at most 200 characters.
	FirstLine string
	Reason    string `json:",omitempty"`
}

// ReadOutputInput reads a step's whole output from the node that made it. With
// Wait the answer is held up to 10 s until there is something to read.
type ReadOutputInput struct {
	CommandId  string
	InstanceId string
	PluginName string `json:",omitempty"`
	Stderr     bool   `json:",omitempty"`
	Offset     int64  `json:",omitempty"`
	Wait       bool   `json:",omitempty"`
}

// ReadOutputOutput: at most 256 KiB from Offset on; Ended when that was all.
type ReadOutputOutput struct {
	Data       []byte
	NextOffset int64
	Ended      bool
}

// KeyringInput changes the gossip keys. Action is list, add (a new random key
// that all learn but none encrypts with), use or remove (by KeyId).
type KeyringInput struct {
	Action string
	KeyId  string `json:",omitempty"`
}

// KeyringOutput is the ring after the action.
type KeyringOutput struct {
	Version uint64
	Keys    []KeyringKey
}

// KeyringKey names a key; the key itself is never shown. Nodes counts the living
// nodes that have it.
type KeyringKey struct {
	KeyId   string
	Primary bool
}

// Canonical is what Proof is computed over: every field but Proof itself.
func (in *EnrolInput) Canonical() []byte {
	return pki.EnrolmentCanonical(pki.Enrolment{
		ActivationID: in.ActivationId, CertificateRequest: in.CertificateRequest, NodeName: in.NodeName, Tags: in.Tags,
		IPAddress: in.Facts.IPAddress, Address: in.Facts.Address, GossipAddress: in.Facts.GossipAddress, ComputerName: in.Facts.ComputerName,
		PlatformType: in.Facts.PlatformType, PlatformName: in.Facts.PlatformName, PlatformVersion: in.Facts.PlatformVersion,
		AgentVersion: in.Facts.AgentVersion,
	})
}
