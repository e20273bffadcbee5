package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// dialLimit bounds a dial within StreamTimeout: silent addresses must not
	// hold a reconnect attempt for long.
	dialLimit = 3 * time.Second
	// maxStreams bounds the streams open from others; more are closed at once.
	maxStreams = 128
	// udpBuffer is asked of the kernel, which may give less.
	udpBuffer = 2 << 20

	// What a stream must begin with, after the label: the byte "encrypted", the
	// length, and the encryption version.
	encryptMsg        = 10
	encryptionVersion = 1
	streamHeader      = 6
	// encryptionOverhead is what encryption adds; a stream that says it holds no
	// more than that is empty, which memberlist does not survive.
	encryptionOverhead = 29
)

// transport is memberlist's network. Compared with memberlist's own it keeps the
// cause of a bind error, copies each packet into a buffer of its size, closes
// every stream at shutdown, and looks at what comes in before memberlist does:
// label (the mesh id) and encryption must be as this mesh has them.
type transport struct {
	ip      netip.Addr
	port    int
	mesh    string
	timeout time.Duration
	cut     func(address string) bool
	speaker *speaker

	tcp     *net.TCPListener
	udp     *net.UDPConn
	packets chan *memberlist.Packet
	streams chan net.Conn

	// ctx ends everything; dialCtx, within it, only what this node began.
	ctx      context.Context
	stop     context.CancelFunc
	dialCtx  context.Context
	stopDial context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	opened map[*trackedConn]struct{}
	// accepted counts those of opened that others dialled.
	accepted int
}

// trackedConn leaves the transport's list when it is closed.
type trackedConn struct {
	net.Conn
	owner    *transport
	accepted bool
	once     sync.Once
}

func (c *trackedConn) Close() error {
	c.once.Do(func() { c.owner.forget(c) })
	return c.Conn.Close()
}

// prefixConn gives back the bytes that were looked at.
type prefixConn struct {
	net.Conn
	prefix []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	if len(c.prefix) > 0 {
		n := copy(p, c.prefix)
		c.prefix = c.prefix[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// listen binds TCP and UDP to the same port.
func listen(ip netip.Addr, config *Config, speaker *speaker) (*transport, error) {
	t := &transport{
		ip:      ip,
		mesh:    config.MeshID,
		timeout: config.Timings.StreamTimeout,
		cut:     config.Cut,
		speaker: speaker,
		packets: make(chan *memberlist.Packet),
		streams: make(chan net.Conn),
		opened:  make(map[*trackedConn]struct{}),
	}
	// A free TCP port may be taken for UDP, so port 0 is tried a few times.
	attempts := 1
	if config.Port == 0 {
		attempts = 10
	}
	var err error
	for range attempts {
		if err = t.bind(config.Port); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	// The kernel's default does for a small mesh, so a refusal is no error.
	_ = t.udp.SetReadBuffer(udpBuffer)
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.dialCtx, t.stopDial = context.WithCancel(t.ctx)
	t.wg.Go(t.readPackets)
	t.wg.Go(t.acceptStreams)
	return t, nil
}

func (t *transport) bind(port int) error {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.ip, uint16(port))))
	if err != nil {
		return bindError("TCP", t.ip, port, err)
	}
	port = tcp.Addr().(*net.TCPAddr).Port
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.ip, uint16(port))))
	if err != nil {
		return errors.Join(bindError("UDP", t.ip, port, err), tcp.Close())
	}
	t.tcp, t.udp, t.port = tcp, udp, port
	return nil
}

func bindError(network string, ip netip.Addr, port int, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("gossip: %s port %d on %s is in use by another process (is another meshd running? choose another port or address): %w", network, port, ip, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("gossip: %s is not an address of this machine: %w", ip, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("gossip: not permitted to listen on %s port %d of %s: %w", network, port, ip, err)
	}
	return fmt.Errorf("gossip: listen on %s port %d of %s: %w", network, port, ip, err)
}

func (t *transport) address() string { return netip.AddrPortFrom(t.ip, uint16(t.port)).String() }

// FinalAdvertiseAddr tells others the address that is bound.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.ip.AsSlice(), t.port, nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

func (t *transport) WriteTo(b []byte, address string) (time.Time, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip packet: %w", err)
	}
	if t.cut(address) {
		return time.Now(), nil
	}
	_, err = t.udp.WriteToUDPAddrPort(b, to)
	return time.Now(), err
}

func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, to.Addr)
}

var errCut = errors.New("connection cut for a test")

func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	if t.cut(address) {
		return nil, errCut
	}
	dialer := net.Dialer{Timeout: min(timeout, dialLimit)}
	conn, err := dialer.DialContext(t.dialCtx, "tcp", address)
	if err != nil {
		return nil, err
	}
	tracked, err := t.track(conn, false)
	if err != nil {
		return nil, err
	}
	return tracked, nil
}

func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(to.Addr, timeout)
}

var errTooManyStreams = errors.New("too many streams")

// track closes conn when it cannot be taken.
func (t *transport) track(conn net.Conn, accepted bool) (*trackedConn, error) {
	c := &trackedConn{Conn: conn, owner: t, accepted: accepted}
	t.mu.Lock()
	ctx := t.ctx
	if !accepted {
		ctx = t.dialCtx
	}
	err := ctx.Err()
	if err == nil && accepted && t.accepted >= maxStreams {
		err = errTooManyStreams
	}
	if err == nil {
		t.opened[c] = struct{}{}
		if accepted {
			t.accepted++
		}
	}
	t.mu.Unlock()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (t *transport) forget(c *trackedConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.opened[c]; ok {
		delete(t.opened, c)
		if c.accepted {
			t.accepted--
		}
	}
}

// endDials ends what this node has begun with others, so that nobody waits for a
// silent one; packets go on.
func (t *transport) endDials() {
	t.stopDial()
	t.closeStreams(false)
}

// Shutdown ends everything and waits for it; memberlist calls it.
func (t *transport) Shutdown() error {
	t.stop()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.closeStreams(true)
	t.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (t *transport) closeStreams(all bool) {
	t.mu.Lock()
	var conns []*trackedConn
	for c := range t.opened {
		if all || !c.accepted {
			conns = append(conns, c)
		}
	}
	t.mu.Unlock()
	for _, c := range conns {
		// Nobody is interested any more in how it ends.
		_ = c.Close()
	}
}

// pause waits a little after an error of a socket, so that one that stays does
// not spin; false when the transport ends.
func (t *transport) pause() bool {
	select {
	case <-t.ctx.Done():
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}

func (t *transport) readPackets() {
	buffer := make([]byte, 65536)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buffer)
		at := time.Now()
		if err != nil {
			if t.ctx.Err() != nil || !t.pause() {
				return
			}
			t.speaker.sayRarely("udp read", slog.LevelWarn, "gossip: read packet", "error", err)
			continue
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		rest, label, err := memberlist.RemoveLabelHeaderFromPacket(buffer[:n])
		if err != nil || !t.ours(label, from.Addr().String()) {
			continue
		}
		if len(rest) < 1+encryptionOverhead || rest[0] != encryptionVersion {
			t.refuse(from.Addr().String(), "it is not encrypted")
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte(nil), rest...), From: net.UDPAddrFromAddrPort(from), Timestamp: at}
		select {
		case t.packets <- packet:
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *transport) acceptStreams() {
	for {
		conn, err := t.tcp.AcceptTCP()
		if err != nil {
			if t.ctx.Err() != nil || !t.pause() {
				return
			}
			t.speaker.sayRarely("tcp accept", slog.LevelWarn, "gossip: accept stream", "error", err)
			continue
		}
		tracked, err := t.track(conn, true)
		if err != nil {
			t.speaker.sayRarely("streams", slog.LevelWarn, "gossip: stream refused", "error", err)
			continue
		}
		t.wg.Go(func() { t.openStream(tracked) })
	}
}

// openStream reads the beginning of a stream and hands it on, or closes it.
func (t *transport) openStream(tracked *trackedConn) {
	from, _, _ := net.SplitHostPort(tracked.RemoteAddr().String())
	conn, err := t.checkStream(tracked, from)
	if err != nil {
		t.speaker.say(slog.LevelDebug, "gossip stream refused", "from", from, "error", errors.Join(err, tracked.Close()))
		return
	}
	select {
	case t.streams <- conn:
	case <-t.ctx.Done():
	}
}

var errRefused = errors.New("refused")

func (t *transport) checkStream(tracked *trackedConn, from string) (net.Conn, error) {
	if err := tracked.SetDeadline(time.Now().Add(t.timeout)); err != nil {
		return nil, err
	}
	conn, label, err := memberlist.RemoveLabelHeaderFromStream(tracked)
	if err != nil {
		return nil, err
	}
	if label != "" && !t.ours(label, from) {
		return nil, errRefused
	}
	// One that gives up before it has said anything is no stranger.
	header := make([]byte, streamHeader)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	if label == "" {
		t.refuse(from, "it names no mesh")
		return nil, errRefused
	}
	if header[0] != encryptMsg || header[streamHeader-1] != encryptionVersion {
		t.refuse(from, "it is not encrypted")
		return nil, errRefused
	}
	if binary.BigEndian.Uint32(header[1:]) <= encryptionOverhead {
		return nil, errRefused
	}
	return &prefixConn{Conn: conn, prefix: header}, nil
}

func (t *transport) ours(label, from string) bool {
	switch label {
	case t.mesh:
		return true
	case "":
		t.refuse(from, "it names no mesh")
	default:
		t.speaker.sayRarely("mesh "+from, slog.LevelWarn, "gossip refused: it belongs to another mesh",
			"from", from, "its_mesh", label, "this_mesh", t.mesh)
	}
	return false
}

func (t *transport) refuse(from, why string) {
	t.speaker.sayRarely("refuse "+from, slog.LevelWarn, "gossip refused: "+why, "from", from)
}
