package agent

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"fleetmesh/agent/peer"
)

// raftStreams hands Raft's incoming connections to the store that is open at the
// moment. The listener outlives stores: a node may be promoted and demoted many
// times. Its goroutine is owned by the agent and ends with the listener.
type raftStreams struct {
	listener net.Listener
	client   *peer.Client

	mu      sync.Mutex
	current *raftStream
}

// serve accepts until the listener closes. Connections that come while no store
// is open are closed: the other side tries again.
func (s *raftStreams) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		stream := s.current
		s.mu.Unlock()
		if stream == nil || !stream.deliver(conn) {
			conn.Close()
		}
	}
}

// open returns the stream layer for a store; the store closes it.
func (s *raftStreams) open() *raftStream {
	stream := &raftStream{owner: s, incoming: make(chan net.Conn), closed: make(chan struct{})}
	s.mu.Lock()
	s.current = stream
	s.mu.Unlock()
	return stream
}

// raftStream implements raft.StreamLayer for one store.
type raftStream struct {
	owner    *raftStreams
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (s *raftStream) deliver(conn net.Conn) bool {
	select {
	case s.incoming <- conn:
		return true
	case <-s.closed:
		return false
	}
}

// Accept implements net.Listener.
func (s *raftStream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.incoming:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *raftStream) Close() error {
	s.once.Do(func() {
		s.owner.mu.Lock()
		if s.owner.current == s {
			s.owner.current = nil
		}
		s.owner.mu.Unlock()
		close(s.closed)
	})
	return nil
}

// Addr implements net.Listener.
func (s *raftStream) Addr() net.Addr { return s.owner.listener.Addr() }

// Dial implements raft.StreamLayer.
func (s *raftStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.owner.client.DialRaft(ctx, string(address))
}
