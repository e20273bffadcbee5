package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"fleetmesh/agent"
	"fleetmesh/agent/meshapi"
	"fleetmesh/gossip"
	"fleetmesh/internal/pki"
)

// scaleCommand is the first argument of a process that is a whole mesh.
const scaleCommand = "scale"

// scaleRuns on all at once follow the first run, and then scaleDefaultRuns with the
// default MaxConcurrency.
const scaleRuns, scaleDefaultRuns = 5, 2

// scaleFiles is how many files a process with a whole mesh may open.
const scaleFiles = 200_000

// scalePatience is how long a thousand nodes may take to come up.
const scalePatience = 10 * time.Minute

// crowd is a mesh in this process.
type crowd struct {
	mesh   *mesh // for its clients; it starts no process
	agents []*agent.Agent
	gossip gossip.Timings
	voters int
	log    io.Writer
}

// slowGossipFrom nodes gossip with slowGossip.
const slowGossipFrom = 200

// slowGossip is a profile for hundreds of nodes that have two CPUs together instead
// of one each. With the default one they may send 15 packets a second each while
// there is news, which no two CPUs open; answers to probes are late, nodes are held
// failed for that, and the news of these keeps it so. Here there are three packets,
// larger ones than a real network takes, since it is the packets that cost, and
// whoever answers late is waited for.
var slowGossip = gossip.Timings{
	GossipInterval: time.Second, PacketSize: 8 << 10, RetransmitMult: 3,
	ProbeInterval: 10 * time.Second, ProbeTimeout: 5 * time.Second, SuspicionMult: 6,
	PushPullInterval: time.Minute, StreamTimeout: 30 * time.Second, JoinTimeout: 10 * time.Second,
}

// scaleMain runs a mesh of args[1] nodes in the directory args[0] and tells what it
// took.
func scaleMain(args []string) error {
	if len(args) != 2 {
		return errors.New("scale DIR NODES")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	// A thousand nodes have more files open than a process is usually given.
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: scaleFiles, Max: scaleFiles}) != nil {
		if err := raiseFileLimit(); err != nil {
			return err
		}
	}
	if err := raiseLoopback(); err != nil {
		return err
	}
	// A thread that starts a process keeps its place in Go's scheduler until the new
	// one runs. With one place for each CPU, a thousand starts would stop everything
	// else in this process, Raft's heartbeats too.
	runtime.GOMAXPROCS(8 * runtime.NumCPU())
	// Memory for CPU while the mesh comes up, as far as there is any; atRest takes
	// it back.
	debug.SetGCPercent(200)
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return fmt.Errorf("read the size of the memory: %w", err)
	}
	debug.SetMemoryLimit(int64(info.Totalram) * int64(info.Unit) / 2)
	result, err := runScale(context.Background(), args[0], n)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// raiseLoopback brings the loopback of a new network namespace up; elsewhere it is
// up already.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("look at the loopback: %w", err)
	}
	if request.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring the loopback up: %w", err)
	}
	return nil
}

func runScale(ctx context.Context, dir string, n int) (*scaleResult, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &crowd{mesh: &mesh{dir: dir, warm: map[*node]*client{}}, voters: agent.DefaultConfig().Voters, log: log}
	if n >= slowGossipFrom {
		c.gossip, c.voters = slowGossip, 1
	}
	defer c.close()
	r := &scaleResult{Nodes: n}
	began := time.Now()
	if err := c.up(ctx, n); err != nil {
		return nil, fmt.Errorf("%w; the log ends:\n%s", err, tail(log.Name()))
	}
	r.Up = seconds(time.Since(began))
	resident, _, err := memory(os.Getpid())
	if err != nil {
		return nil, err
	}
	progress(began, "all online; %.0f MiB resident, %d goroutines", resident, runtime.NumGoroutine())
	if err := pause(ctx, settled); err != nil {
		return nil, err
	}
	member := c.mesh.client(c.mesh.nodes[n-1])
	for i := range 1 + scaleRuns + scaleDefaultRuns {
		what := &command{script: floorCommand, maxConcurrency: "100%"}
		into := &r.Runs
		switch {
		case i == 0:
			into = &r.First
		case i > scaleRuns:
			what.maxConcurrency, into = "", &r.DefaultRuns
		}
		before, err := cpuTime(os.Getpid())
		if err != nil {
			return nil, err
		}
		took, err := member.run(ctx, what, n)
		if err != nil {
			return nil, fmt.Errorf("run %d: %w; the log ends:\n%s", i, err, tail(log.Name()))
		}
		after, err := cpuTime(os.Getpid())
		if err != nil {
			return nil, err
		}
		progress(began, "run %d took %s", i+1, took.Round(time.Millisecond))
		*into = append(*into, milliseconds(took))
		if i > 0 && i <= scaleRuns {
			r.RunCPU = append(r.RunCPU, milliseconds(after-before)/float64(n))
		}
		if err := pause(ctx, rest); err != nil {
			return nil, err
		}
	}
	if err := c.outputs(ctx, member, r); err != nil {
		return nil, err
	}
	if err := pause(ctx, settled); err != nil {
		return nil, err
	}
	return r, c.atRest(ctx, r)
}

// progress tells on standard error what has been reached: a large mesh takes minutes.
func progress(began time.Time, what string, args ...any) {
	fmt.Fprintf(os.Stderr, "%5.0f s: %s\n", time.Since(began).Seconds(), fmt.Sprintf(what, args...))
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-2000):])
}

func (c *crowd) open(n *node) error {
	running, err := agent.Open(n.config, slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelWarn})).With("node", n.name))
	if err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	c.agents = append(c.agents, running)
	return nil
}

func (c *crowd) close() {
	var group sync.WaitGroup
	for _, a := range c.agents {
		group.Go(func() { _ = a.Close() })
	}
	group.Wait()
}

// add lays a node out; 250 of them share the first three numbers of an address.
func (c *crowd) add() *node {
	i := len(c.mesh.nodes)
	n := &node{name: fmt.Sprintf("node%d", i+1), address: fmt.Sprintf("127.78.%d.%d", 1+i/250, 1+i%250)}
	n.dir = filepath.Join(c.mesh.dir, fmt.Sprintf("n%d", i+1))
	n.config = agent.DefaultConfig()
	n.config.DataDir, n.config.Bind, n.config.NodeName = n.dir, n.address, n.name
	n.config.SpareShim = false // the nodes share this process
	n.config.Gossip, n.config.Voters = c.gossip, c.voters
	c.mesh.nodes = append(c.mesh.nodes, n)
	return n
}

// up makes the mesh and brings it to n nodes that are online.
func (c *crowd) up(ctx context.Context, n int) error {
	began := time.Now()
	first := c.add()
	made, err := agent.Init(ctx, agent.InitOptions{Config: first.config, MeshName: "scale", Tags: benchTags})
	if err != nil {
		return err
	}
	first.id = made.NodeID
	data, err := os.ReadFile(made.AdminConfig)
	if err == nil {
		err = yaml.Unmarshal(data, &c.mesh.admin)
	}
	if err != nil {
		return fmt.Errorf("read the administrator's access: %w", err)
	}
	c.mesh.roots = x509.NewCertPool()
	c.mesh.roots.AppendCertsFromPEM([]byte(c.mesh.admin.CA))
	if err := c.open(first); err != nil {
		return err
	}
	if err := await(ctx, "the first node", func() error { _, err := c.mesh.status(ctx, first); return err }); err != nil {
		return err
	}
	for len(c.mesh.nodes) < n {
		// In groups: the news of one group has reached all before the next begins.
		// All at once, gossip of this many nodes on few CPUs takes its own delays for
		// failures, tells all about these, and never calms down.
		if err := c.grow(ctx, min(n, len(c.mesh.nodes)+growthGroup)); err != nil {
			return err
		}
		if len(c.mesh.nodes)%100 == 0 {
			progress(began, "%d nodes know each other", len(c.mesh.nodes))
		}
	}
	return await(ctx, "all online", func() error {
		status, err := c.mesh.status(ctx, first)
		if err == nil && status.Nodes.Online != n {
			err = fmt.Errorf("%d of %d online", status.Nodes.Online, n)
		}
		return err
	})
}

// growthGroup is how many nodes join between two looks whether all are known.
const growthGroup = 25

// grow enrols and opens nodes, up to n, and waits until the witnesses know them.
func (c *crowd) grow(ctx context.Context, n int) error {
	first := c.mesh.client(c.mesh.nodes[0])
	var out *meshapi.CreateActivationOutput
	// On few CPUs a thousand nodes may be without a leader for a moment.
	err := await(ctx, "an activation", func() (err error) {
		out, err = first.mesh.CreateActivation(ctx, &meshapi.CreateActivationInput{RegistrationLimit: n - len(c.mesh.nodes)})
		return err
	})
	if err != nil {
		return err
	}
	token, err := pki.ParseJoinToken(out.JoinToken)
	if err != nil {
		return err
	}
	for len(c.mesh.nodes) < n {
		next := c.add()
		err := await(ctx, "the enrolment of "+next.name, func() error {
			joined, err := agent.Join(ctx, agent.JoinOptions{Config: next.config, Token: token, Tags: benchTags})
			next.id = joined.NodeID
			return err
		})
		if err != nil {
			return err
		}
		if err := c.open(next); err != nil {
			return err
		}
	}
	var who []observer
	for i := range min(n, growthWitnesses) {
		node := c.mesh.nodes[(n-1)*i/growthWitnesses]
		who = append(who, observer{name: node.id, living: node.living()})
	}
	deadline := time.Now().Add(scalePatience)
	for len(who) > 0 {
		alive, err := who[0].living(ctx)
		if err == nil && len(alive) >= n {
			who = who[1:]
			continue
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s a node knows %d of %d: %v", scalePatience, len(alive), n, err)
		}
		if err := pause(ctx, growthPause); err != nil {
			return err
		}
	}
	return nil
}

// growthWitnesses are asked whether they know all before the next group joins.
const growthWitnesses = 8

// growthPause is the pause before a witness is asked again: its answer names all
// nodes.
const growthPause = 200 * time.Millisecond

// outputs runs a command for each size of output and notes which entries of Raft's
// log it came with. Nothing else is written meanwhile.
func (c *crowd) outputs(ctx context.Context, member *client, r *scaleResult) error {
	status, err := c.mesh.status(ctx, c.mesh.nodes[0])
	if err != nil {
		return err
	}
	for _, n := range c.mesh.nodes {
		if n.id == status.Leader {
			r.LeaderDir, r.LeaderID, r.LeaderAddress = n.dir, n.id, n.config.Address()
		}
	}
	for _, size := range outputSizes {
		what := &command{script: fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size), maxConcurrency: "100%"}
		before, err := c.index(ctx, member)
		if err != nil {
			return err
		}
		took, err := member.run(ctx, what, r.Nodes)
		if err != nil {
			return err
		}
		after, err := c.index(ctx, member)
		if err != nil {
			return err
		}
		r.Outputs = append(r.Outputs, scaleCommandResult{CommandID: member.last, First: before + 1, Last: after, Took: milliseconds(took)})
		if err := pause(ctx, rest); err != nil {
			return err
		}
	}
	return nil
}

// index is the store's last applied entry, as the leader tells it with any command.
func (c *crowd) index(ctx context.Context, member *client) (uint64, error) {
	out, err := member.mesh.WatchCommand(ctx, &meshapi.WatchCommandInput{CommandId: member.last})
	if err != nil {
		return 0, fmt.Errorf("read the store's index: %w", err)
	}
	return out.Index, nil
}

// restWatched is how long the mesh is watched at rest.
const restWatched = 30 * time.Second

// atRest measures what the mesh needs while nobody asks anything.
func (c *crowd) atRest(ctx context.Context, r *scaleResult) error {
	debug.SetGCPercent(100)
	debug.FreeOSMemory()
	before, err := usage()
	if err != nil {
		return err
	}
	if err := pause(ctx, restWatched); err != nil {
		return err
	}
	after, err := usage()
	if err != nil {
		return err
	}
	over := after.at.Sub(before.at).Seconds()
	r.CPUPerCent = (after.cpu - before.cpu).Seconds() / over * 100
	if os.Geteuid() == 0 { // the network is this process's alone
		r.BytesPerSec, r.PacketsUDP = (after.bytes-before.bytes)/over, (after.packets-before.packets)/over
	}
	r.Goroutines = runtime.NumGoroutine()
	if r.MemoryMiB, _, err = memory(os.Getpid()); err != nil {
		return err
	}
	files, err := os.ReadDir("/proc/self/fd")
	r.Files = len(files)
	return err
}

// used is what this process and its network have used so far.
type used struct {
	at             time.Time
	cpu            time.Duration
	bytes, packets float64
}

func usage() (u used, err error) {
	u.at = time.Now()
	if u.cpu, err = cpuTime(os.Getpid()); err != nil {
		return u, err
	}
	// Received and sent are the same on the loopback; the first column counts bytes.
	fields := strings.Fields(firstValue("/proc/self/net/dev", "lo", ":"))
	if len(fields) < 1 {
		return u, errors.New("/proc/self/net/dev has no loopback")
	}
	if u.bytes, err = strconv.ParseFloat(fields[0], 64); err != nil {
		return u, fmt.Errorf("/proc/self/net/dev: %w", err)
	}
	u.packets, err = udpSent()
	return u, err
}

// udpSent is the number of datagrams sent in this network namespace.
func udpSent() (float64, error) {
	data, err := os.ReadFile("/proc/self/net/snmp")
	if err != nil {
		return 0, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "OutDatagrams" && i < len(fields) {
				return strconv.ParseFloat(fields[i], 64)
			}
		}
	}
	return 0, errors.New("/proc/self/net/snmp counts no UDP")
}
