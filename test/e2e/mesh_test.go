//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fleetmesh/test/leftover"
)

// patience is how long a condition may take on a busy machine.
const patience = 60 * time.Second

// mesh is a mesh of real meshd processes, driven as a user would.
type mesh struct {
	t      *testing.T
	bin    string
	dir    string
	subnet string
	nodes  []*node
	env    []string // what `meshctl env` prints
	// runArgs are flags of every `meshd run`.
	runArgs []string
	// outfit, when not nil, equips a node before it is used.
	outfit  func(n *node)
	network *network // nil: loopback addresses
}

type node struct {
	name    string
	dir     string
	address string
	id      string
	host    *host // nil on a loopback address
	process *exec.Cmd

	// program is the daemon that `meshd run` is; env adds to its environment, and
	// wrapper is a command line that ends by executing the one behind it.
	program string
	env     []string
	wrapper []string
}

// programs is where the programs under test are.
var programs = flag.String("bin", "../../bin", "the `directory` of the programs under test")

func newMesh(t *testing.T, n int, joinArgs func(i int) []string, runArgs ...string) *mesh {
	t.Helper()
	return newOutfittedMesh(t, n, joinArgs, nil, runArgs...)
}

// newOutfittedMesh makes a mesh whose nodes are equipped by outfit.
func newOutfittedMesh(t *testing.T, n int, joinArgs func(i int) []string, outfit func(n *node), runArgs ...string) *mesh {
	t.Helper()
	return newMeshOn(t, nil, n, joinArgs, outfit, runArgs...)
}

// newMeshOn makes a mesh on a network of its own, in which each node is a host; nil
// is loopback addresses. outfit may be nil.
func newMeshOn(t *testing.T, w *network, n int, joinArgs func(i int) []string, outfit func(n *node), runArgs ...string) *mesh {
	t.Helper()
	bin, err := filepath.Abs(*programs)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "fme2e") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, bin: bin, dir: dir, subnet: fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)), runArgs: runArgs, outfit: outfit, network: w}
	t.Cleanup(m.close)
	first := m.add()
	m.mustOn(first, "meshd", "init", "--data-dir", first.dir, "--bind", first.address, "--node-name", first.name, "--mesh-name", "e2e", "--tag", "role=web")
	m.start(first)
	m.await("the first node", func() error { _, err := m.status(); return err })
	for i := 1; i < n; i++ {
		joiner := m.add()
		args := append([]string{"activation", "create"}, joinArgs(i)...)
		var activation struct{ JoinToken string }
		m.json(&activation, args...)
		role := []string{"web", "db"}[i%2]
		m.mustOn(joiner, "meshd", "join", "--data-dir", joiner.dir, "--bind", joiner.address, "--node-name", joiner.name, "--tag", "role="+role, "--token", activation.JoinToken)
		m.start(joiner)
	}
	m.awaitOnline(n)
	for _, n := range m.nodes {
		var identity struct{ NodeID string }
		data, err := os.ReadFile(filepath.Join(n.dir, "identity", "identity.json"))
		if err == nil {
			err = json.Unmarshal(data, &identity)
		}
		if err != nil {
			t.Fatal(err)
		}
		n.id = identity.NodeID
	}
	for line := range strings.Lines(m.meshctl("env")) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok {
			m.env = append(m.env, name+"="+strings.Trim(value, `'"`))
		}
	}
	return m
}

func (m *mesh) add() *node {
	i := len(m.nodes) + 1
	n := &node{name: fmt.Sprintf("node%d", i), dir: filepath.Join(m.dir, fmt.Sprintf("n%d", i)), address: fmt.Sprintf("%s.%d", m.subnet, i)}
	n.program = filepath.Join(m.bin, "meshd")
	if m.outfit != nil {
		m.outfit(n)
	}
	if m.network != nil {
		n.host = m.network.attach()
		n.address = n.host.address
	}
	m.nodes = append(m.nodes, n)
	return n
}

func (m *mesh) start(n *node) {
	m.t.Helper()
	log, err := os.OpenFile(n.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	argv := append(append(slices.Clone(n.wrapper), n.program, "run", "--data-dir", n.dir), m.runArgs...)
	n.process = exec.Command(argv[0], argv[1:]...)
	n.process.Env = append(os.Environ(), n.env...)
	n.process.Stdout, n.process.Stderr = log, log
	n.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test crashes
	if err := inside(m.namespace(n), n.process.Start); err != nil {
		m.t.Fatal(err)
	}
}

// kill is a power cut for the process: SIGKILL, no goodbye.
func (m *mesh) kill(n *node) {
	n.process.Process.Kill()
	n.process.Wait()
	n.process = nil
}

func (m *mesh) close() {
	for _, n := range m.nodes {
		if n.process != nil {
			n.process.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, n := range m.nodes {
		if n.process == nil {
			continue
		}
		ended := make(chan error, 1)
		go func() { ended <- n.process.Wait() }()
		select {
		case err := <-ended:
			if err != nil {
				m.t.Errorf("%s ended with %v after SIGTERM", n.name, err)
			}
		case <-time.After(patience):
			n.process.Process.Signal(syscall.SIGQUIT) // where it hangs goes into its log
			<-ended
			data, _ := os.ReadFile(n.dir + ".log")
			m.t.Errorf("%s did not end within %s of SIGTERM\n%s", n.name, patience, data[max(0, bytes.LastIndex(data, []byte("SIGQUIT"))):])
		}
	}
	leftover.None(m.t, m.dir)
	if m.t.Failed() {
		for _, n := range m.nodes {
			data, _ := os.ReadFile(n.dir + ".log")
			m.t.Logf("-- end of the log of %s %s\n%s", n.name, n.id, data[max(0, len(data)-4000):])
		}
	}
	os.RemoveAll(m.dir)
}

func (m *mesh) await(what string, check func() error) {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("waited %s for %s: %v", patience, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// run runs a program of ours or the AWS CLI and returns stdout.
func (m *mesh) run(program string, args ...string) (stdout string, exit int, err error) {
	return m.runOn(nil, program, args...)
}

// runOn runs a program on a node's host.
func (m *mesh) runOn(n *node, program string, args ...string) (stdout string, exit int, err error) {
	path := program
	if program == "meshd" || program == "meshctl" {
		path = filepath.Join(m.bin, program)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "MESHCTL_CONFIG="+filepath.Join(m.nodes[0].dir, "admin.yaml"), "HOME="+m.dir, "AWS_EC2_METADATA_DISABLED=true")
	cmd.Env = append(cmd.Env, m.env...)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err = inside(m.namespace(n), cmd.Start); err == nil {
		err = cmd.Wait()
	}
	var status *exec.ExitError
	if errors.As(err, &status) {
		exit = status.ExitCode()
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", program, strings.Join(args, " "), err, out.String(), talk.String())
	}
	return out.String(), exit, err
}

func (m *mesh) must(program string, args ...string) string {
	m.t.Helper()
	return m.mustOn(nil, program, args...)
}

func (m *mesh) mustOn(n *node, program string, args ...string) string {
	m.t.Helper()
	out, _, err := m.runOn(n, program, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *mesh) meshctl(args ...string) string { m.t.Helper(); return m.must("meshctl", args...) }

func (m *mesh) json(into any, args ...string) {
	m.t.Helper()
	if err := json.Unmarshal([]byte(m.meshctl(append(args, "-o", "json")...)), into); err != nil {
		m.t.Fatalf("meshctl %s: %v", strings.Join(args, " "), err)
	}
}

// aws runs the real AWS CLI against a node.
func (m *mesh) aws(through *node, args ...string) (string, error) {
	args = append([]string{"--endpoint-url", "https://" + through.address + ":7947", "--output", "json", "ssm"}, args...)
	out, _, err := m.run("aws", args...)
	return out, err
}

func (m *mesh) awsJSON(through *node, into any, args ...string) {
	m.t.Helper()
	out, err := m.aws(through, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		m.t.Fatalf("aws %s: %v in %s", strings.Join(args, " "), err, out)
	}
}

type status struct {
	Leader           string
	Voters, StandBys []string
	FailureTolerance int
	Nodes            struct{ Online, ConnectionLost int }
}

// status asks through each endpoint in turn: the first may be the dead one.
func (m *mesh) status() (status, error) {
	var s status
	var last error
	for _, n := range m.nodes {
		if n.process == nil {
			continue
		}
		out, _, err := m.run("meshctl", "--endpoint", "https://"+n.address+":7947", "mesh", "status", "-o", "json")
		if err == nil {
			err = json.Unmarshal([]byte(out), &s)
		}
		if err == nil {
			return s, nil
		}
		last = err
	}
	return s, last
}

func (m *mesh) awaitOnline(n int) {
	m.t.Helper()
	m.await(fmt.Sprintf("%d nodes online", n), func() error {
		s, err := m.status()
		if err == nil && s.Nodes.Online != n {
			err = fmt.Errorf("%d are online, %d lost", s.Nodes.Online, s.Nodes.ConnectionLost)
		}
		return err
	})
}

func (m *mesh) awaitVoters(n int) status {
	m.t.Helper()
	var s status
	m.await(fmt.Sprintf("%d voters", n), func() error {
		var err error
		s, err = m.status()
		if err == nil && len(s.Voters) != n {
			err = fmt.Errorf("%d voters, %d stand-bys", len(s.Voters), len(s.StandBys))
		}
		return err
	})
	return s
}

func (m *mesh) byID(id string) *node {
	m.t.Helper()
	for _, n := range m.nodes {
		if n.id == id {
			return n
		}
	}
	m.t.Fatalf("no node %q", id)
	return nil
}
