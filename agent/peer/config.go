package peer

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/internal/clock"
	"fleetmesh/internal/pki"
)

// ALPN protocols of the mesh. What offers neither is a client of the API.
const (
	protocolPeer = "mesh-peer/1"
	protocolRaft = "mesh-raft/1"

	// greeting is what a server sends first in both, once it has let the caller
	// in. A caller that has not read it has reached nobody.
	greeting = "ready\n"
)

// Credentials are this node's, as they are at the moment of asking: a renewal
// changes them while connections are open.
type Credentials interface {
	// Certificate is the chain with its key, the node's certificate first, then
	// the CA's.
	Certificate() (*tls.Certificate, error)
	CA() *x509.Certificate
	// Identity is what the certificate says.
	Identity() pki.Identity
}

// Config is what server and client of one node share.
type Config struct {
	Credentials Credentials
	Gate        *Gate
	Log         *slog.Logger
	// Now is the clock that certificates are judged by; nil is the system's.
	Now func() time.Time
	// OnRemoved is told of a node that was removed from the mesh and calls all the
	// same, from a host. It must be quick. It may be nil.
	OnRemoved func(nodeID, host string)
	// Where is the address at which a node was last heard of, "" when nowhere: it is
	// tried too where a node should be elsewhere. Who answers there must prove who it
	// is, as everywhere. It may be nil.
	Where func(nodeID string) (address string)
	// Clock learns from calls what other nodes' clocks say, and the mesh's time. It
	// may be nil.
	Clock *clock.Clock
}

func (c Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

const (
	// maxRequest bounds a request's body, in bytes.
	maxRequest = 4 << 20
	// maxResponse bounds an answer's body: more than maxRequest, because an answer
	// of the API may carry 1 MiB of output encoded twice in base64.
	maxResponse = 8 << 20
)

// keepAlive finds a peer that is gone without a word within half a minute.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
}

// userTimeout is how long sent bytes may stay without the other kernel's answer.
// Shorter finds a machine that lost power sooner; longer survives longer gaps of
// the network.
const userTimeout = 10 * time.Second

// setUserTimeout is a net.Dialer.Control. A kernel that does not know the option
// leaves the connection as it is.
func setUserTimeout(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
}
