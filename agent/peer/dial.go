package peer

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// dialTime bounds connecting to a node.
	dialTime = 3 * time.Second
	// handshakeLimit bounds the handshake once its turn has come. It is long: when
	// all nodes come at once, after the leader's restart, a handshake that is given
	// up is work for nothing and makes the crowd larger.
	handshakeLimit = 15 * time.Second
	// maxDials and maxClientHandshakes bound what goes on at once. Connecting is
	// waiting, for nodes that are away up to dialTime, so many may; handshakes are
	// work.
	maxDials            = 512
	maxClientHandshakes = 64
)

// dialer opens the client's connections.
type dialer struct {
	cfg Config
	// life ends with the client: net/http lets a dial go on when the call that
	// wanted it has ended.
	life       context.Context
	links      *links
	dials      chan struct{}
	handshakes chan struct{}
}

func newDialer(life context.Context, cfg Config, links *links) *dialer {
	return &dialer{
		cfg: cfg, life: life, links: links,
		dials: make(chan struct{}, maxDials), handshakes: make(chan struct{}, maxClientHandshakes),
	}
}

// dialPooled is the transport's DialContext: addr is a poolKey.
func (d *dialer) dialPooled(ctx context.Context, _, addr string) (net.Conn, error) {
	key, err := parsePoolKey(addr)
	if err != nil {
		return nil, err
	}
	return d.dialNode(ctx, key.nodeID, key.address, protocolPeer, func(v *rosterView, p presented) error {
		return mayServe(key.to, key.nodeID, v, d.cfg.Credentials.Identity(), p, d.cfg.now())
	})
}

// elsewhereAfter is how long the address at which a node should be is tried alone.
const elsewhereAfter = 300 * time.Millisecond

// dialNode is dial to the node that should be at address. When it is not reached
// there soon, it is also tried where it was last heard of: an address may change
// before anybody could tell the mesh, as on all voters at once.
func (d *dialer) dialNode(ctx context.Context, nodeID, address, protocol string, check func(*rosterView, presented) error) (net.Conn, error) {
	elsewhere := ""
	if d.cfg.Where != nil && nodeID != "" {
		elsewhere = d.cfg.Where(nodeID)
	}
	if elsewhere == "" || elsewhere == address {
		return d.dial(ctx, address, protocol, check)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, 2)
	first := make(chan struct{})
	go func() {
		conn, err := d.dial(ctx, address, protocol, check)
		if err != nil {
			close(first)
		}
		results <- result{conn, err}
	}()
	go func() {
		select {
		case <-first:
		case <-time.After(elsewhereAfter):
		case <-ctx.Done():
		}
		conn, err := d.dial(ctx, elsewhere, protocol, check)
		results <- result{conn, err}
	}()
	won := <-results
	if won.err != nil {
		second := <-results
		second.err = errors.Join(won.err, second.err)
		if second.conn != nil {
			second.err = nil
		}
		return second.conn, second.err
	}
	go func() { // the slower one ends with ctx
		if lost := <-results; lost.conn != nil {
			_ = lost.conn.Close()
		}
	}()
	return won.conn, nil
}

// dial connects, shakes hands and takes the connection into the set: from then on
// it is cut when check says no under a later roster.
func (d *dialer) dial(ctx context.Context, address, protocol string, check func(*rosterView, presented) error) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	raw, err := d.connect(ctx, address, protocol == protocolPeer)
	if err != nil {
		return nil, err
	}
	l, ok := d.links.add(raw)
	if !ok {
		return nil, ErrClosed
	}
	conn, err := d.handshake(ctx, l, protocol, check)
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return conn, nil
}

func (d *dialer) connect(ctx context.Context, address string, bounded bool) (net.Conn, error) {
	select {
	case d.dials <- struct{}{}:
		defer func() { <-d.dials }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	dialer := net.Dialer{Timeout: dialTime, KeepAliveConfig: keepAlive()}
	if bounded {
		// Raft has time-outs of its own, and a follower that is busy with a
		// snapshot may let a window stay shut.
		dialer.Control = setUserTimeout
	}
	return dialer.DialContext(ctx, "tcp", address)
}

func (d *dialer) handshake(ctx context.Context, l *link, protocol string, check func(*rosterView, presented) error) (net.Conn, error) {
	select {
	case d.handshakes <- struct{}{}:
		defer func() { <-d.handshakes }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	var p presented
	conn := tls.Client(l, clientTLS(d.cfg, protocol, func(v *rosterView, shown presented) error {
		p = shown
		return check(v, shown)
	}))
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	if err := awaitGreeting(ctx, conn); err != nil {
		return nil, fmt.Errorf("the server lets this node not in: %w", err)
	}
	if !d.links.settle(l, func(v *rosterView) bool { return check(v, p) == nil }) {
		return nil, errors.New("the roster changed meanwhile")
	}
	return conn, nil
}

// awaitGreeting reads the server's greeting. In TLS 1.3 a client is done with the
// handshake before the server has judged its certificate: only the greeting tells
// that what is sent next will be heard.
func awaitGreeting(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	got := make([]byte, len(greeting))
	_, err := io.ReadFull(conn, got)
	if !stop() {
		return ctx.Err()
	}
	if err == nil && string(got) != greeting {
		err = fmt.Errorf("it greets with %q", got)
	}
	return err
}

// generationOf names a certificate chain by its leaf.
func generationOf(chain [][]byte) string {
	if len(chain) == 0 {
		return "none"
	}
	sum := sha256.Sum256(chain[0])
	return hex.EncodeToString(sum[:8])
}

// DialRaft opens a Raft stream to the member of the roster with this address. The
// node that answers must be that very member: Raft counts servers by address, and
// two addresses that lead to one node would count it twice.
func (c *Client) DialRaft(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	nodeID := ""
	for _, m := range c.cfg.Gate.Roster().Members {
		if m.Address == address {
			nodeID = m.NodeID
		}
	}
	conn, err := c.dialer.dialNode(ctx, nodeID, address, protocolRaft, func(v *rosterView, p presented) error {
		// Elsewhere too it must be that member.
		if m, ok := v.members[p.id.NodeID]; ok && m.Address != address {
			return fmt.Errorf("node %s answers at %s and belongs at %s", p.id.NodeID, address, m.Address)
		}
		return mayStream(v, p)
	})
	if err != nil {
		return nil, fmt.Errorf("open Raft stream to %s: %w", address, err)
	}
	return conn, nil
}
