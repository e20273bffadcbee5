package peer

import (
	"net"
	"sync"
)

// handoff is a net.Listener whose connections come from the server's one
// listener, after their handshake.
type handoff struct {
	addr     net.Addr
	incoming chan net.Conn
	done     chan struct{}
	once     sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, incoming: make(chan net.Conn), done: make(chan struct{})}
}

// deliver hands a connection to Accept. It is closed, and the result false, when
// the listener is closed, or when nobody accepts until giveUp is ready.
func (h *handoff) deliver(conn net.Conn, giveUp <-chan struct{}) bool {
	select {
	case h.incoming <- conn:
		return true
	case <-h.done:
	case <-giveUp:
	}
	_ = conn.Close()
	return false
}

// Accept implements net.Listener.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case <-h.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-h.incoming:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. The port stays open for the others.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handoff) Addr() net.Addr { return h.addr }
