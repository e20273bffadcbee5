package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"fleetmesh/agent/auth"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
	"fleetmesh/internal/pki"
	"fleetmesh/raftstore"
)

// caller is who a call is from, once that is proven.
type caller struct {
	// name is what records and the audit log say: the access key id, or
	// root@<node id> for a local socket.
	name string
	// administrator may do everything. Else node is the member whose root calls,
	// which may act on itself alone.
	administrator bool
	node          string
}

// call is one request on the leader, on one moment of the store. A handler uses
// it from one goroutine and not after it returned.
type call struct {
	raftstore.Reader
	// txn is what a handler of a write adds its changes to.
	txn raftstore.Txn
	// resource is what the audit log says was changed.
	resource string

	face  *Face
	store Store
	op    *operation
	in    *peer.ForwardRequest
	from  peer.Caller
	id    string // the request's
	key   pki.MeshKey
	now   time.Time
	who   caller
	// repeat names the request among its repetitions; "" on an open operation.
	repeat repetition
	// uncertain: an earlier attempt of this very call may have been committed.
	uncertain bool
}

// repetition is what makes a request the same as another.
type repetition struct {
	accessKeyID string
	// invocationID is the client's, or stands for the signature when it gave none.
	invocationID string
	bodySHA256   string
	// signature is "" on a local socket.
	signature  string
	validUntil time.Time
	// unnamed: the client gave no invocation id, so it cannot mean to repeat.
	unnamed bool
}

// localValidity is how long a repetition over a local socket gets its answer.
const localValidity = auth.MaxSkew

// decide does everything of a call but to commit: it returns the input and the
// output's wire form, which is nil for an operation that goes on after this.
func (c *call) decide() (input any, output []byte, err error) {
	if err := c.authenticate(); err != nil {
		return nil, nil, err
	}
	if !c.who.administrator && !c.op.open && (c.who.node == "" || c.op.own == nil) {
		return nil, nil, c.denied()
	}
	if input, err = c.op.decode(c.in.Body); err != nil {
		return nil, nil, err
	}
	if !c.who.administrator && !c.op.open {
		if err := c.op.own(c, input); err != nil {
			return nil, nil, err
		}
	}
	if c.op.write && !c.op.open {
		if output, err := c.answered(); err != nil || output != nil {
			return nil, output, err
		}
	}
	out, err := c.op.handle(c, input)
	if err != nil || c.op.wait != nil {
		return input, nil, err
	}
	if output, err = awsjson.Marshal(out); err != nil {
		return nil, nil, err
	}
	if len(c.txn.Ops) > 0 {
		c.record(output)
	}
	return input, output, nil
}

// authenticate finds out who calls.
func (c *call) authenticate() error {
	if c.op.open {
		return nil
	}
	id, err := invocationID(c.in.Header)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(c.in.Body)
	c.repeat = repetition{invocationID: id, bodySHA256: hex.EncodeToString(sum[:]), unnamed: id == ""}
	if c.in.Local {
		// What root of a node may do follows from its certificate, never from what
		// the request says.
		c.who = caller{name: "root@" + c.from.NodeID, administrator: c.from.Voter, node: c.from.NodeID}
		c.repeat.accessKeyID, c.repeat.validUntil = c.who.name, c.now.Add(localValidity)
		if c.repeat.unnamed {
			c.repeat.invocationID = "request-" + c.id
		}
		return nil
	}
	principal, err := auth.Verify(signedRequest(c.in), c.accessKey, c.now)
	if err != nil {
		return err
	}
	c.who = caller{name: principal.AccessKeyID, administrator: principal.Administrator}
	c.repeat.accessKeyID, c.repeat.signature, c.repeat.validUntil = principal.AccessKeyID, principal.Signature, principal.ValidUntil
	if c.repeat.unnamed {
		c.repeat.invocationID = "signature-" + principal.Signature
	}
	return nil
}

func signedRequest(in *peer.ForwardRequest) auth.Request {
	return auth.Request{Method: in.Method, Path: in.Path, RawQuery: in.RawQuery, Host: in.Host, Header: http.Header(in.Header), Body: in.Body}
}

// accessKey is auth's lookup on this moment of the store.
func (c *call) accessKey(id string) (auth.Key, bool, error) {
	record, err := raftstore.GetAccessKey(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return auth.Key{}, false, nil
	}
	if err != nil {
		return auth.Key{}, false, err
	}
	secret, err := c.key.Open(record.SealedSecret, sealAccessKey+id)
	if err != nil {
		return auth.Key{}, false, fmt.Errorf("open the secret of access key %s: %w", id, err)
	}
	return auth.Key{Secret: string(secret), UserName: record.UserName, Administrator: record.Administrator}, true, nil
}

// Purposes that secrets of the store are sealed for; agent's init uses the same.
const (
	sealAccessKey  = "access-key/"
	sealActivation = "activation/"
	sealGossipKey  = "gossip-key/"
	sealCAKey      = "ca-key"
	sealAnswer     = "answer/"
	sealPage       = "page/"
)

func (c *call) denied() error {
	if c.who.node != "" {
		return refuse(codeAccessDenied, "%s is not allowed on the local socket of %s: this node holds no vote, so its root may read members and status and act on this node alone. Use an access key.", c.op.name, c.who.node)
	}
	return refuse(codeAccessDenied, "User: %s is not authorized to perform: %s", c.who.name, c.op.name)
}

// answered returns the answer that this request got before, nil when it is new.
func (c *call) answered() ([]byte, error) {
	given, err := raftstore.GetAnswer(c, c.repeat.accessKeyID, c.repeat.invocationID, c.repeat.bodySHA256)
	switch {
	case errors.Is(err, raftstore.ErrNotFound):
	case err != nil:
		return nil, err
	case given.Operation != c.op.name:
		return nil, refuse(codeValidation, "The amz-sdk-invocation-id of this request was used for %s.", given.Operation)
	case c.repeat.unnamed && !c.uncertain:
		return nil, auth.AlreadyUsed()
	default:
		output, err := c.key.Open(given.Body, sealAnswer+c.repeat.invocationID)
		if err != nil {
			return nil, fmt.Errorf("open a kept answer: %w", err)
		}
		return output, nil
	}
	if c.repeat.signature == "" {
		return nil, nil
	}
	_, err = raftstore.GetSeenSignature(c, c.repeat.signature)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if c.repeat.unnamed {
		return nil, auth.AlreadyUsed()
	}
	return nil, signAgain{auth.AlreadyUsed()}
}

// record adds to the handler's changes what every change by the API carries: the
// answer for repetitions, the signature against replays, the audit entry. It is
// sealed, since an answer can hold a secret, and the log must not.
func (c *call) record(output []byte) {
	if c.repeat.accessKeyID != "" {
		// As long again as the signature is valid: another leader's clock may differ.
		expires := c.repeat.validUntil.Add(auth.MaxSkew)
		c.txn.PutAnswer(raftstore.Answer{
			AccessKeyID: c.repeat.accessKeyID, InvocationID: c.repeat.invocationID, BodySHA256: c.repeat.bodySHA256,
			Operation: c.op.name, Body: c.key.Seal(output, sealAnswer+c.repeat.invocationID), ExpiresAt: expires,
		})
		if c.repeat.signature != "" {
			c.txn.PutSeenSignature(raftstore.SeenSignature{Signature: c.repeat.signature, InvocationID: c.repeat.invocationID, ExpiresAt: expires})
		}
	}
	c.audit(c.op.name, c.op.mask(c.in.Body))
}

func (c *call) audit(operation string, parameters json.RawMessage) {
	c.txn.PutAudit(raftstore.AuditEntry{
		ID: uuid.NewString(), Time: c.now, Operation: operation, Caller: c.who.name, SourceIP: c.in.SourceIP,
		RequestID: c.id, Parameters: parameters, Resource: c.resource,
	})
}

// readMesh returns the record about the mesh as a whole.
func (c *call) readMesh() (raftstore.Mesh, error) {
	record, err := raftstore.GetMesh(c)
	if err != nil {
		return record, fmt.Errorf("read the mesh's record: %w", err)
	}
	return record, nil
}
