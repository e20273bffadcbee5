package peer

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Errors that callers test for. An error that holds a *Refusal is an answer, and
// the call had no effect (but for RefusedInternal: a fault in the middle of it).
// Any other error leaves open whether the call had an effect, unless it is
// ErrNotSent.
var (
	// ErrNotSent is returned when the call has certainly not reached a handler.
	ErrNotSent = errors.New("the call was not sent")
	// ErrNoLeader is returned when no leader was found in time.
	ErrNoLeader = errors.New("the mesh has no leader that this node can reach")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the peer client is closed")
)

// Target is a node to call: who it must be, and where it should be.
type Target struct {
	NodeID  string
	Address string // host:port of the TLS port
}

const (
	// clientIdleTime keeps connections warm between commands, so that a run does
	// not begin with a handshake on each node. Longer costs memory (some 20 KiB a
	// node), shorter costs handshakes.
	clientIdleTime = 10 * time.Minute
	// idlePerTarget is how many unused connections to one node are kept.
	idlePerTarget = 32
	// linksPerTarget bounds the calls at once to one node; more wait.
	linksPerTarget = 256
)

// Client calls other nodes. It keeps their connections warm and is safe for
// concurrent use.
type Client struct {
	cfg       Config
	dialer    *dialer
	transport *http.Transport
	links     *links

	// generation is the fingerprint of the certificate that pooled connections
	// were opened with; a renewal leaves them behind.
	generation atomic.Pointer[string]
	// leader is who answered last as the leader, nil when unknown.
	leader atomic.Pointer[Target]

	// leaderless is set while the last whole search for a leader found none.
	leaderless atomic.Bool

	pace pace
	// suspects are candidates for the leader that did not answer, and when.
	suspectsMu sync.Mutex
	suspects   map[Target]time.Time

	ctx       context.Context
	cancel    context.CancelFunc
	closeOnce sync.Once
	running   sync.WaitGroup
}

// NewClient starts a client; Close ends it.
func NewClient(cfg Config) *Client {
	c := &Client{cfg: cfg, links: newLinks(cfg.Gate), pace: normalPace(), suspects: make(map[Target]time.Time)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.dialer = newDialer(c.ctx, cfg, c.links)
	c.transport = &http.Transport{
		DialContext:            c.dialer.dialPooled,
		MaxIdleConnsPerHost:    idlePerTarget,
		MaxConnsPerHost:        linksPerTarget,
		IdleConnTimeout:        clientIdleTime,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	cfg.Gate.Subscribe(c.links.recheck)
	c.running.Go(c.refreshWhenWanted)
	c.running.Go(c.greetLeaders)
	return c
}

// Close breaks off calls in flight, closes all connections, Raft's included, and
// waits for the client's goroutines.
func (c *Client) Close() {
	c.closeOnce.Do(func() {
		c.cancel()
		c.links.close()
		c.transport.CloseIdleConnections()
	})
	c.running.Wait()
}

// bound ties a context to the client's life.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(ErrClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

// call sends one call to one node. With idempotent set it is sent once more, on a
// fresh connection, when the connection broke under it.
func call[In, Out any](ctx context.Context, c *Client, to purpose, target Target, route string, in *In, idempotent bool) (*Out, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("%w: encode %s: %w", ErrNotSent, route, err)
	}
	if len(body) > maxRequest {
		return nil, &Refusal{Kind: RefusedInput, Message: fmt.Sprintf("a request of %d bytes is larger than %d", len(body), maxRequest)}
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	status, answer, err := c.send(ctx, to, target, route, body, idempotent)
	if err != nil && idempotent && ctx.Err() == nil && !errors.Is(err, ErrNotSent) {
		status, answer, err = c.send(ctx, to, target, route, body, idempotent)
		if err != nil && errors.Is(err, ErrNotSent) {
			// The second was not sent; of the first nobody knows.
			err = fmt.Errorf("the connection broke, and then: %s", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("call %s of node %s at %s: %w", route, target.NodeID, target.Address, err)
	}
	if status != http.StatusOK {
		refusal, err := decodeRefusal(status, answer)
		if err != nil {
			return nil, fmt.Errorf("call %s of node %s at %s: read answer: %w", route, target.NodeID, target.Address, err)
		}
		return nil, refusal
	}
	out := new(Out)
	if err := decode(answer, out); err != nil {
		return nil, fmt.Errorf("call %s of node %s at %s: read answer: %w", route, target.NodeID, target.Address, err)
	}
	return out, nil
}

// send is one HTTP exchange. Its error is ErrNotSent when no connection was had,
// or when the server refused the handshake.
func (c *Client) send(ctx context.Context, to purpose, target Target, route string, body []byte, idempotent bool) (status int, answer []byte, err error) {
	generation, err := c.currentGeneration()
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	key := poolKey{to: to, nodeID: target.NodeID, address: target.Address, generation: generation}
	connected := false // written before the request is, on this goroutine
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected = true },
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+key.host()+routePrefix+route, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	request.Host = "mesh"
	request.Header.Set("Content-Type", contentType)
	c.cfg.tellClock(request.Header)
	if idempotent {
		// An empty value is not sent; its presence lets the transport try again
		// when a pooled connection turns out to be dead.
		request.Header["Idempotency-Key"] = nil
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		if !connected {
			err = fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return 0, nil, err
	}
	defer response.Body.Close()
	c.cfg.readClock(target.NodeID, response.Header)
	answer, err = io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	if err != nil {
		return 0, nil, fmt.Errorf("read answer: %w", err)
	}
	if len(answer) > maxResponse {
		return 0, nil, fmt.Errorf("read answer: it is larger than %d bytes", maxResponse)
	}
	if !isJSON(response.Header) {
		return 0, nil, errors.New("read answer: it is not " + contentType)
	}
	return response.StatusCode, answer, nil
}

// currentGeneration names the certificate in use. When it has changed, idle
// connections made with the one before are dropped: the server would go by that.
func (c *Client) currentGeneration() (string, error) {
	certificate, err := c.cfg.Credentials.Certificate()
	if err != nil {
		return "", err
	}
	generation := generationOf(certificate.Certificate)
	if before := c.generation.Swap(&generation); before != nil && *before != generation {
		c.transport.CloseIdleConnections()
	}
	return generation, nil
}

// poolKey is what must be equal for two calls to share a connection. It travels
// through net/http as the host of the URL.
type poolKey struct {
	to         purpose
	nodeID     string
	address    string
	generation string
}

func (k poolKey) host() string {
	return strings.Join([]string{string(k.to), hex.EncodeToString([]byte(k.nodeID)), hex.EncodeToString([]byte(k.address)), k.generation}, ".") + ":0"
}

func parsePoolKey(hostPort string) (poolKey, error) {
	parts := strings.Split(strings.TrimSuffix(hostPort, ":0"), ".")
	if len(parts) != 4 {
		return poolKey{}, fmt.Errorf("%q is not a pool's key", hostPort)
	}
	nodeID, err := hex.DecodeString(parts[1])
	if err != nil {
		return poolKey{}, fmt.Errorf("%q is not a pool's key: %w", hostPort, err)
	}
	address, err := hex.DecodeString(parts[2])
	if err != nil {
		return poolKey{}, fmt.Errorf("%q is not a pool's key: %w", hostPort, err)
	}
	return poolKey{to: purpose(parts[0]), nodeID: string(nodeID), address: string(address), generation: parts[3]}, nil
}
