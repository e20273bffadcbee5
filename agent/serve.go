package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"fleetmesh/agent/api"
	"fleetmesh/agent/peer"
	"fleetmesh/agent/worker"
)

// region is what ARNs and scripts are told where no request names another.
const region = "mesh-1"

// Limits of the API's HTTP servers. A request may be held for 20 s by an operation
// that waits, and then 5 s more without a leader.
const (
	apiReadHeader = 10 * time.Second
	apiRead       = 30 * time.Second
	apiWrite      = 60 * time.Second
	apiIdle       = 2 * time.Minute
	apiHeaderMax  = 32 << 10
	// apiStreams is how many requests one HTTP/2 connection has at once; a client
	// with more waits, or opens another.
	apiStreams = 64
)

func (a *Agent) openWorker() error {
	facts := nodeFacts(a.config)
	opened, err := worker.Open(worker.Config{
		Dir: a.dir.jobs(), NodeID: a.identity.NodeID(), Served: a.gate.Term() > 0,
		Executor: worker.Executor{
			MaxRunning: a.config.DocumentsAtOnce, OutputLimit: a.config.OutputLimit,
			OutputRetention: time.Duration(a.config.OutputRetention), OutputSpace: a.config.OutputSpace, FreeSpace: a.config.FreeSpace, SpareShim: a.config.SpareShim,
			BootIDFile: a.config.BootIDFile, PowerShell: a.config.PowerShell,
		},
		Reboot: worker.Reboot{
			Command: a.config.RebootCommand, Grace: time.Duration(a.config.RebootGrace), Timeout: time.Duration(a.config.RebootTimeout),
		},
		Environment: worker.Environment{Region: region, PlatformName: facts.PlatformName, PlatformVersion: facts.PlatformVersion},
		Report: func(ctx context.Context, reports []peer.JobReport) ([]string, error) {
			response, err := a.client.Report(ctx, &peer.ReportRequest{Reports: reports})
			if err != nil {
				return nil, err
			}
			return response.Unknown, nil
		},
		Unfit: a.fullDisk,
		Log:   a.log.With("part", "worker"), Now: a.clock.Own,
	})
	if err != nil {
		return fmt.Errorf("open the worker: %w", err)
	}
	a.worker = opened
	return nil
}

func (a *Agent) faceConfig() api.Config {
	return api.Config{
		NodeID: a.identity.NodeID(), Version: Version,
		Store: func() api.Store {
			if store := a.store(); store != nil {
				return store
			}
			return nil
		},
		Forward: a.client.Forward, Peers: a.client,
		Storeless: func() map[string]string {
			a.holdingMu.RLock()
			defer a.holdingMu.RUnlock()
			if a.holding == nil {
				return nil
			}
			return a.holding.leader.Storeless()
		},
		Members: a.members, Roster: a.gate.Roster, MeshKey: a.identity.MeshKey,
		AuditFile: a.dir.auditFile(),
		Documents: a.config.DocumentLimit, DocumentVersions: a.config.DocumentVersionLimit,
		Windows: a.config.WindowLimit, WindowTasks: a.config.WindowTaskLimit, WindowTargets: a.config.WindowTargetLimit,
		PatchStaleAfter: time.Duration(a.config.PatchStaleAfter),
		Log:             a.log.With("part", "api"), Now: a.clock.Now, Clock: a.clock,
	}
}

func (a *Agent) members() []api.Member {
	g := a.gossip.Load()
	if g == nil {
		return nil
	}
	// Gossip goes by this machine's clock, and whoever asks by the mesh's.
	shift := a.clock.Now().Sub(a.clock.Own())
	var members []api.Member
	for _, m := range g.Members() {
		members = append(members, api.Member{
			NodeID: m.NodeID, Address: m.Address, GossipAddress: m.GossipAddress, Version: m.Version,
			Voter: m.Voter, DiskFull: m.DiskFull, Alive: m.Alive, LastSeen: m.LastSeen.Add(shift), Tags: m.Tags,
		})
	}
	return members
}

// serveAPI starts answering clients, on the TLS port and on the local socket.
func (a *Agent) serveAPI() error {
	errorLog := slog.NewLogLogger(a.log.With("part", "api").Handler(), slog.LevelDebug)
	server := func(handler http.Handler) *http.Server {
		return &http.Server{
			Handler: handler, ErrorLog: errorLog, MaxHeaderBytes: apiHeaderMax,
			HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: apiStreams},
			ReadHeaderTimeout: apiReadHeader, ReadTimeout: apiRead, WriteTimeout: apiWrite, IdleTimeout: apiIdle,
		}
	}
	socket, err := listenSocket(a.config.SocketPath())
	if err != nil {
		return err
	}
	a.apiServer = server(a.face)
	a.socketServer = server(http.HandlerFunc(a.face.ServeLocal))
	for _, part := range []struct {
		server   *http.Server
		listener net.Listener
	}{{a.apiServer, a.server.API()}, {a.socketServer, socket}} {
		a.spawn(func() {
			if err := part.server.Serve(part.listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				a.fail(fmt.Errorf("serve the API on %s: %w", part.listener.Addr(), err))
			}
		})
	}
	return nil
}

// listenSocket makes the local socket, for this process's user only: whoever can
// connect is root of this node.
func listenSocket(path string) (net.Listener, error) {
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("%w: the socket's path has %d characters and the kernel takes %d; give --socket with a shorter one", ErrConfig, len(path), len(unix.RawSockaddrUnix{}.Path)-1)
	}
	// The directory's lock is held: a socket that is there is a dead meshd's.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the local socket: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the local socket: %w", err)
	}
	// Bound under another name and renamed once it is private: at no moment can
	// another user connect.
	staging := path + ".new"
	if len(staging) >= len(unix.RawSockaddrUnix{}.Path) {
		staging = filepath.Join(filepath.Dir(path), ".n")
	}
	if err := os.Remove(staging); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the local socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: staging, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the local socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(staging, 0o600)
	if err == nil {
		err = os.Rename(staging, path)
	}
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("make the local socket: %w", err)
	}
	return &socketListener{UnixListener: listener, path: path}, nil
}

// socketListener admits the daemon's own user and root, and removes the socket
// at the end.
type socketListener struct {
	*net.UnixListener
	path string
}

// Accept skips callers that are neither root nor this process's user, should the
// file's mode ever be changed under it.
func (l *socketListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := callerUID(conn); err == nil && (uid == 0 || int(uid) == os.Getuid()) {
			return conn, nil
		}
		conn.Close()
	}
}

func callerUID(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var credentialsErr error
	if err := raw.Control(func(fd uintptr) {
		credentials, credentialsErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credentialsErr != nil {
		return 0, credentialsErr
	}
	return credentials.Uid, nil
}

func (l *socketListener) Close() error {
	os.Remove(l.path)
	return l.UnixListener.Close()
}
