package raftstore

import (
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ownedStream is the configured stream layer with this server's public address,
// and with an owner for every connection: Raft's transport leaves its incoming
// ones open when it closes.
type ownedStream struct {
	raft.StreamLayer
	address streamAddress

	mu     sync.Mutex
	closed bool
	open   map[*ownedConn]struct{}
	// handlers counts incoming connections that Raft has not let go of.
	handlers sync.WaitGroup
}

// streamAddress is host:port as configured.
type streamAddress string

func (a streamAddress) Network() string { return "tcp" }
func (a streamAddress) String() string  { return string(a) }

// ownedConn tells its stream when Raft lets go of it.
type ownedConn struct {
	net.Conn
	once sync.Once
	gone func()
}

func (c *ownedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.gone)
	return err
}

func newOwnedStream(cfg Config) *ownedStream {
	return &ownedStream{StreamLayer: cfg.Stream, address: streamAddress(cfg.Address), open: map[*ownedConn]struct{}{}}
}

// Addr implements net.Listener: the address that the other servers know.
func (s *ownedStream) Addr() net.Addr { return s.address }

// Accept implements net.Listener.
func (s *ownedStream) Accept() (net.Conn, error) {
	conn, err := s.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	return s.own(conn, true)
}

// Dial implements raft.StreamLayer.
func (s *ownedStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := s.StreamLayer.Dial(address, timeout)
	if err != nil {
		return nil, err
	}
	return s.own(conn, false)
}

func (s *ownedStream) own(conn net.Conn, incoming bool) (net.Conn, error) {
	owned := &ownedConn{Conn: conn}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	s.open[owned] = struct{}{}
	if incoming {
		s.handlers.Add(1)
	}
	owned.gone = func() {
		s.mu.Lock()
		delete(s.open, owned)
		s.mu.Unlock()
		if incoming {
			s.handlers.Done()
		}
	}
	return owned, nil
}

// closeConnections ends all connections, now and to come. Raft's transport then
// fails to read from an incoming one and lets go of it, which handlers waits for.
func (s *ownedStream) closeConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.open {
		conn.Conn.Close()
	}
}
