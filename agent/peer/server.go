package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// handshakeTime bounds accept to the end of the handshake, and then the wait
	// for the part that takes the connection.
	handshakeTime = 20 * time.Second
	// maxHandshakes and maxHandshakesPerSource bound connections that have proved
	// nothing yet. A source beyond its share is closed at once, so that one that
	// opens and says nothing cannot keep others out; all together make accept wait.
	maxHandshakes          = 4096
	maxHandshakesPerSource = 1024
	// maxLinksPerCaller bounds one key's connections to the peer routes.
	maxLinksPerCaller = 512
	// maxLinksPerClient bounds one source's connections to the API, which has proved
	// nothing when it has a connection. A proxy before many clients is one source.
	maxLinksPerClient = 512

	headerTime   = 20 * time.Second
	maxHeader    = 32 << 10
	idleTime     = 15 * time.Minute // longer than the client's, so that the client ends idle connections
	acceptPause  = 50 * time.Millisecond
	closingGrace = 3 * time.Second
	// lingerTime bounds the goodbye to a client that speaks plain HTTP.
	lingerTime = 500 * time.Millisecond
)

// Server is a node's TLS port: the API, the peers and Raft.
type Server struct {
	cfg      Config
	tls      *tls.Config
	listener net.Listener
	links    *links
	refused  *refusedLog
	routes   *routes
	http     *http.Server
	peers    *handoff
	api      *handoff
	raft     *handoff

	handshakes chan struct{}
	sourcesMu  sync.Mutex
	sources    map[string]int // pending handshakes by source host

	freshMu sync.Mutex
	fresh   map[net.Conn]struct{} // peers' connections before their first call

	// closing is closed first; cancel then ends the contexts of handlers.
	closing   chan struct{}
	cancel    context.CancelFunc
	closeOnce sync.Once
	closeErr  error
	running   sync.WaitGroup
}

// Listen opens the port and serves until Close. Handlers may be called before it
// returns.
func Listen(addr string, cfg Config, h Handlers) (*Server, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive()}
	listener, err := config.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for API, peers and Raft: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		cfg: cfg, tls: serverTLS(cfg), listener: listener,
		links: newLinks(cfg.Gate), refused: newRefusedLog(cfg.Log), routes: newRoutes(cfg, h),
		peers: newHandoff(listener.Addr()), api: newHandoff(listener.Addr()), raft: newHandoff(listener.Addr()),
		handshakes: make(chan struct{}, maxHandshakes), sources: make(map[string]int), fresh: make(map[net.Conn]struct{}),
		closing: make(chan struct{}), cancel: cancel,
	}
	s.http = &http.Server{
		Handler:           s.routes,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, streamKey{}, conn)
		},
		ConnState: s.trackFresh,
		// What net/http has to say of peers' connections: broken ones, and the
		// stack of a handler that panicked after routes has logged it.
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	cfg.Gate.Subscribe(s.links.recheck)
	s.running.Go(s.accept)
	s.running.Go(func() {
		if err := s.http.Serve(s.peers); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			cfg.Log.Error("serve peers", "error", err)
		}
	})
	return s, nil
}

// Addr is the port's address.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// API yields clients' connections after their handshake, as *tls.Conn with h2 or
// http/1.1 agreed on, or nothing. An http.Server without a TLSConfig serves both.
func (s *Server) API() net.Listener { return s.api }

// Raft yields streams from voters and stand-bys after their handshake. They are
// cut when the roster drops the key.
func (s *Server) Raft() net.Listener { return s.raft }

// Close lets calls in flight end for a few seconds, then cuts all connections and
// waits for every goroutine, handlers included. It may be called again.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.closeErr = s.listener.Close()
		_ = s.api.Close()
		_ = s.raft.Close()
		_ = s.peers.Close()
		s.closeFresh()
		drain, stop := context.WithTimeout(context.Background(), closingGrace)
		defer stop()
		if err := s.http.Shutdown(drain); err != nil {
			_ = s.http.Close()
		}
		s.cancel()
		s.links.close()
		s.routes.wait()
	})
	s.running.Wait()
	return s.closeErr
}

// accept runs until the listener closes.
func (s *Server) accept() {
	for {
		select {
		case s.handshakes <- struct{}{}:
		case <-s.closing:
			return
		}
		conn, err := s.listener.Accept()
		if err != nil {
			<-s.handshakes
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, mostly: it passes when others close.
			s.refused.refused(nil, err.Error(), s.cfg.now())
			select {
			case <-time.After(acceptPause):
			case <-s.closing:
				return
			}
			continue
		}
		l, ok := s.links.add(conn)
		if !ok {
			<-s.handshakes
			continue
		}
		source := hostOf(conn.RemoteAddr())
		if !s.takeSource(source) {
			<-s.handshakes
			s.refused.refused(conn.RemoteAddr(), "too many connections that say nothing", s.cfg.now())
			_ = l.Close()
			continue
		}
		s.running.Go(func() {
			secured, err := s.handshake(l)
			s.leaveSource(source)
			<-s.handshakes
			if err != nil {
				s.refuse(l, err)
				return
			}
			s.dispatch(l, secured)
		})
	}
}

// trackFresh and closeFresh end connections that never carried a call: Shutdown
// would wait for one.
func (s *Server) trackFresh(conn net.Conn, state http.ConnState) {
	s.freshMu.Lock()
	defer s.freshMu.Unlock()
	if state == http.StateNew {
		s.fresh[conn] = struct{}{}
	} else {
		delete(s.fresh, conn)
	}
}

func (s *Server) closeFresh() {
	s.freshMu.Lock()
	defer s.freshMu.Unlock()
	for conn := range s.fresh {
		// Cut below TLS: the goodbye of TLS could block.
		_ = conn.(*stream).link.Close()
	}
}

func (s *Server) handshake(l *link) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	conn := tls.Server(l, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// refuse closes a connection whose handshake failed: the alert is out already.
func (s *Server) refuse(l *link, err error) {
	defer l.Close()
	select {
	case <-s.closing:
		return
	default:
	}
	if errors.Is(err, io.EOF) {
		return // somebody looked whether the port is open
	}
	if removed := (removedError{}); errors.As(err, &removed) && s.cfg.OnRemoved != nil {
		s.cfg.OnRemoved(removed.nodeID, hostOf(l.RemoteAddr()))
	}
	why := err.Error()
	var header tls.RecordHeaderError
	if errors.As(err, &header) {
		why = "it does not speak TLS"
		if looksLikeHTTP(header.RecordHeader) {
			why = "it speaks HTTP without TLS"
			_ = l.SetWriteDeadline(time.Now().Add(lingerTime))
			_, _ = io.WriteString(l, "HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nThis port speaks HTTPS only.\n")
			drain(l)
		}
	}
	s.refused.refused(l.RemoteAddr(), why, s.cfg.now())
}

// drain reads what the client still sends before the connection is closed;
// without it the kernel could throw our answer away together with what is unread.
func drain(l *link) {
	if tcp, ok := l.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
		_ = tcp.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, tcp, maxHeader)
	}
}

func looksLikeHTTP(start [5]byte) bool {
	switch string(start[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH", "CONNE":
		return true
	}
	return false
}

// dispatch hands a connection to the part that its protocol names.
func (s *Server) dispatch(l *link, conn *tls.Conn) {
	timeout, cancel := context.WithTimeout(context.Background(), handshakeTime)
	defer cancel()
	state := conn.ConnectionState()
	switch state.NegotiatedProtocol {
	case protocolPeer, protocolRaft:
	default:
		source := "client " + hostOf(l.RemoteAddr()) // no key has this form
		if !s.links.settleCaller(l, source, maxLinksPerClient, func(*rosterView) bool { return true }) {
			s.refused.refused(l.RemoteAddr(), "too many connections to the API", s.cfg.now())
			_ = l.Close()
			return
		}
		s.api.deliver(conn, timeout.Done())
		return
	}
	// Verified in the handshake; read again because only the certificate is kept.
	p, err := present(s.cfg.Credentials.CA(), s.cfg.Gate.meshID, state.PeerCertificates, s.cfg.now())
	if err != nil {
		s.refuse(l, err)
		return
	}
	remote := &stream{Conn: conn, link: l, peer: p, since: s.cfg.now()}
	if state.NegotiatedProtocol == protocolRaft {
		if !s.links.settle(l, func(v *rosterView) bool { return mayStream(v, p) == nil }) {
			_ = l.Close()
			return
		}
		if s.greet(conn) {
			s.raft.deliver(remote, timeout.Done())
		}
		return
	}
	voter := false
	judge := func(v *rosterView) bool {
		was := voter
		voter = v.isVoter(p.id)
		// A voter that is one no more starts afresh, as what it is now.
		return mayConnect(v, p) == nil && (voter || !was)
	}
	if !s.links.settleCaller(l, p.id.PublicKey, maxLinksPerCaller, judge) {
		s.refused.refused(l.RemoteAddr(), "node "+p.id.NodeID+" was removed or has too many connections", s.cfg.now())
		_ = l.Close()
		return
	}
	if s.greet(conn) {
		s.peers.deliver(remote, timeout.Done())
	}
}

// greet tells a caller that it is in; a connection that cannot be written to is
// closed.
func (s *Server) greet(conn *tls.Conn) bool {
	err := conn.SetWriteDeadline(time.Now().Add(handshakeTime))
	if err == nil {
		_, err = io.WriteString(conn, greeting)
	}
	if err == nil {
		err = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
	}
	return err == nil
}

func (s *Server) takeSource(host string) bool {
	s.sourcesMu.Lock()
	defer s.sourcesMu.Unlock()
	if s.sources[host] >= maxHandshakesPerSource {
		return false
	}
	s.sources[host]++
	return true
}

func (s *Server) leaveSource(host string) {
	s.sourcesMu.Lock()
	defer s.sourcesMu.Unlock()
	if s.sources[host]--; s.sources[host] == 0 {
		delete(s.sources, host)
	}
}

func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

// stream is a mesh connection after its handshake. It hides the *tls.Conn, so
// that net/http serves what comes out of it as plain HTTP/1.1 and does not look
// at the protocol's name.
type stream struct {
	net.Conn
	link  *link
	peer  presented
	since time.Time
}

// streamKey finds the connection's stream in a request's context.
type streamKey struct{}
