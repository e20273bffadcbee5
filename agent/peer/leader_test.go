package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func notLeading(hint *node) func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
	return func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
		refusal := &Refusal{Kind: RefusedNotLeader, Message: "not me"}
		if hint != nil {
			refusal.Leader, refusal.LeaderID = hint.address(), hint.nodeID
		}
		return nil, refusal
	}
}

// The leader is found from any node, remembered, and found again when it moves.
func TestLeaderIsFound(t *testing.T) {
	m := newMesh(t)
	a, b, c, member := m.newNode(true), m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, a, b, c))
	var leader atomic.Pointer[node]
	for _, n := range []*node{a, b, c} {
		n.handlers.forward = func(ctx context.Context, from Caller, in *ForwardRequest) (*ForwardResponse, error) {
			if l := leader.Load(); l != n {
				return notLeading(l)(ctx, from, in)
			}
			return &ForwardResponse{Status: 200, Body: []byte(n.nodeID)}, nil
		}
	}
	for _, l := range []*node{a, b, c, a} {
		leader.Store(l)
		for _, from := range []*node{member, a, b, c} { // the leader itself too
			before := l.handlers.seen(routeForward)
			for range 2 {
				answer, err := from.client.Forward(testContext(t), &ForwardRequest{}, false)
				if err != nil || string(answer.Body) != l.nodeID {
					t.Fatalf("from %s: %+v, %v; want %s", from.nodeID, answer, err, l.nodeID)
				}
			}
			if got := l.handlers.seen(routeForward) - before; got != 2 {
				t.Errorf("the leader served %d calls, want 2", got)
			}
		}
	}
	// Remembered: nobody else is bothered.
	others := b.handlers.seen("") + c.handlers.seen("")
	if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, false); err != nil {
		t.Fatal(err)
	}
	if got := b.handlers.seen("") + c.handlers.seen(""); got != others {
		t.Errorf("others were asked %d times", got-others)
	}
}

// Nobody leads: told in time, and that nothing was done.
func TestNoLeader(t *testing.T) {
	m := newMesh(t)
	a, b, member := m.newNode(true), m.newNode(true), m.newNode(false)
	a.handlers.forward, b.handlers.forward = notLeading(b), notLeading(a) // each takes the other for the leader
	m.agree(m.roster(1, a, b))
	member.client.pace.search = time.Second
	started := time.Now()
	_, err := member.client.Forward(context.Background(), &ForwardRequest{}, true)
	if !errors.Is(err, ErrNoLeader) || !errors.Is(err, ErrNotSent) {
		t.Errorf("error %v, want ErrNoLeader", err)
	}
	if took := time.Since(started); took < member.client.pace.search || took > patience {
		t.Errorf("took %s", took)
	}
	if asked := a.handlers.seen("") + b.handlers.seen(""); asked > 40 {
		t.Errorf("the candidates were asked %d times", asked)
	}
	// The context bounds it further.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = member.client.Forward(ctx, &ForwardRequest{}, true)
	if err == nil || isRefusal(err) {
		t.Errorf("error %v", err)
	}
	// No roster at all.
	alone := m.newSilentNode(false)
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := alone.client.Forward(ctx, &ForwardRequest{}, true); !errors.Is(err, ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want ErrNoLeader", err)
	}
}

// A new leader is found while the search goes on.
func TestLeaderAppearsDuringTheSearch(t *testing.T) {
	m := newMesh(t)
	a, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, a))
	var asked atomic.Int32
	a.handlers.forward = func(ctx context.Context, from Caller, in *ForwardRequest) (*ForwardResponse, error) {
		if asked.Add(1) < 4 {
			return notLeading(nil)(ctx, from, in)
		}
		return &ForwardResponse{Status: 200}, nil
	}
	if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, false); err != nil {
		t.Error(err)
	}
}

// "Not now" is tried again, and answered as it is when it stays so.
func TestUnavailableLeader(t *testing.T) {
	m := newMesh(t)
	a, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, a))
	var asked atomic.Int32
	a.handlers.forward = func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
		if asked.Add(1) == 2 {
			return &ForwardResponse{Status: 200}, nil
		}
		return nil, &Refusal{Kind: RefusedUnavailable, Message: "not now"}
	}
	if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, false); err != nil {
		t.Error(err)
	}
	member.client.pace.search = 300 * time.Millisecond
	_, err := member.client.Forward(testContext(t), &ForwardRequest{}, false)
	wantRefusal(t, err, RefusedUnavailable)
}

// An outcome that is unknown is tried again only where that is allowed.
func TestUnknownOutcome(t *testing.T) {
	m := newMesh(t)
	a, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, a))
	var asked atomic.Int32
	a.handlers.forward = func(ctx context.Context, _ Caller, _ *ForwardRequest) (*ForwardResponse, error) {
		if asked.Add(1)%3 != 0 {
			cutCallers(a) // the leader dies with the call in its hands
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return &ForwardResponse{Status: 200}, nil
	}
	_, err := member.client.Forward(testContext(t), &ForwardRequest{}, false)
	if err == nil || isRefusal(err) || isErrNotSent(err) || errors.Is(err, ErrNoLeader) {
		t.Errorf("error %v, want an unknown outcome", err)
	}
	if got := asked.Load(); got != 1 {
		t.Errorf("sent %d times without leave", got)
	}
	if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, true); err != nil {
		t.Errorf("with leave to retry: %v", err)
	}
}

// cutCallers breaks all peers' connections to a node.
func cutCallers(n *node) {
	n.server.links.mu.Lock()
	defer n.server.links.mu.Unlock()
	for l := range n.server.links.all {
		_ = l.Conn.Close()
	}
}

// Pooled connections that died unnoticed cost nothing but a new one.
func TestDeadPooledConnections(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	ctx := testContext(t)
	for range 30 {
		if _, err := voter.client.Jobs(ctx, member.target(), &JobsRequest{}); err != nil {
			t.Fatal(err)
		}
		cutCallers(member)
	}
	// The same when the node has restarted at its address.
	address := member.address()
	if err := member.server.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls are known to be not sent", func() bool {
		// A pooled connection whose end has not been noticed leaves a doubt once.
		_, err := voter.client.Jobs(ctx, Target{NodeID: member.nodeID, Address: address}, &JobsRequest{})
		return isErrNotSent(err)
	})
	member.listen(address)
	if _, err := voter.client.Jobs(ctx, member.target(), &JobsRequest{}); err != nil {
		t.Error(err)
	}
}

// A leader that holds a call and answers nothing else is given up, and the next
// one is found.
func TestSilentLeaderIsGivenUp(t *testing.T) {
	m := newMesh(t)
	silent, next, member := m.newSilentNode(true), m.newNode(true), m.newNode(false)
	silent.listen("127.0.0.1:0")
	m.agree(m.roster(1, silent, next))
	paused := newPausable(t, silent.address())
	address := paused.address()
	roster := m.roster(2, silent, next)
	roster.Members[0].Address = address
	member.take(roster)
	next.handlers.forward = func(context.Context, Caller, *ForwardRequest) (*ForwardResponse, error) {
		return &ForwardResponse{Status: 299}, nil
	}
	if _, err := member.client.Forward(testContext(t), &ForwardRequest{}, true); err != nil {
		t.Fatal(err)
	}
	target := Target{NodeID: silent.nodeID, Address: address}
	if _, err := call[ForwardRequest, ForwardResponse](testContext(t), member.client, toLeader, target, routeForward, &ForwardRequest{}, true); err != nil {
		t.Fatal(err)
	}
	member.client.leader.Store(&target)
	member.client.pace = pace{
		search: 10 * time.Second, connect: time.Second,
		attendAfter: 100 * time.Millisecond, attendEvery: 100 * time.Millisecond,
		attendAgain: 50 * time.Millisecond, attendLimit: 500 * time.Millisecond,
	}
	paused.pause()
	answer, err := member.client.Forward(testContext(t), &ForwardRequest{}, true)
	if err != nil || answer.Status != 299 {
		t.Errorf("answer %+v, %v; want the next leader's", answer, err)
	}
	// A newer leader that has made itself known meanwhile spares the second look.
	member.client.leader.Store(&target)
	member.client.pace.attendAgain = patience
	time.AfterFunc(50*time.Millisecond, func() {
		if err := member.gate.Admit(member.gate.Term() + 1); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	if answer, err := member.client.Forward(ctx, &ForwardRequest{}, true); err != nil || answer.Status != 299 {
		t.Errorf("answer %+v, %v; want the next leader's", answer, err)
	}
	member.client.pace.attendAgain = 50 * time.Millisecond
	// Without leave to retry the end is an unknown outcome, not a hanging call.
	member.client.leader.Store(&target)
	other := m.roster(3, silent)
	other.Members[0].Address = address
	member.take(other)
	member.client.pace.search = time.Second
	_, err = member.client.Forward(context.Background(), &ForwardRequest{}, false)
	if err == nil {
		t.Error("a silent leader answered")
	}
}

// pausable is a TCP relay that can stop moving bytes while connections stay open:
// what a paused process or a cut network looks like.
type pausable struct {
	listener net.Listener
	mu       sync.Mutex
	stopped  bool
	conns    []net.Conn
}

func newPausable(t *testing.T, to string) *pausable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pausable{listener: listener}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			running.Go(func() { p.relay(in, out) })
			running.Go(func() { p.relay(out, in) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.mu.Unlock()
		running.Wait()
	})
	return p
}

func (p *pausable) address() string { return p.listener.Addr().String() }

func (p *pausable) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

func (p *pausable) relay(from, to net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			_ = to.Close()
			return
		}
		p.mu.Lock()
		stopped := p.stopped
		p.mu.Unlock()
		if stopped {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// A node whose roster is old finds voters that it does not know, through those
// that it does; a stranger with a voter's certificate is not enough.
func TestOldRosterIsRefreshed(t *testing.T) {
	m := newMesh(t)
	known, risen, member := m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, known))
	newer := m.roster(2, risen)
	known.take(newer)
	risen.take(newer)
	// What was a voter is a member now, with a member's certificate.
	known.certify(m.ca, false)
	known.handlers.forward = notLeading(nil) // as a member it knows no leader

	// The new leader calls: refused, but the member looks for the newer roster.
	_, err := risen.client.Jobs(testContext(t), member.target(), &JobsRequest{Fence: Fence{Term: 1}})
	wantRefusal(t, err, RefusedForbidden)
	eventually(t, "the member has the newer roster", func() bool { return member.gate.Roster().Version == 2 })
	if _, err := risen.client.Jobs(testContext(t), member.target(), &JobsRequest{Fence: Fence{Term: 1}}); err != nil {
		t.Error(err)
	}

	// The same from the other side: a member searches the leader.
	searching := m.newNode(false)
	searching.take(m.roster(1, known))
	if _, err := searching.client.Forward(testContext(t), &ForwardRequest{}, false); err != nil {
		t.Error(err)
	}
	if risen.handlers.seen(routeForward) != 1 || searching.gate.Roster().Version != 2 {
		t.Errorf("forwarded %d times, roster version %d", risen.handlers.seen(routeForward), searching.gate.Roster().Version)
	}
}

// A hint is a hint: a member that it names is not believed.
func TestHintsDoNotMakeLeaders(t *testing.T) {
	m := newMesh(t)
	voter, stranger, member := m.newNode(true), m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	member.client.pace.search = 300 * time.Millisecond
	voter.handlers.forward = notLeading(stranger)
	_, err := member.client.Forward(testContext(t), &ForwardRequest{Body: []byte("secret")}, true)
	if !errors.Is(err, ErrNoLeader) {
		t.Errorf("error %v, want ErrNoLeader", err)
	}
	if stranger.handlers.seen("") != 0 {
		t.Error("a request went to a node that is no voter")
	}
	// A renewal goes where a voter points, if there is a valid voter's certificate.
	voter.handlers.renew = func(context.Context, Caller, *RenewRequest) (*RenewResponse, error) {
		return nil, &Refusal{Kind: RefusedNotLeader, Message: "not me", Leader: stranger.address(), LeaderID: stranger.nodeID}
	}
	if _, err := member.client.Renew(testContext(t), &RenewRequest{}); err != nil {
		t.Errorf("renewal at a voter that the roster does not know yet: %v", err)
	}
}

func TestClientClose(t *testing.T) {
	m := newMesh(t)
	voter, member := m.newNode(true), m.newNode(false)
	m.agree(m.roster(1, voter))
	entered := make(chan struct{})
	voter.handlers.forward = func(ctx context.Context, _ Caller, _ *ForwardRequest) (*ForwardResponse, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	stream, err := voter.client.DialRaft(testContext(t), voter.address())
	if err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 1)
	go func() {
		_, err := member.client.Forward(context.Background(), &ForwardRequest{}, true)
		outcome <- err
	}()
	<-entered
	member.client.Close()
	if err := <-outcome; !errors.Is(err, ErrClosed) {
		t.Errorf("the call in flight: %v, want ErrClosed", err)
	}
	if _, err := member.client.Forward(context.Background(), &ForwardRequest{}, true); !errors.Is(err, ErrClosed) {
		t.Errorf("a later call: %v, want ErrClosed", err)
	}
	voter.client.Close()
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("a Raft stream outlives the client")
	}
	member.client.Close()
}

// TestManyTargets calls many targets at once, a fifth of which are away.
func TestManyTargets(t *testing.T) {
	m := newMesh(t)
	voter := m.newNode(true)
	var targets []Target
	const nodes, perNode = 40, 10
	for range nodes {
		n := m.newNode(false)
		for range perNode {
			targets = append(targets, n.target())
		}
	}
	m.agree(m.roster(1, voter))
	for i := range targets {
		if i%5 == 0 {
			targets[i].Address = "127.0.0.1:1"
		}
	}
	var running sync.WaitGroup
	for i, target := range targets {
		running.Go(func() {
			_, err := voter.client.Jobs(testContext(t), target, &JobsRequest{Jobs: []Job{{CommandID: "c"}}})
			if i%5 == 0 && !isErrNotSent(err) {
				t.Errorf("a target that is away: %v, want ErrNotSent", err)
			}
			if i%5 != 0 && err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
}

func TestCandidates(t *testing.T) {
	m := newMesh(t)
	a, b, c, d := m.newSilentNode(true), m.newSilentNode(true), m.newSilentNode(true), m.newSilentNode(true)
	roster := m.roster(1, a, b, c, d)
	roster.Members[1].StandBy = true
	for i := range roster.Members {
		roster.Members[i].Address = fmt.Sprintf("%c:1", 'a'+i)
	}
	inOrder := func(n int) []int {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		return order
	}
	for _, test := range []struct {
		name    string
		last    *Target
		self    string
		suspect string
		want    string
	}{
		{"nothing known", nil, "", "", "a:1 c:1 d:1 b:1"},
		{"a last leader", &Target{NodeID: d.nodeID, Address: "d:1"}, "", "", "d:1 a:1 c:1 d:1 b:1"},
		{"itself a voter", nil, c.nodeID, "", "c:1 a:1 d:1 b:1"},
		{"itself a stand-by", nil, b.nodeID, "", "b:1 a:1 c:1 d:1"},
		{"one did not answer", nil, c.nodeID, "a:1", "c:1 d:1 b:1 a:1"},
	} {
		var got []string
		for _, target := range candidates(test.last, test.self, viewOf(roster), func(t Target) bool { return t.Address == test.suspect }, inOrder) {
			got = append(got, target.Address)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		}
	}
	if got := candidates(nil, "", viewOf(m.roster(1)), func(Target) bool { return false }, rand.Perm); len(got) != 0 {
		t.Errorf("an empty roster has candidates %v", got)
	}
}

func TestPoolKey(t *testing.T) {
	for _, address := range []string{"127.0.0.1:7947", "[fd00::1%eth0]:7947", "host.example:1", ""} {
		key := poolKey{to: toRenew, nodeID: "mi-1", address: address, generation: "ab"}
		got, err := parsePoolKey(key.host())
		if err != nil || got != key {
			t.Errorf("%q comes back as %+v, %v", address, got, err)
		}
	}
	for _, bad := range []string{"", "a.b.c", "node.zz.00.x:0", "node.00.zz.x:0"} {
		if _, err := parsePoolKey(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
