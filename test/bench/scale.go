package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"fleetmesh/raftstore"
)

// outputSizes are the characters that the scripts of the scale section write.
var outputSizes = []int{0, 2_500, 24_000}

// benchScale runs meshes of many nodes, each mesh in a process of its own.
func benchScale(ctx context.Context, b *bench) error {
	sizes := []int{100, 300, 1000}
	if b.nodes > 0 {
		sizes = []int{b.nodes}
	}
	t := &table{
		Title: "Many nodes in one process",
		Method: "All nodes of a mesh in one process, each with its own address, TLS port, gossip, journal and scripts; settings are the defaults, without the spare shim. " +
			"Up: from the start until all are enrolled, started and online. A run is `true` on all at once, from SendCommand until the client has the last result; the first one opens the leader's connections and starts as many shims as there are nodes. " +
			fmt.Sprintf("From %d nodes on gossip has a slower profile, since all share this machine's CPUs: news every %s in packets of %d KiB, each piece sent %d times its logarithm, probes every %s with %s for the answer, everything exchanged every %s; there is one voter and a stand-by, since voters that wait for a CPU elect another leader; 25 nodes join at a time, and the next when these are known. ",
				slowGossipFrom, slowGossip.GossipInterval, slowGossip.PacketSize>>10, slowGossip.RetransmitMult, slowGossip.ProbeInterval, slowGossip.ProbeTimeout, slowGossip.PushPullInterval) +
			"Traffic is what the loopback of a network namespace of its own carries while nobody asks anything, headers included.",
		Floor: &floorCheck{What: "exec: `sh -c true` 100 times, two at a time", Unit: "ms"},
	}
	store := &table{
		Title: "What commands leave in the store",
		Method: "Bytes of Raft's entries, from SendCommand to the end, and of the command's records afterwards, divided by the nodes; scripts that write 0, 2,500 and 24,000 characters, on all nodes at once. " +
			"The first 24,000 characters of an output are kept in the store. bbolt's pages and Raft's own copies come on top: every voter and stand-by has one of each.",
	}
	var err error
	if t.Floor.Before, err = execFloor(100, b.times(9, 5)); err != nil {
		return err
	}
	for _, n := range sizes {
		if err := b.scaleOf(ctx, n, t, store); err != nil {
			return fmt.Errorf("%d nodes: %w", n, err)
		}
	}
	if t.Floor.After, err = execFloor(100, b.times(9, 5)); err != nil {
		return err
	}
	b.finish(t)
	b.finish(store)
	return nil
}

// scaleResult is what a process with a whole mesh tells on its standard output.
type scaleResult struct {
	Nodes int
	// Up is how long it took until all were online, in seconds.
	Up float64
	// First, Runs and DefaultRuns are milliseconds; RunCPU is what this process has
	// used in each of Runs for a node.
	First, Runs, DefaultRuns, RunCPU []float64
	// At rest, after the runs.
	MemoryMiB   float64
	Goroutines  int
	Files       int
	CPUPerCent  float64
	BytesPerSec float64
	PacketsUDP  float64
	// Outputs are the commands with outputs, in the order of outputSizes.
	Outputs []scaleCommandResult
	// LeaderDir, LeaderID and LeaderAddress are whose store is to be looked at.
	LeaderDir, LeaderID, LeaderAddress string
}

// scaleCommandResult is one command, and Raft's entries from First to Last that it
// came with.
type scaleCommandResult struct {
	CommandID   string
	First, Last uint64
	Took        float64
}

// scaleOf measures one size and adds its rows.
func (b *bench) scaleOf(ctx context.Context, n int, t, store *table) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, fmt.Sprintf("scale%d", n))
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, self, scaleCommand, dir, fmt.Sprint(n))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("the process with the mesh: %w", err)
	}
	var r scaleResult
	if err := json.Unmarshal(out, &r); err != nil {
		return fmt.Errorf("read what the process with the mesh says: %w", err)
	}
	name := func(what string) string { return fmt.Sprintf("%s nodes: %s", grouped(int64(n)), what) }
	t.add(name("up"), "s", []float64{r.Up})
	t.add(name("first run"), "ms", r.First)
	t.add(name("run"), "ms", r.Runs)
	t.add(name("run, 50 at a time"), "ms", r.DefaultRuns).note("the default MaxConcurrency")
	t.add(name("run, CPU"), "ms a node", r.RunCPU).note("leader, voters and members together; shims and scripts not counted")
	t.add(name("memory of the process"), "MiB", []float64{r.MemoryMiB}).note("%s MiB a node", number(r.MemoryMiB/float64(n)))
	t.add(name("goroutines"), "", []float64{float64(r.Goroutines)}).note("%s a node", number(float64(r.Goroutines)/float64(n)))
	t.add(name("open files"), "", []float64{float64(r.Files)}).note("%s a node", number(float64(r.Files)/float64(n)))
	t.add(name("CPU at rest"), "% of a core", []float64{r.CPUPerCent}).note("%s %% a node", number(r.CPUPerCent/float64(n)))
	if r.BytesPerSec > 0 {
		t.add(name("traffic at rest"), "bytes/s a node", []float64{r.BytesPerSec / float64(n)}).note("%s UDP packets/s a node", number(r.PacketsUDP/float64(n)))
	}
	for i, command := range r.Outputs {
		entries, logBytes, err := logBytes(filepath.Join(r.LeaderDir, "store", "raft.db"), command.First, command.Last)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%s characters", grouped(int64(outputSizes[i])))
		store.add(name(what+", log"), "bytes a node", []float64{float64(logBytes) / float64(n)}).note("%d entries, %s KiB in all", entries, number(float64(logBytes)/1024))
	}
	sizes, enrolled, err := recordBytes(r)
	if err != nil {
		return err
	}
	store.add(name("an enrolled node, records"), "bytes a node", []float64{float64(enrolled) / float64(n)})
	for _, file := range []string{"state.db", "raft.db"} {
		info, err := os.Stat(filepath.Join(r.LeaderDir, "store", file))
		if err != nil {
			return err
		}
		store.add(name("the leader's "+file+" after all of this"), "MiB", []float64{float64(info.Size()) / (1 << 20)})
	}
	for i, size := range sizes {
		store.add(name(fmt.Sprintf("%s characters, records", grouped(int64(outputSizes[i])))), "bytes a node", []float64{float64(size) / float64(n)})
	}
	return nil
}

// logBytes counts Raft's entries and their data.
func logBytes(path string, first, last uint64) (entries, size int, err error) {
	log, err := raftboltdb.New(raftboltdb.Options{Path: path, MsgpackUseNewTimeFormat: true})
	if err != nil {
		return 0, 0, fmt.Errorf("open Raft's log: %w", err)
	}
	defer log.Close()
	for index := first; index <= last; index++ {
		var entry raft.Log
		if err := log.GetLog(index, &entry); err != nil {
			return 0, 0, fmt.Errorf("read entry %d: %w", index, err)
		}
		entries++
		size += len(entry.Data)
	}
	return entries, size, nil
}

// recordBytes counts keys and values of the records of each command, and of those
// of all nodes.
func recordBytes(r scaleResult) (commands []int, nodes int, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, err
	}
	store, err := raftstore.Open(raftstore.Config{
		Dir: filepath.Join(r.LeaderDir, "store"), NodeID: r.LeaderID, Address: r.LeaderAddress, Stream: alone{listener}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, 0, fmt.Errorf("open the leader's store: %w", err)
	}
	defer store.Close()
	commands = make([]int, len(r.Outputs))
	err = store.View(func(reader raftstore.Reader) error {
		for _, prefix := range []string{"node/", "node-by-key/"} {
			reader.Scan(prefix, "", func(key string, value []byte, _ uint64) bool {
				nodes += len(key) + len(value)
				return true
			})
		}
		for i, command := range r.Outputs {
			reader.Scan("", "", func(key string, value []byte, _ uint64) bool {
				if strings.Contains(key, command.CommandID) {
					commands[i] += len(key) + len(value)
				}
				return true
			})
		}
		return nil
	})
	return commands, nodes, err
}

// alone is Raft's network of a store that is only looked at.
type alone struct{ net.Listener }

func (alone) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	return nil, errors.New("nobody is to be reached")
}
