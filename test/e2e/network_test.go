//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// network is a small network of its own: each host is a network namespace with one
// link to a router, which is a namespace too. Nothing of it is on the machine's own
// network, and it has no way out. No namespace has a name: the kernel takes all of
// it away when the last process in it has ended and the test's files are closed,
// so a test that crashes leaves nothing.
//
// Packets between hosts that do not reach each other are lost in silence: the
// router has a rule for each direction.
type network struct {
	t      *testing.T
	router *os.File
	hosts  []*host
	// ops is where the test's own clients are.
	ops *host
	// next numbers ports and addresses.
	next  int
	lost  map[direction]bool
	rules map[direction]int // those in force, by their preference, which names them
	// preference is the last one given.
	preference int
}

// host is one machine of a network.
type host struct {
	address   string
	port      string // the router's end of its link
	namespace *os.File
}

// direction is the packets from one host to another.
type direction struct{ from, to *host }

const routerAddress = "10.99.0.254"

func newNetwork(t *testing.T) *network {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatalf("%v: install the Debian package iproute2", err)
	}
	w := &network{t: t, lost: map[direction]bool{}, rules: map[direction]int{}, preference: 1000}
	w.router = w.namespace()
	err := inside(w.router, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	if err != nil {
		t.Fatalf("let the router forward: %v", err)
	}
	w.ops = w.attach()
	return w
}

// namespace makes a network namespace with nothing but its loopback.
func (w *network) namespace() *os.File {
	w.t.Helper()
	var file *os.File
	err := inside(nil, func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace (as root?): %w", err)
		}
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { file.Close() })
	w.ip(file, nil, "link set lo up")
	return file
}

// attach adds a host.
func (w *network) attach() *host {
	w.t.Helper()
	w.next++
	h := &host{address: fmt.Sprintf("10.99.0.%d", w.next), port: fmt.Sprintf("port%d", w.next), namespace: w.namespace()}
	w.hosts = append(w.hosts, h)
	w.ip(w.router, h.namespace,
		"link add "+h.port+" type veth peer name eth0 netns /proc/self/fd/3",
		"addr add "+routerAddress+"/32 dev "+h.port,
		"link set "+h.port+" up",
		"route add "+h.address+" dev "+h.port)
	w.ip(h.namespace, nil,
		"addr add "+h.address+"/32 dev eth0",
		"link set eth0 up",
		"route add "+routerAddress+" dev eth0",
		"route add default via "+routerAddress)
	return h
}

// loseOneWay loses what these hosts send to those.
func (w *network) loseOneWay(from, to []*host) {
	w.t.Helper()
	for _, f := range from {
		for _, t := range to {
			if f != t {
				w.lost[direction{f, t}] = true
			}
		}
	}
	w.apply()
}

// isolate makes a group of hosts that reach each other and nobody else; nobody
// else reaches them.
func (w *network) isolate(group ...*host) {
	w.t.Helper()
	in := map[*host]bool{}
	for _, h := range group {
		in[h] = true
	}
	for _, f := range w.hosts {
		for _, t := range w.hosts {
			if in[f] != in[t] {
				w.lost[direction{f, t}] = true
			}
		}
	}
	w.apply()
}

// heal ends all losses.
func (w *network) heal() {
	w.t.Helper()
	clear(w.lost)
	w.apply()
}

// apply makes the router's rules those that lost asks for.
func (w *network) apply() {
	w.t.Helper()
	var lines []string
	for d, preference := range w.rules {
		if !w.lost[d] {
			lines = append(lines, fmt.Sprintf("rule del pref %d", preference))
			delete(w.rules, d)
		}
	}
	for d := range w.lost {
		if w.rules[d] != 0 {
			continue
		}
		w.preference++
		w.rules[d] = w.preference
		lines = append(lines, fmt.Sprintf("rule add pref %d from %s to %s blackhole", w.preference, d.from.address, d.to.address))
	}
	if len(lines) > 0 {
		w.ip(w.router, nil, lines...)
	}
}

// ip has iproute2 do lines in a namespace; other is its file 3.
func (w *network) ip(in, other *os.File, lines ...string) {
	w.t.Helper()
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	var talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &talk, &talk
	if other != nil {
		cmd.ExtraFiles = []*os.File{other}
	}
	err := inside(in, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		w.t.Fatalf("ip: %v\n%s\n%s", err, strings.Join(lines, "\n"), talk.String())
	}
}

// inside runs f on a thread that is in the namespace (nil: this machine's):
// sockets and processes that f makes are there.
func inside(namespace *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		if namespace != nil {
			if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
				done <- fmt.Errorf("enter a network namespace: %w", err)
				return
			}
		}
		err = f()
		// A thread that cannot go home ends with its goroutine.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// dial connects to an address as the test's clients do.
func (m *mesh) dial(ctx context.Context, address string) (net.Conn, error) {
	var connection net.Conn
	err := inside(m.namespace(nil), func() (err error) {
		connection, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return connection, err
}

// namespace is where a node's programs run, or with nil the test's clients; nil on
// loopback addresses.
func (m *mesh) namespace(n *node) *os.File {
	switch {
	case m.network == nil:
		return nil
	case n == nil:
		return m.network.ops.namespace
	}
	return n.host.namespace
}

// hosts are those of nodes.
func hosts(nodes ...*node) []*host {
	list := make([]*host, len(nodes))
	for i, n := range nodes {
		list[i] = n.host
	}
	return list
}
