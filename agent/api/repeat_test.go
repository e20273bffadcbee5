package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

const sendBody = `{"DocumentName":"AWS-RunShellScript","InstanceIds":["` + memberID + `"],"Parameters":{"commands":["true"]}}`

func (b *bed) commandCount() int {
	n := 0
	b.read(func(r raftstore.Reader) error {
		raftstore.ScanCommands(r, "", func(string, string) bool { n++; return true })
		return nil
	})
	return n
}

// TestRepetitionGetsTheSameAnswer: signed anew or not, from another node, by
// another face on the same store.
func TestRepetitionGetsTheSameAnswer(t *testing.T) {
	b := newBed(t)
	other := b.listen(New(b.leader.cfg)) // the next leader: it has only the store in common
	header := map[string]string{invocationHeader: "5f2c3b1e-0000-4000-8000-000000000001"}
	first := b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now(), header))
	if first.status != http.StatusOK {
		t.Fatalf("%s %s", first.Type, first.Message)
	}
	for i, url := range []string{b.leaderURL, b.memberURL, other} {
		again := b.do(b.request(url, "AmazonSSM.SendCommand", sendBody, time.Now().Add(time.Duration(i)*time.Second), header))
		if again.body != first.body {
			t.Errorf("through %s: %s, want %s", url, again.body, first.body)
		}
	}
	if n := b.commandCount(); n != 1 {
		t.Errorf("%d commands, want 1", n)
	}
	b.read(func(r raftstore.Reader) error {
		entries := 0
		return errors.Join(raftstore.ScanAudit(r, time.Time{}, func(a raftstore.AuditEntry) bool {
			entries++
			if a.Operation != "SendCommand" || a.Caller != adminKeyID || a.SourceIP != "127.0.0.1" || a.RequestID == "" || a.Resource == "" {
				t.Errorf("audit entry %+v", a)
			}
			if strings.Contains(string(a.Parameters), `"true"`) {
				t.Errorf("the audit entry shows the parameters, which can be secrets: %s", a.Parameters)
			}
			return true
		}), func() error {
			if entries != 1 {
				return errors.New("not one audit entry")
			}
			return nil
		}())
	})

	// The same id for something else is another request.
	if got := b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", strings.Replace(sendBody, "true", "false", 1), time.Now(), header)); got.status != http.StatusOK || got.body == first.body {
		t.Errorf("another body under the same id: %d %s", got.status, got.body)
	}
	if got := b.do(b.request(b.leaderURL, "AmazonSSM.CancelCommand", sendBody, time.Now(), header)); got.status != 400 {
		t.Errorf("another operation under the same id and body: %d %s", got.status, got.body)
	}
}

// TestReplaysAreRefused: a signature works once; only its own invocation id lets
// it come again.
func TestReplaysAreRefused(t *testing.T) {
	b := newBed(t)
	at := time.Now()
	// As the AWS CLI signs: the invocation id is not among the signed headers.
	signed := func(id string) *http.Request {
		r := b.request(b.memberURL, "AmazonSSM.SendCommand", sendBody, at, nil)
		if id != "" {
			r.Header.Set(invocationHeader, id)
		}
		return r
	}
	if got := b.do(signed("one")); got.status != http.StatusOK {
		t.Fatalf("%s %s", got.Type, got.Message)
	}
	if got := b.do(signed("one")); got.status != http.StatusOK {
		t.Errorf("the repetition: %s %s", got.Type, got.Message)
	}
	for id, status := range map[string]int{"two": 503, "": 400} { // 503 makes an SDK sign again
		if got := b.do(signed(id)); got.status != status || got.Type != "InvalidSignatureException" || !strings.Contains(got.Message, "already used") {
			t.Errorf("the replay with the id %q: %d %s %s", id, got.status, got.Type, got.Message)
		}
	}
	if n := b.commandCount(); n != 1 {
		t.Errorf("%d commands, want 1", n)
	}

	// Without an id the signature itself is what cannot come twice.
	at = at.Add(time.Second)
	if got := b.do(signed("")); got.status != http.StatusOK {
		t.Fatalf("%s %s", got.Type, got.Message)
	}
	for _, id := range []string{"", "three"} {
		if got := b.do(signed(id)); got.Type != "InvalidSignatureException" {
			t.Errorf("the replay with the id %q: %d %s", id, got.status, got.Type)
		}
	}
	if n := b.commandCount(); n != 2 {
		t.Errorf("%d commands, want 2", n)
	}
	// A read may come as often as it likes.
	read := func() *http.Request {
		return b.request(b.memberURL, "AmazonSSM.ListCommands", `{}`, at, nil)
	}
	for range 2 {
		if got := b.do(read()); got.status != http.StatusOK {
			t.Errorf("a read: %s %s", got.Type, got.Message)
		}
	}
	if got := b.do(b.request(b.memberURL, "AmazonSSM.SendCommand", sendBody, time.Now(), map[string]string{invocationHeader: "a/b"})); got.Type != "ValidationException" {
		t.Errorf("an odd id: %s", got.Type)
	}
}

// TestAnswersAreSealed: an activation's code is in its answer, and the log of the
// store must not hold it.
func TestAnswersAreSealed(t *testing.T) {
	b := newBed(t)
	out, err := b.ssm(b.leaderURL).CreateActivation(t.Context(), &ssm.CreateActivationInput{IamRole: aws.String("role")})
	if err != nil {
		t.Fatal(err)
	}
	b.read(func(r raftstore.Reader) error {
		answers := 0
		r.Scan("", "", func(key string, value []byte, _ uint64) bool {
			if strings.HasPrefix(key, "answer/") {
				answers++
			}
			if strings.Contains(string(value), *out.ActivationCode) {
				t.Errorf("%s shows the code", key)
			}
			return true
		})
		if answers != 1 {
			t.Errorf("%d answers kept", answers)
		}
		return nil
	})
}

// unsteady is a store whose commits fail as a store in trouble does.
type unsteady struct {
	Store
	trouble *trouble
}

type trouble struct {
	mu sync.Mutex
	// each Apply takes the next: nil applies as usual.
	next []func(apply func() (uint64, error)) (uint64, error)
	// views fail with this while it is set.
	view error
}

func (u unsteady) Apply(ctx context.Context, txn raftstore.Txn) (uint64, error) {
	u.trouble.mu.Lock()
	var step func(func() (uint64, error)) (uint64, error)
	if len(u.trouble.next) > 0 {
		step, u.trouble.next = u.trouble.next[0], u.trouble.next[1:]
	}
	u.trouble.mu.Unlock()
	apply := func() (uint64, error) { return u.Store.Apply(ctx, txn) }
	if step == nil {
		return apply()
	}
	return step(apply)
}

func (u unsteady) ConfirmedView(ctx context.Context, fn func(raftstore.Reader) error) error {
	u.trouble.mu.Lock()
	err := u.trouble.view
	u.trouble.mu.Unlock()
	if err != nil {
		return err
	}
	return u.Store.ConfirmedView(ctx, fn)
}

func (b *bed) troubled(steps ...func(func() (uint64, error)) (uint64, error)) *trouble {
	tr := &trouble{next: steps}
	b.mu.Lock()
	b.wrap = func(s Store) Store { return unsteady{s, tr} }
	b.mu.Unlock()
	return tr
}

func lostButDone(apply func() (uint64, error)) (uint64, error) {
	if index, err := apply(); err != nil {
		return index, err
	}
	return 0, raftstore.ErrUnknownOutcome
}

func lost(func() (uint64, error)) (uint64, error) { return 0, raftstore.ErrUnknownOutcome }

func overtaken(func() (uint64, error)) (uint64, error) { return 0, raftstore.ErrConflict }

// TestUnknownOutcomesAreFoundOut: done or not, a client gets its answer and the
// command is there once.
func TestUnknownOutcomesAreFoundOut(t *testing.T) {
	for name, steps := range map[string][]func(func() (uint64, error)) (uint64, error){
		"done": {lostButDone}, "not done": {lost}, "not done, then done": {lost, lostButDone}, "overtaken": {overtaken, overtaken},
	} {
		for _, id := range []string{"some-id", ""} {
			t.Run(name+" "+id, func(t *testing.T) {
				b := newBed(t)
				b.troubled(steps...)
				header := map[string]string{}
				if id != "" {
					header[invocationHeader] = id
				}
				got := b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now(), header))
				if got.status != http.StatusOK {
					t.Errorf("HTTP %d %s %s", got.status, got.Type, got.Message)
				}
				if n := b.commandCount(); n != 1 {
					t.Errorf("%d commands, want 1", n)
				}
			})
		}
	}
}

// TestLeadershipLostDuringAWrite: the next leader finds out for a request that
// may be repeated; for another the client is told that nobody knows.
func TestLeadershipLostDuringAWrite(t *testing.T) {
	for _, done := range []bool{true, false} {
		b := newBed(t)
		next := New(b.leader.cfg)
		next.cfg.Store = func() Store { return b.store }
		tr := &trouble{}
		step := func(apply func() (uint64, error)) (uint64, error) {
			var index uint64
			if done {
				if _, err := apply(); err != nil {
					return index, err
				}
			}
			tr.mu.Lock()
			tr.view = raftstore.ErrNotLeader
			tr.mu.Unlock()
			return 0, raftstore.ErrUnknownOutcome
		}
		b.mu.Lock()
		b.wrap = func(s Store) Store { return unsteady{s, tr} }
		// The member finds the old leader first, and then the next one.
		b.forward = func(in *peer.ForwardRequest, _ bool) (*peer.ForwardResponse, error) {
			tr.mu.Lock()
			over := tr.view != nil
			tr.mu.Unlock()
			if over {
				return next.ServeForwarded(t.Context(), peer.Caller{NodeID: memberID}, in)
			}
			return b.leader.ServeForwarded(t.Context(), peer.Caller{NodeID: memberID}, in)
		}
		b.mu.Unlock()
		tr.next = append(tr.next, step)
		got := b.do(b.request(b.memberURL, "AmazonSSM.SendCommand", sendBody, time.Now(), map[string]string{invocationHeader: "an-id"}))
		if got.status != http.StatusOK {
			t.Errorf("done %v: HTTP %d %s %s", done, got.status, got.Type, got.Message)
		}
		if n := b.commandCount(); n != 1 {
			t.Errorf("done %v: %d commands, want 1", done, n)
		}
		tr.mu.Lock()
		tr.view, tr.next = nil, append(tr.next, step)
		tr.mu.Unlock()
		got = b.do(b.request(b.memberURL, "AmazonSSM.SendCommand", sendBody, time.Now().Add(2*time.Second), nil))
		if got.status != http.StatusInternalServerError || !strings.Contains(got.Message, "outcome is unknown") {
			t.Errorf("done %v, without an id: HTTP %d %s %s", done, got.status, got.Type, got.Message)
		}
	}
}

// TestStockRetries: the SDK's own retries after lost answers do nothing twice.
func TestStockRetries(t *testing.T) {
	b := newBed(t)
	flaky := &losing{inner: b.client.Transport, lose: 2}
	c := b.ssm(b.memberURL, func(o *ssm.Options) {
		o.HTTPClient = &http.Client{Transport: flaky, Timeout: patience}
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 20 * time.Millisecond })
	})
	send(t, c, ssm.SendCommandInput{InstanceIds: []string{memberID}})
	if n := b.commandCount(); n != 1 || flaky.sent != 3 {
		t.Errorf("%d commands after %d requests, want 1 after 3", n, flaky.sent)
	}
}

// losing is a network that loses the first answers.
type losing struct {
	inner      http.RoundTripper
	lose, sent int
}

func (l *losing) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := l.inner.RoundTrip(r)
	if l.sent++; l.sent <= l.lose && err == nil {
		response.Body.Close()
		return nil, errors.New("the answer was lost")
	}
	return response, err
}

// TestConcurrentWritesOfOneRecord: all of them happen, whoever is overtaken.
func TestConcurrentWritesOfOneRecord(t *testing.T) {
	b := newBed(t)
	const writers = 16
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			_, err := b.ssm([]string{b.leaderURL, b.memberURL}[i%2]).AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{
				ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: aws.String(memberID),
				Tags: []types.Tag{{Key: aws.String("key" + nodeID(i)), Value: aws.String("v")}},
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	b.read(func(r raftstore.Reader) error {
		n, err := raftstore.GetNode(r, memberID)
		if len(n.Tags) != writers+1 {
			t.Errorf("%d tags, want %d", len(n.Tags), writers+1)
		}
		return err
	})
}

// TestUnknownOutcomeWithoutMajority: when nobody can find out, nobody says that
// nothing was done.
func TestUnknownOutcomeWithoutMajority(t *testing.T) {
	b := newBed(t)
	tr := b.troubled(lost)
	tr.next[0] = func(func() (uint64, error)) (uint64, error) {
		tr.mu.Lock()
		tr.view = raftstore.ErrNotLeader
		tr.mu.Unlock()
		return 0, raftstore.ErrUnknownOutcome
	}
	got := b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now(), map[string]string{invocationHeader: "an-id"}))
	if got.status != http.StatusInternalServerError || !strings.Contains(got.Message, "outcome is unknown") {
		t.Errorf("HTTP %d %s %s", got.status, got.Type, got.Message)
	}
}

// A renewal whose outcome is unknown, as when the leader changes, is asked for again
// by the node; nothing is wrong in the mesh.
func TestUnknownOutcomeOfARenewal(t *testing.T) {
	b := newBed(t)
	j := newJoiner(t, 1).with(b.token(meshapi.CreateActivationInput{}))
	enrolled, got := b.enrol(b.leaderURL, j)
	if enrolled == nil {
		t.Fatal(got.Message)
	}
	n := b.node(enrolled.NodeId)
	b.troubled(lost)
	_, err := b.leader.Renew(t.Context(), peer.Caller{NodeID: n.ID, PublicKey: n.PublicKey}, &peer.RenewRequest{Facts: peer.NodeFacts(j.in.Facts)})
	var refusal *peer.Refusal
	if !errors.As(err, &refusal) || refusal.Kind != peer.RefusedUnavailable {
		t.Errorf("%v", err)
	}
}

func TestEndlessConflictIsThrottled(t *testing.T) {
	b := newBed(t)
	tr := b.troubled()
	for range maxAttempts {
		tr.next = append(tr.next, overtaken)
	}
	got := b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now(), nil))
	if got.status != 400 || got.Type != "ThrottlingException" || b.commandCount() != 0 {
		t.Errorf("HTTP %d %s, %d commands", got.status, got.Type, b.commandCount())
	}
	tr.next = append(tr.next, func(func() (uint64, error)) (uint64, error) { return 0, raftstore.ErrTooLarge })
	if got := b.do(b.request(b.leaderURL, "AmazonSSM.SendCommand", sendBody, time.Now().Add(time.Second), nil)); got.Type != "RequestEntityTooLarge" {
		t.Errorf("a transaction that is too large: %s", got.Type)
	}
}
