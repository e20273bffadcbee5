//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fleetmesh/agent/peer"
	"fleetmesh/internal/durable"
	"fleetmesh/raftstore"
	"fleetmesh/test/powerloss"
)

// traceProgram runs a program that works on the directory root/node, where it
// finds what prepare has laid there. Its end is its answer.
func (m *mesh) traceProgram(program string, prepare func(dir string), args func(dir string) []string) *recording {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "fmcut")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { os.RemoveAll(dir) })
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o700); err != nil {
		m.t.Fatal(err)
	}
	prepare(filepath.Join(root, "node"))
	before, err := powerloss.New(root)
	if err != nil {
		m.t.Fatal(err)
	}
	trace := filepath.Join(dir, "trace")
	command := powerloss.Command(trace, program, args(filepath.Join(root, "node"))...)
	if out, err := command.CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	events, err := powerloss.ParseFile(trace)
	if err != nil {
		m.t.Fatal(err)
	}
	return &recording{root: root, before: before.Cut(rand.New(rand.NewPCG(0, 0))), events: events}
}

// identityOf is who the node in a directory is, empty when it is not complete.
func identityOf(dir string) (nodeID string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "identity", "identity.json"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	var identity struct{ NodeID string }
	if err == nil {
		err = json.Unmarshal(data, &identity)
	}
	if err == nil && identity.NodeID == "" {
		err = errors.New("identity.json names no node")
	}
	return identity.NodeID, err
}

// again runs init or join on what a cut left. It must finish the node, or find it
// finished.
func again(ctx context.Context, program string, dir string, args []string) (refused bool, err error) {
	before, err := identityOf(dir)
	if err != nil {
		return false, err
	}
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if refused = strings.Contains(string(out), "already holds a node"); refused != (err != nil) || refused != (before != "") {
		return false, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), errors.Join(err, errors.New("the directory was "+before)), out)
	}
	return refused, nil
}

// enrolCuts are fewer: each takes a process or two.
func enrolCuts() int { return max(1, *cuts/5) }

// TestPowerLossOfInit: whenever the power goes, the directory holds a whole new
// mesh, or init makes one.
func TestPowerLossOfInit(t *testing.T) {
	m := newMesh(t, 1, anyNode)
	args := func(dir string) []string {
		return []string{"init", "--data-dir", dir, "--bind", m.subnet + ".9", "--node-name", "first", "--mesh-name", "cut"}
	}
	program := filepath.Join(m.bin, "meshd")
	nothing := func(string) {}
	t.Run("nothing there", func(t *testing.T) {
		m.cutInit(t, m.traceProgram(program, nothing, args), args)
	})
	t.Run("another's leftover", func(t *testing.T) {
		m.cutInit(t, m.traceProgram(program, func(dir string) {
			m.must("meshd", args(dir)...)
			if err := os.Remove(filepath.Join(dir, "identity", "identity.json")); err != nil {
				t.Fatal(err)
			}
		}, args), args)
	})
	t.Run("directories that a killed init made", func(t *testing.T) {
		m.cutInit(t, m.traceProgram("/bin/sh", nothing, func(dir string) []string {
			return append([]string{"-c", `mkdir "$0" && mkdir "$0/identity" && exec "$@"`, dir, program}, args(dir)...)
		}), args)
	})
}

func (m *mesh) cutInit(t *testing.T, r *recording, args func(dir string) []string) {
	all := r.moments().all
	end := all[len(all)-1] // init answers
	r.stages = []int{end}
	var one sync.Mutex // runs the mesh: there is one address
	running := 1
	r.try(t, enrolCuts(), func(ctx context.Context, c cut, dir string) error {
		node := filepath.Join(dir, "node")
		finished, err := again(ctx, filepath.Join(m.bin, "meshd"), node, args(node))
		if err != nil {
			return err
		}
		if c.at > end && !finished {
			return errors.New("init had answered, and the node is not there")
		}
		one.Lock()
		defer one.Unlock()
		if !finished || running == 0 {
			return nil
		}
		running--
		return m.runs(ctx, node)
	})
}

// runs reports whether the node in dir, the first of its mesh, runs and answers
// its administrator.
func (m *mesh) runs(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	daemon := exec.CommandContext(ctx, filepath.Join(m.bin, "meshd"), "run", "--data-dir", dir)
	var log strings.Builder
	daemon.Stdout, daemon.Stderr = &log, &log
	if err := daemon.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	for {
		out, err := exec.CommandContext(ctx, filepath.Join(m.bin, "meshctl"), "--config", filepath.Join(dir, "admin.yaml"), "mesh", "status").CombinedOutput()
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			return fmt.Errorf("meshd run: %v\n%s%s", err, log.String(), out)
		default:
		}
		if ctx.Err() != nil {
			daemon.Process.Kill()
			<-ended
			return fmt.Errorf("it does not answer: %s\n%s", out, log.String())
		}
	}
	daemon.Process.Signal(os.Interrupt)
	return <-ended
}

// TestPowerLossOfJoin: whenever the power goes, the same token finishes the node,
// and once the mesh may have heard of it, as the same node.
func TestPowerLossOfJoin(t *testing.T) {
	m := newMesh(t, 1, anyNode)
	var activation struct{ JoinToken string }
	m.json(&activation, "activation", "create", "--limit", "1000")
	args := func(dir string) []string {
		return []string{"join", "--data-dir", dir, "--bind", m.subnet + ".9", "--node-name", "joiner", "--token", activation.JoinToken}
	}
	r := m.traceProgram(filepath.Join(m.bin, "meshd"), func(string) {}, args)
	id, err := identityOf(filepath.Join(r.root, "node"))
	if err != nil || id == "" {
		t.Fatalf("the joined node is %q: %v", id, err)
	}
	answered := -1 // the first event after the mesh's answer
	for i, e := range r.events {
		if answered < 0 && strings.HasPrefix(e.Op.Path, filepath.Join(r.root, "node", "gate.json")) {
			answered = i
		}
	}
	if answered < 0 {
		t.Fatal("the trace does not show the gate's first roster")
	}
	all := r.moments().all
	end := all[len(all)-1] // join answers
	r.stages = []int{answered - 1, end}
	r.try(t, enrolCuts(), func(ctx context.Context, c cut, dir string) error {
		node := filepath.Join(dir, "node")
		finished, err := again(ctx, filepath.Join(m.bin, "meshd"), node, args(node))
		if err != nil {
			return err
		}
		if c.at > end && !finished {
			return errors.New("join had answered, and the node is not there")
		}
		now, err := identityOf(node)
		if err != nil {
			return err
		}
		if c.at >= answered && now != id {
			return fmt.Errorf("the mesh knew this machine as %s, and it came back as %s", id, now)
		}
		_, err = peer.OpenGate(filepath.Join(node, "gate.json"), m.meshID())
		return err
	})
}

func (m *mesh) meshID() string {
	var identity struct{ MeshID string }
	data, err := os.ReadFile(filepath.Join(m.nodes[0].dir, "identity", "identity.json"))
	if err == nil {
		err = json.Unmarshal(data, &identity)
	}
	if err != nil {
		m.t.Error(err)
	}
	return identity.MeshID
}

// filesChild writes files into new directories, and replaces them.
func filesChild(dir string, note func(string, ...any)) error {
	for i := range 30 {
		if err := durable.WriteFile(filepath.Join(dir, fmt.Sprint("a", i%3), fmt.Sprint("b", i%10), "file"), fmt.Appendf(nil, "%02d", i)); err != nil {
			return err
		}
		note("%d\n", i)
	}
	return nil
}

// TestPowerLossOfFiles: a file that was written is there, whole, with all the
// directories that lead to it.
func TestPowerLossOfFiles(t *testing.T) {
	traceChild(t, "files").try(t, *cuts, func(_ context.Context, c cut, dir string) error {
		for i := max(0, len(c.notes)-10); i < len(c.notes); i++ {
			data, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("a", i%3), fmt.Sprint("b", i%10), "file"))
			if err != nil {
				return err
			}
			if len(data) != 2 || string(data) < fmt.Sprintf("%02d", i) {
				return fmt.Errorf("it holds %q, written was %02d", data, i)
			}
		}
		return nil
	})
}

// gateChild hears of terms and rosters.
func gateChild(dir string, note func(string, ...any)) error {
	gate, err := peer.OpenGate(filepath.Join(dir, "gate.json"), "m")
	if err != nil {
		return err
	}
	for i := range uint64(40) {
		note("try %d\n", i+1)
		if i%3 == 0 {
			_, err = gate.Update(raftstore.Roster{Version: i + 1, MeshID: "m", Members: make([]raftstore.RosterMember, i)})
		} else {
			err = gate.Admit(i + 1)
		}
		if err != nil {
			return err
		}
		note("ack %d %d\n", gate.Term(), gate.Roster().Version)
	}
	return nil
}

// TestPowerLossOfTheGate: whenever the power goes, the gate opens, and is where it
// was or further.
func TestPowerLossOfTheGate(t *testing.T) {
	traceChild(t, "gate").try(t, *cuts, func(_ context.Context, c cut, dir string) error {
		var tried, term, version uint64
		for _, note := range c.notes {
			if _, err := fmt.Sscanf(note, "ack %d %d", &term, &version); err != nil {
				if _, err := fmt.Sscanf(note, "try %d", &tried); err != nil {
					return fmt.Errorf("a strange note %q", note)
				}
			}
		}
		gate, err := peer.OpenGate(filepath.Join(dir, "gate.json"), "m")
		if err != nil {
			return err
		}
		if gate.Term() < term || gate.Roster().Version < version || gate.Term() > tried || gate.Roster().Version > tried {
			return fmt.Errorf("term %d and roster %d, were %d and %d; tried was %d", gate.Term(), gate.Roster().Version, term, version, tried)
		}
		return nil
	})
}
