package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"fleetmesh/agent"
	"fleetmesh/agent/meshapi"
	"fleetmesh/internal/pki"
)

const (
	// patience is how long something that must happen may take.
	patience = 2 * time.Minute
	// pollPause is the pause between two looks at a condition that is not itself
	// what is measured.
	pollPause = 50 * time.Millisecond
	// joinsAtOnce and startPause spread the start of many nodes: all at once they
	// would take minutes from each other.
	joinsAtOnce = 4
	startPause  = 60 * time.Millisecond
)

// mesh is a mesh of meshd processes, each on an address of its own.
type mesh struct {
	bin    string
	dir    string
	subnet string
	args   []string // of every `meshd run`
	nodes  []*node
	admin  agent.AdminConfig
	roots  *x509.CertPool
	// warm are the clients by node: their connections stay open.
	mu   sync.Mutex
	warm map[*node]*client
}

type node struct {
	id      string
	name    string
	dir     string
	address string
	config  agent.Config
	process *exec.Cmd // nil while it does not run
}

// newMesh makes a mesh of n nodes and waits until all are online.
func (b *bench) newMesh(ctx context.Context, name, subnet string, n int, args ...string) (_ *mesh, err error) {
	m := &mesh{bin: b.bin, dir: filepath.Join(b.dir, name), subnet: subnet, args: args, warm: map[*node]*client{}}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	first := m.add()
	result, err := agent.Init(ctx, agent.InitOptions{Config: first.config, MeshName: "bench", Tags: benchTags})
	if err != nil {
		return nil, fmt.Errorf("make a mesh: %w", err)
	}
	first.id = result.NodeID
	data, err := os.ReadFile(result.AdminConfig)
	if err == nil {
		err = yaml.Unmarshal(data, &m.admin)
	}
	if err != nil {
		return nil, fmt.Errorf("read the administrator's access: %w", err)
	}
	m.roots = x509.NewCertPool()
	m.roots.AppendCertsFromPEM([]byte(m.admin.CA))
	if err := m.start(first); err != nil {
		return nil, err
	}
	if err := await(ctx, "the first node", func() error { _, err := m.status(ctx, first); return err }); err != nil {
		return nil, err
	}
	return m, m.grow(ctx, n)
}

// benchTags are what the commands are aimed at.
var benchTags = map[string]string{"bench": "yes"}

func (m *mesh) add() *node {
	i := len(m.nodes) + 1
	n := &node{name: fmt.Sprintf("node%d", i), dir: filepath.Join(m.dir, fmt.Sprintf("n%d", i)), address: fmt.Sprintf("%s.%d", m.subnet, i)}
	n.config = agent.DefaultConfig()
	n.config.DataDir, n.config.Bind, n.config.NodeName = n.dir, n.address, n.name
	m.nodes = append(m.nodes, n)
	return n
}

// enrol adds nodes, up to n, and does not start them.
func (m *mesh) enrol(ctx context.Context, n int) ([]*node, error) {
	if n <= len(m.nodes) {
		return nil, nil
	}
	out, err := m.client(m.nodes[0]).mesh.CreateActivation(ctx, &meshapi.CreateActivationInput{RegistrationLimit: n - len(m.nodes)})
	if err != nil {
		return nil, fmt.Errorf("make an activation: %w", err)
	}
	token, err := pki.ParseJoinToken(out.JoinToken)
	if err != nil {
		return nil, err
	}
	var fresh []*node
	for len(m.nodes) < n {
		fresh = append(fresh, m.add())
	}
	var group sync.WaitGroup
	errs := make([]error, len(fresh))
	turns := make(chan struct{}, joinsAtOnce)
	for i, n := range fresh {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			result, err := agent.Join(ctx, agent.JoinOptions{Config: n.config, Token: token, Tags: benchTags})
			n.id, errs[i] = result.NodeID, err
		})
	}
	group.Wait()
	return fresh, errors.Join(errs...)
}

// grow brings the mesh to n nodes that are online.
func (m *mesh) grow(ctx context.Context, n int) error {
	fresh, err := m.enrol(ctx, n)
	if err != nil {
		return fmt.Errorf("enrol nodes: %w", err)
	}
	for _, n := range fresh {
		if err := m.start(n); err != nil {
			return err
		}
		if err := pause(ctx, startPause); err != nil {
			return err
		}
	}
	return m.awaitOnline(ctx, len(m.nodes))
}

func (m *mesh) start(n *node) error {
	log, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	n.process = exec.Command(filepath.Join(m.bin, "meshd"), append([]string{"run", "--data-dir", n.dir}, m.args...)...)
	n.process.Stdout, n.process.Stderr = log, log
	// A bench that is killed leaves no nodes behind.
	n.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := n.process.Start(); err != nil {
		n.process = nil
		return fmt.Errorf("start meshd: %w", err)
	}
	return nil
}

// kill is SIGKILL.
func (n *node) kill() {
	_ = n.process.Process.Kill()
	_ = n.process.Wait()
	n.process = nil
}

// stop is SIGTERM, and waiting for the end.
func (n *node) stop() error {
	defer func() { n.process = nil }()
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return n.process.Wait()
}

// close ends all nodes: their end is not measured, so it need not be a good one.
func (m *mesh) close() {
	for _, n := range m.nodes {
		if n.process != nil {
			_ = n.process.Process.Kill()
		}
	}
	for _, n := range m.nodes {
		if n.process != nil {
			_ = n.process.Wait()
			n.process = nil
		}
	}
	os.RemoveAll(m.dir)
}

// restart stops a node and starts it again.
func (m *mesh) restart(n *node) error {
	if err := n.stop(); err != nil {
		return fmt.Errorf("stop %s: %w", n.name, err)
	}
	m.mu.Lock()
	delete(m.warm, n)
	m.mu.Unlock()
	return m.start(n)
}

// stopAll stops all nodes at once, and waits for their end.
func (m *mesh) stopAll() error {
	var group sync.WaitGroup
	errs := make([]error, len(m.nodes))
	for i, n := range m.nodes {
		if n.process != nil {
			group.Go(func() { errs[i] = n.stop() })
		}
	}
	group.Wait()
	m.mu.Lock()
	clear(m.warm)
	m.mu.Unlock()
	return errors.Join(errs...)
}

// status is Mesh.Status as node answers it.
func (m *mesh) status(ctx context.Context, n *node) (*meshapi.StatusOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return m.client(n).mesh.Status(ctx, &meshapi.StatusInput{})
}

// running is any node that runs.
func (m *mesh) running() (*node, error) {
	for _, n := range m.nodes {
		if n.process != nil {
			return n, nil
		}
	}
	return nil, errors.New("no node runs")
}

// anyStatus is the status as any running node has it.
func (m *mesh) anyStatus(ctx context.Context) (*meshapi.StatusOutput, error) {
	n, err := m.running()
	if err != nil {
		return nil, err
	}
	return m.status(ctx, n)
}

func (m *mesh) awaitOnline(ctx context.Context, n int) error {
	return await(ctx, fmt.Sprintf("%d nodes online", n), func() error {
		status, err := m.anyStatus(ctx)
		if err == nil && status.Nodes.Online != n {
			err = fmt.Errorf("%d online, %d not", status.Nodes.Online, status.Nodes.ConnectionLost)
		}
		return err
	})
}

// awaitVoters waits until the quorum is as large as it gets.
func (m *mesh) awaitVoters(ctx context.Context, n int) error {
	return await(ctx, fmt.Sprintf("%d voters", n), func() error {
		status, err := m.anyStatus(ctx)
		if err == nil && len(status.Voters) != n {
			err = fmt.Errorf("%d voters, %d stand-bys", len(status.Voters), len(status.StandBys))
		}
		return err
	})
}

// roles finds the leader, a voter that does not lead, a stand-by and a plain
// member; those that are not there are nil.
type roles struct{ leader, voter, standBy, member *node }

func (m *mesh) roles(ctx context.Context) (r roles, err error) {
	err = await(ctx, "a leader", func() error {
		status, err := m.anyStatus(ctx)
		if err != nil {
			return err
		}
		r = roles{}
		role := map[string]**node{}
		for _, id := range status.Voters {
			role[id] = &r.voter
		}
		for _, id := range status.StandBys {
			role[id] = &r.standBy
		}
		role[status.Leader] = &r.leader
		for _, n := range m.nodes {
			if into := role[n.id]; into != nil {
				*into = n
			} else if n.process != nil {
				r.member = n
			}
		}
		if r.leader == nil {
			return errors.New("no leader")
		}
		return nil
	})
	return r, err
}

// await looks again and again until check returns nil.
func await(ctx context.Context, what string, check func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s: %w", patience, what, err)
		}
		if err := pause(ctx, pollPause); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
