package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/raftstore"
)

const (
	// bodyTime bounds the reading of a request's body, answerTime the writing of
	// the answer.
	bodyTime   = 30 * time.Second
	answerTime = 30 * time.Second
	// linkAge is when a connection is ended after a call: certificates and
	// addresses change in the meantime.
	linkAge = 12 * time.Hour
	// bigBody is what counts as a big request, in bytes, and maxBigBodies how many
	// of one caller are in memory at once; more wait.
	bigBody      = 64 << 10
	maxBigBodies = 8
)

// routes serves the peer protocol's routes.
type routes struct {
	cfg   Config
	table map[string]route

	mu       sync.Mutex
	closed   bool
	inFlight sync.WaitGroup
	big      map[string]*bigBodies // by caller's key, while it has any
}

type bigBodies struct {
	slots chan struct{}
	users int
}

// route is one entry of the table: who may call it and what happens then.
type route struct {
	right right
	serve func(ctx context.Context, from Caller, body []byte) (any, error)
}

// The names of the routes, as they stand in the path. They are on the wire: never
// change one, add another.
const (
	routeForward    = "forward"
	routeReport     = "report"
	routeRenew      = "renew"
	routeJobs       = "jobs"
	routeCancel     = "cancel"
	routeJobStates  = "job-states"
	routeOutput     = "output"
	routeRoster     = "roster"
	routeKeyring    = "keyring"
	routePromote    = "promote"
	routeDemote     = "demote"
	routeRaftState  = "raft-state"
	routeReadRoster = "read-roster"
)

// readRosterRequest asks a node for the roster in force there. It needs no
// handler; the client also uses it to see whether a node is alive.
type readRosterRequest struct{}

type readRosterResponse struct{ Roster raftstore.Roster }

type empty struct{}

func newRoutes(cfg Config, h Handlers) *routes {
	r := &routes{cfg: cfg, big: make(map[string]*bigBodies)}
	gate := cfg.Gate
	r.table = map[string]route{
		routeForward: {rightNode, serve(h.Forward)},
		routeReport:  {rightNode, serve(h.Report)},
		routeRenew:   {rightRenew, serve(h.Renew)},
		routeReadRoster: {rightNode, serve(func(context.Context, Caller, *readRosterRequest) (*readRosterResponse, error) {
			return &readRosterResponse{Roster: gate.Roster()}, nil
		})},
		routeJobs:      {rightLeader, serve(fenced(cfg, h.Jobs))},
		routeCancel:    {rightLeader, serve(fenced(cfg, h.Cancel))},
		routeJobStates: {rightLeader, serve(fenced(cfg, h.JobStates))},
		routeOutput:    {rightLeader, serve(fenced(cfg, h.Output))},
		routeRoster: {rightLeader, serve(fenced(cfg, func(ctx context.Context, from Caller, in *RosterRequest) (*empty, error) {
			if _, err := gate.Update(in.Roster); err != nil {
				return nil, err
			}
			return silent(h.Roster)(ctx, from, in)
		}))},
		routeKeyring:   {rightLeader, serve(fenced(cfg, silent(h.Keyring)))},
		routePromote:   {rightLeader, serve(fenced(cfg, silent(h.Promote)))},
		routeDemote:    {rightLeader, serve(fenced(cfg, silent(h.Demote)))},
		routeRaftState: {rightLeader, serve(fenced(cfg, h.RaftState))},
	}
	return r
}

// handler is the shape of the methods of Handlers that answer something.
type handler[In, Out any] func(context.Context, Caller, *In) (*Out, error)

// serve turns a handler into a route: decode, call.
func serve[In, Out any](h handler[In, Out]) func(context.Context, Caller, []byte) (any, error) {
	return func(ctx context.Context, from Caller, body []byte) (any, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, &Refusal{Kind: RefusedInput, Message: err.Error()}
		}
		out, err := h(ctx, from, in)
		if err != nil {
			return nil, err
		}
		if out == nil {
			return nil, errors.New("the handler answered nothing")
		}
		return out, nil
	}
}

// hasFence is every request with a Fence.
type hasFence interface{ fence() *Fence }

func (f *Fence) fence() *Fence { return f }

// fenced lets only the calls of the newest leader pass. A higher term is on disk
// before the handler runs.
func fenced[In, Out any](cfg Config, h handler[In, Out]) handler[In, Out] {
	return func(ctx context.Context, from Caller, in *In) (*Out, error) {
		call, ok := any(in).(hasFence)
		if !ok {
			return nil, fmt.Errorf("%T carries no fence", in)
		}
		fence := call.fence()
		if err := cfg.Gate.Admit(fence.Term); errors.Is(err, unix.ENOSPC) {
			// Until there is room this node serves no new leader: its promise to obey no
			// older one would not outlast a restart. The agent has told it in the log.
			return nil, &Refusal{Kind: RefusedUnavailable, Message: "the disk of this node is full: " + err.Error()}
		} else if err != nil {
			return nil, err
		}
		cfg.Gate.hearLeader(from.NodeID)
		if cfg.Clock != nil && fence.Sent != 0 {
			fence.Late = cfg.Clock.Hear(fence.Term, fence.Sent, fence.Now)
		}
		return h(ctx, from, in)
	}
}

// silent is for handlers that answer nothing but success.
func silent[In any](h func(context.Context, Caller, *In) error) handler[In, empty] {
	return func(ctx context.Context, from Caller, in *In) (*empty, error) {
		if err := h(ctx, from, in); err != nil {
			return nil, err
		}
		return &empty{}, nil
	}
}

// ServeHTTP implements http.Handler.
func (r *routes) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	conn, ok := request.Context().Value(streamKey{}).(*stream)
	if !ok || !r.begin() {
		r.refuse(w, &Refusal{Kind: RefusedUnavailable, Message: "this node is stopping"})
		return
	}
	defer r.inFlight.Done()
	name := strings.TrimPrefix(request.URL.Path, routePrefix)
	// A handler that panics leaves who knows what half done. It is logged with its
	// stack, and the connection is cut: for the caller the outcome is unknown,
	// which is the truth.
	finished := false
	defer func() {
		if finished {
			return
		}
		if fault := recover(); fault != nil && fault != http.ErrAbortHandler {
			r.cfg.Log.Error("a handler panicked", "route", name, "node", conn.peer.id.NodeID, "fault", fault, "stack", string(debug.Stack()))
		}
		panic(http.ErrAbortHandler)
	}()
	if r.cfg.now().Sub(conn.since) > linkAge {
		w.Header().Set("Connection", "close")
	}
	r.cfg.readClock(conn.peer.id.NodeID, request.Header)
	answer, err := r.call(w, request, conn, name)
	r.cfg.tellClock(w.Header())
	if err != nil {
		r.refuse(w, r.refusalOf(err, name, conn))
	} else {
		r.answer(w, name, answer)
	}
	finished = true
}

// call checks a request from the outside in and runs its handler.
func (r *routes) call(w http.ResponseWriter, request *http.Request, conn *stream, name string) (any, error) {
	entry, ok := r.table[name]
	if !ok || !strings.HasPrefix(request.URL.Path, routePrefix) {
		return nil, errNoRoute
	}
	if request.Method != http.MethodPost || request.URL.RawQuery != "" || !isJSON(request.Header) {
		return nil, &Refusal{Kind: RefusedInput, Message: "a call is a POST of " + contentType}
	}
	if refusal := r.mayCall(entry.right, conn); refusal != nil {
		return nil, refusal
	}
	body, release, err := r.readBody(w, request, conn)
	if err != nil {
		return nil, err
	}
	defer release()
	// Again: the body may have taken its time, and the roster has moved on.
	if refusal := r.mayCall(entry.right, conn); refusal != nil {
		return nil, refusal
	}
	return entry.serve(request.Context(), r.caller(conn), body)
}

var errNoRoute = errors.New("no such route")

func (r *routes) mayCall(need right, conn *stream) *Refusal {
	view, now := r.cfg.Gate.view.Load(), r.cfg.now()
	refusal := mayCall(need, view, r.cfg.Credentials.Identity(), conn.peer, now)
	if refusal != nil && need == rightLeader && looksLikeNewVoter(view, conn.peer, now) {
		r.cfg.Gate.wantRoster()
	}
	return refusal
}

func (r *routes) caller(conn *stream) Caller {
	return Caller{
		NodeID:        conn.peer.id.NodeID,
		PublicKey:     conn.peer.id.PublicKey,
		Voter:         r.cfg.Gate.view.Load().isVoter(conn.peer.id),
		Expired:       conn.peer.expired(r.cfg.now()),
		RemoteAddress: conn.RemoteAddr().String(),
	}
}

// readBody reads the body within its bounds of size and time. The caller releases
// the memory's slot when the call is over.
func (r *routes) readBody(w http.ResponseWriter, request *http.Request, conn *stream) (body []byte, release func(), err error) {
	tooLarge := &Refusal{Kind: RefusedInput, Message: fmt.Sprintf("the request is larger than %d bytes", maxRequest)}
	if request.ContentLength > maxRequest {
		return nil, nil, tooLarge
	}
	release = func() {}
	if request.ContentLength > bigBody || request.ContentLength < 0 {
		if release, err = r.takeBig(request.Context(), conn.peer.id.PublicKey); err != nil {
			return nil, nil, err
		}
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyTime)); err != nil {
		release()
		return nil, nil, fmt.Errorf("bound the reading of a request: %w", err)
	}
	body, err = io.ReadAll(http.MaxBytesReader(w, request.Body, maxRequest))
	if err != nil {
		release()
		if tooMany := (*http.MaxBytesError)(nil); errors.As(err, &tooMany) {
			return nil, nil, tooLarge
		}
		return nil, nil, &Refusal{Kind: RefusedInput, Message: "the request did not come whole: " + err.Error()}
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		release()
		return nil, nil, fmt.Errorf("unbound the reading of a request: %w", err)
	}
	return body, release, nil
}

// takeBig waits for one of the caller's slots for big requests.
func (r *routes) takeBig(ctx context.Context, key string) (release func(), err error) {
	r.mu.Lock()
	bodies := r.big[key]
	if bodies == nil {
		bodies = &bigBodies{slots: make(chan struct{}, maxBigBodies)}
		r.big[key] = bodies
	}
	bodies.users++
	r.mu.Unlock()
	leave := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if bodies.users--; bodies.users == 0 {
			delete(r.big, key)
		}
	}
	timeout := time.NewTimer(bodyTime)
	defer timeout.Stop()
	select {
	case bodies.slots <- struct{}{}:
		return func() { <-bodies.slots; leave() }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout.C:
		err = &Refusal{Kind: RefusedUnavailable, Message: "too many large requests of this node at once"}
	}
	leave()
	return nil, err
}

// refusalOf turns a handler's error into what travels. Texts of other errors than
// refusals stay here.
func (r *routes) refusalOf(err error, route string, conn *stream) *Refusal {
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		return refusal
	}
	if errors.Is(err, errNoRoute) {
		return &Refusal{Kind: RefusedInput, Message: "there is no route " + strconv.Quote(route)}
	}
	if !errors.Is(err, context.Canceled) {
		r.cfg.Log.Error("a peer's call failed", "route", route, "node", conn.peer.id.NodeID, "error", err)
	}
	return &Refusal{Kind: RefusedInternal, Message: "the call failed at the other side, whose log says why"}
}

func (r *routes) refuse(w http.ResponseWriter, refusal *Refusal) {
	data, err := json.Marshal(refusal)
	if err != nil {
		r.cfg.Log.Error("encode a refusal", "error", err)
		panic(http.ErrAbortHandler)
	}
	write(w, statusOf(refusal.Kind), data)
}

func (r *routes) answer(w http.ResponseWriter, route string, answer any) {
	data, err := json.Marshal(answer)
	if err == nil && len(data) > maxResponse {
		err = fmt.Errorf("the answer of %d bytes is larger than %d", len(data), maxResponse)
	}
	if err != nil {
		r.cfg.Log.Error("encode an answer", "route", route, "error", err)
		r.refuse(w, &Refusal{Kind: RefusedInternal, Message: "the answer could not be sent"})
		return
	}
	write(w, http.StatusOK, data)
}

// write sends an answer. An error means that the caller is gone.
func write(w http.ResponseWriter, status int, data []byte) {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// begin counts a call in, unless the server is closing.
func (r *routes) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.inFlight.Add(1)
	return true
}

// wait lets no call in any more and waits for those that are in.
func (r *routes) wait() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.inFlight.Wait()
}
