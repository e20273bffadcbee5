package peer

import (
	"net"
	"sync"

	"fleetmesh/raftstore"
)

// links is the set of a server's or client's open connections. Each one whose
// peer is known has a judge; a change of the roster asks them all and cuts the
// connections whose standing is gone.
type links struct {
	gate *Gate

	mu      sync.Mutex
	all     map[*link]struct{}
	callers map[string]int // connections by link.callerKey
	closed  bool
}

// link is one TCP connection below TLS. Closing it, from whichever side, takes it
// out of the set.
type link struct {
	net.Conn
	set *links
	// judge says whether the connection may go on under a roster. It is nil until
	// the handshake is over; guarded by set.mu, called with it held.
	judge func(*rosterView) bool
	// callerKey counts the connection against its caller; guarded by set.mu.
	callerKey string
}

func newLinks(gate *Gate) *links {
	return &links{gate: gate, all: make(map[*link]struct{}), callers: make(map[string]int)}
}

// add takes a new connection in; it is closed, and ok false, when the set is
// closed.
func (s *links) add(conn net.Conn) (l *link, ok bool) {
	l = &link{Conn: conn, set: s}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = conn.Close()
		return nil, false
	}
	s.all[l] = struct{}{}
	s.mu.Unlock()
	return l, true
}

// settle gives a connection its judge and asks it at once. The roster is read
// with the set locked, as recheck does: a change of the roster either is seen
// here or finds the connection in the set with its judge.
func (s *links) settle(l *link, judge func(*rosterView) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.judge = judge
	return judge(s.gate.view.Load())
}

// settleCaller is settle with a bound on the connections of one caller.
func (s *links) settleCaller(l *link, key string, most int, judge func(*rosterView) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.all[l]; !open || s.callers[key] >= most {
		return false
	}
	l.judge, l.callerKey = judge, key
	s.callers[key]++
	return judge(s.gate.view.Load())
}

// recheck cuts what the roster in force no longer allows. It subscribes to the
// gate, whose new roster is in force when it runs.
func (s *links) recheck(raftstore.Roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	view := s.gate.view.Load()
	for l := range s.all {
		if l.judge != nil && !l.judge(view) {
			// The TCP connection, not TLS: nothing is sent that could block.
			_ = l.Conn.Close()
			s.drop(l)
		}
	}
}

// close cuts all connections and lets none in any more.
func (s *links) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for l := range s.all {
		_ = l.Conn.Close()
		s.drop(l)
	}
}

// drop forgets a connection, once. Callers hold s.mu.
func (s *links) drop(l *link) {
	if _, open := s.all[l]; !open {
		return
	}
	delete(s.all, l)
	if l.callerKey == "" {
		return
	}
	if s.callers[l.callerKey]--; s.callers[l.callerKey] == 0 {
		delete(s.callers, l.callerKey)
	}
}

// Close implements net.Conn.
func (l *link) Close() error {
	l.set.mu.Lock()
	l.set.drop(l)
	l.set.mu.Unlock()
	return l.Conn.Close()
}
