package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// serfMesh is a number of serf agents, each a process with an address of its own,
// with serf's LAN profile, which is its default.
type serfMesh struct {
	dir, subnet string
	agents      []*serfAgent
}

type serfAgent struct {
	name    string
	address string
	process *exec.Cmd // nil while it does not run
	rpc     *serfRPC
}

// serfCommand is what an agent runs for a query; serf answers only what has an
// output.
const serfCommand = "sh -c 'echo hi'"

// startSerf starts n agents that join the first one.
func startSerf(ctx context.Context, dir, subnet string, n int, between time.Duration) (_ *serfMesh, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	m := &serfMesh{dir: dir, subnet: subnet}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	for i := range n {
		a := &serfAgent{name: fmt.Sprintf("serf%d", i+1), address: fmt.Sprintf("%s.%d", subnet, i+1)}
		args := []string{"agent", "-node=" + a.name, "-bind=" + a.address + ":7946", "-rpc-addr=" + a.address + ":7373",
			"-event-handler=query:run=" + serfCommand, "-log-level=err"}
		if i > 0 {
			args = append(args, "-retry-join="+m.agents[0].address, "-retry-interval=1s")
		}
		a.process = exec.Command("serf", args...)
		log, err := os.Create(filepath.Join(dir, a.name+".log"))
		if err != nil {
			return nil, err
		}
		a.process.Stdout, a.process.Stderr = log, log
		a.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = a.process.Start()
		log.Close()
		if err != nil {
			return nil, fmt.Errorf("start serf: %w", err)
		}
		m.agents = append(m.agents, a)
		if err := pause(ctx, between); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *serfMesh) close() {
	for _, a := range m.agents {
		if a.rpc != nil {
			a.rpc.conn.Close()
		}
		if a.process != nil {
			_ = a.process.Process.Kill()
		}
	}
	for _, a := range m.agents {
		if a.process != nil {
			_ = a.process.Wait()
		}
	}
}

// living are the names that the agent holds alive; it connects when it is first
// asked.
func (a *serfAgent) living(context.Context) (map[string]bool, error) {
	if a.rpc == nil {
		rpc, err := dialSerf(a.address + ":7373")
		if err != nil {
			return nil, err
		}
		a.rpc = rpc
	}
	alive, err := a.rpc.members()
	if err != nil {
		a.rpc.conn.Close()
		a.rpc = nil
	}
	return alive, err
}

// serfRPC is a connection to an agent; docs of serf, "RPC protocol".
type serfRPC struct {
	conn     net.Conn
	reader   *bufio.Reader
	sequence int
}

func dialSerf(address string) (*serfRPC, error) {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return nil, fmt.Errorf("connect to serf: %w", err)
	}
	r := &serfRPC{conn: conn, reader: bufio.NewReader(conn)}
	if _, err := r.ask("handshake", map[string]any{"Version": 1}); err != nil {
		conn.Close()
		return nil, err
	}
	return r, nil
}

// ask sends a command and reads the head of its answer.
func (r *serfRPC) ask(command string, body map[string]any) (sequence int, err error) {
	r.sequence++
	message := appendPack(nil, map[string]any{"Command": command, "Seq": r.sequence})
	if body != nil {
		message = appendPack(message, body)
	}
	if err := r.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := r.conn.Write(message); err != nil {
		return 0, fmt.Errorf("ask serf: %w", err)
	}
	return r.sequence, r.head(r.sequence)
}

// head reads the head of an answer and passes over what is left of earlier ones.
func (r *serfRPC) head(sequence int) error {
	for {
		head, err := r.read()
		if err != nil {
			return err
		}
		if text, _ := head["Error"].(string); text != "" {
			return errors.New("serf: " + text)
		}
		if head["Seq"] == int64(sequence) {
			return nil
		}
		if _, err := r.read(); err != nil {
			return err
		}
	}
}

func (r *serfRPC) read() (map[string]any, error) {
	v, err := readPack(r.reader)
	if err != nil {
		return nil, fmt.Errorf("hear serf: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("hear serf: a %T where a map should be", v)
	}
	return m, nil
}

func (r *serfRPC) members() (map[string]bool, error) {
	if _, err := r.ask("members", nil); err != nil {
		return nil, err
	}
	body, err := r.read()
	if err != nil {
		return nil, err
	}
	alive := map[string]bool{}
	list, _ := body["Members"].([]any)
	for _, entry := range list {
		if member, ok := entry.(map[string]any); ok && member["Status"] == "alive" {
			alive[fmt.Sprint(member["Name"])] = true
		}
	}
	return alive, nil
}

// query has all agents run the handler and returns the time until the last of n
// has answered.
func (r *serfRPC) query(n int) (time.Duration, error) {
	began := time.Now()
	sequence, err := r.ask("query", map[string]any{"Name": "run", "RequestAck": false, "Timeout": int(20 * time.Second)})
	if err != nil {
		return 0, err
	}
	heard := map[string]bool{}
	for len(heard) < n {
		if err := r.head(sequence); err != nil {
			return 0, fmt.Errorf("%d of %d answers: %w", len(heard), n, err)
		}
		body, err := r.read()
		if err != nil {
			return 0, err
		}
		switch body["Type"] {
		case "response":
			heard[fmt.Sprint(body["From"])] = true
		case "done":
			return 0, fmt.Errorf("%w: %d of %d", errQueryIncomplete, len(heard), n)
		}
	}
	return time.Since(began), nil
}

// errQueryIncomplete: a query goes by UDP and answers may be lost.
var errQueryIncomplete = errors.New("serf's query ended before all had answered")
