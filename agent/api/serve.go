package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"

	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"fleetmesh/agent/auth"
	"fleetmesh/agent/peer"
	"fleetmesh/internal/awsjson"
)

const (
	contentType     = "application/x-amz-json-1.1"
	requestIDHeader = "X-Amzn-Requestid"
	errorTypeHeader = "X-Amzn-Errortype"

	// outcomeHeader tells the node that forwarded a request that it may and should
	// send it again; clients never see it.
	outcomeHeader  = "X-Mesh-Outcome"
	outcomeUnknown = "unknown"
)

// ServeHTTP answers API clients: TLS, SigV4.
func (f *Face) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.serve(w, r, false) }

// ServeLocal answers on the local socket. The agent has made sure that only root
// of this node can reach it.
func (f *Face) ServeLocal(w http.ResponseWriter, r *http.Request) { f.serve(w, r, true) }

// ServeForwarded answers, on the leader, what another node sends on. On any other
// node it returns a *peer.Refusal that names the leader.
func (f *Face) ServeForwarded(ctx context.Context, from peer.Caller, in *peer.ForwardRequest) (*peer.ForwardResponse, error) {
	requestID := uuid.NewString()
	in.SourceIP = forwardedSource(from, in)
	if len(in.Body) > maxBody {
		return f.refusal(requestID, "", refuse(codeTooLarge, "The request is larger than %d bytes.", maxBody)), nil
	}
	op, out := f.operation(in, requestID)
	if out != nil {
		return out, nil
	}
	store := f.cfg.Store()
	if store == nil || !store.IsLeader() {
		return nil, f.notLeader(store)
	}
	if in.Local && op.write && !from.Voter && !f.paces.take(from.NodeID, f.cfg.Now()) {
		return f.deny(requestID, op.name, "root@"+from.NodeID, in, errPaced), nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderPatience+op.patience)
	defer cancel()
	out, err := f.lead(ctx, store, op, from, in, requestID)
	if errors.Is(err, errAskAgain) {
		out = f.refusal(requestID, op.name, errOutcome)
		out.Header[outcomeHeader] = []string{outcomeUnknown}
		return out, nil
	}
	if err != nil {
		return nil, f.notLeader(store)
	}
	return out, nil
}

// forwardedSource is where a forwarded request comes from, for the audit log: what
// the forwarding node says, as far as it can be an address.
func forwardedSource(from peer.Caller, in *peer.ForwardRequest) string {
	if in.Local {
		return "" // a Unix socket has none
	}
	if ip, err := netip.ParseAddr(in.SourceIP); err == nil && len(in.SourceIP) <= maxSourceIP {
		return ip.String()
	}
	return sourceIP(from.RemoteAddress)
}

// maxSourceIP is the longest text of an address, in characters, zone included.
const maxSourceIP = 64

func (f *Face) notLeader(store Store) *peer.Refusal {
	refusal := &peer.Refusal{Kind: peer.RefusedNotLeader, Message: "this node does not lead the mesh"}
	if store != nil {
		refusal.LeaderID, refusal.Leader = store.Leader()
		if refusal.LeaderID == f.cfg.NodeID {
			refusal.LeaderID, refusal.Leader = "", ""
		}
	}
	return refusal
}

func (f *Face) serve(w http.ResponseWriter, r *http.Request, local bool) {
	requestID := uuid.NewString()
	if !local && (r.ContentLength < 0 || r.ContentLength > largeBody) {
		select {
		case f.large <- struct{}{}:
			defer func() { <-f.large }()
		default:
			f.send(w, f.refusal(requestID, "", errFull))
			return
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			f.send(w, f.refusal(requestID, "", refuse(codeTooLarge, "The request is larger than %d bytes.", maxBody)))
		}
		// Else the client went away, or sent less than it announced: nobody listens.
		return
	}
	in := &peer.ForwardRequest{
		Method: r.Method, Path: r.URL.Path, RawQuery: r.URL.RawQuery, Host: r.Host, Header: keptHeader(r.Header),
		Body: body, SourceIP: sourceIP(r.RemoteAddr), Local: local,
	}
	if local && len(in.Header[invocationHeader]) == 0 {
		// This node is its own client here: with an id of its own it may repeat.
		in.Header[invocationHeader] = []string{uuid.NewString()}
	}
	op, out := f.operation(in, requestID)
	if out == nil {
		out = f.route(r.Context(), op, in, requestID)
	}
	f.send(w, out)
}

func keptHeader(header http.Header) map[string][]string {
	kept := header.Clone()
	for _, name := range hopByHop {
		kept.Del(name)
	}
	return kept
}

func sourceIP(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return "" // a Unix socket has none
}

// operation finds what a request asks for, or the answer that refuses it.
func (f *Face) operation(in *peer.ForwardRequest, requestID string) (*operation, *peer.ForwardResponse) {
	if httpStatus, err := checkShape(in); err != nil {
		out := f.deny(requestID, "", "", in, err)
		out.Status = httpStatus
		if httpStatus == http.StatusMethodNotAllowed {
			out.Header["Allow"] = []string{http.MethodPost}
		}
		return nil, out
	}
	name, err := target(in.Header)
	if err == nil {
		// A request without any signature is nothing for the leader: it is refused
		// here, also while nobody leads.
		if op, ok := f.operations[name]; ok {
			if in.Local || op.open || len(in.Header["Authorization"]) > 0 {
				return op, nil
			}
		}
		err = refuse(codeUnknown, "The operation %s is not known to this version of the mesh.", name)
		if slices.Contains(awsjson.Operations(), name) {
			err = refuse(codeUnknown, "The operation %s is not supported by this version of the mesh.", name)
		}
	}
	// Whether the signature is right only the leader can say, and an answer that
	// says so little is not worth waiting for one.
	if !in.Local {
		if unsigned := auth.Check(signedRequest(in), f.cfg.Now()); unsigned != nil {
			err = unsigned
		}
	}
	return nil, f.deny(requestID, name, "", in, err)
}

// answer is an answer's frame.
func answer(httpStatus int, requestID string, body []byte) *peer.ForwardResponse {
	return &peer.ForwardResponse{
		Status: httpStatus,
		Header: map[string][]string{"Content-Type": {contentType}, requestIDHeader: {requestID}},
		Body:   body,
	}
}

// refusal is the answer for an error. What is not for the client is logged here,
// and only here.
func (f *Face) refusal(requestID, operation string, err error) *peer.ForwardResponse {
	code, httpStatus, body, known := render(err)
	if !known {
		f.cfg.Log.Error("request failed", "request", requestID, "operation", operation, "error", err)
	}
	out := answer(httpStatus, requestID, body)
	out.Header[errorTypeHeader] = []string{code}
	return out
}

// isRefusal reports whether an error is for the client.
func isRefusal(err error) bool {
	var refused smithy.APIError
	return errors.As(err, &refused)
}

func (f *Face) send(w http.ResponseWriter, out *peer.ForwardResponse) {
	for name, values := range out.Header {
		w.Header()[name] = values
	}
	if len(out.Header["Date"]) == 0 {
		// No leader has answered: this machine's clock is nothing to go by.
		w.Header()["Date"] = nil
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(out.Body)))
	w.WriteHeader(out.Status)
	// An error here means that the client went away; nothing is left to be told.
	_, _ = w.Write(out.Body)
}

// self is this node as the caller of its own local socket, on the leader.
func (f *Face) self() peer.Caller { return peer.Caller{NodeID: f.cfg.NodeID, Voter: true} }
