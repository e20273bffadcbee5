package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"fleetmesh/raftstore"
)

// valueSize is that of every value written, in bytes.
const valueSize = 256

const storeMethod = "Each write is one value of 256 bytes, acknowledged when it is on the disks of a majority of three servers, which share this machine's disk. " +
	"Bare Raft and raftstore: three servers in this process, TCP on the loopback, raft-boltdb, no client in front. " +
	"etcd: three processes, unencrypted gRPC to the leader. The API: three processes, CreateActivation with a description of 256 characters by the stock SDK over HTTPS to the leader, " +
	"each signed, checked, audited and remembered for repetitions. Throughput is over all writers; the rows take turns."

// system is something that stores values.
type system struct {
	name  string
	write func(ctx context.Context, i int64) error
	close func()
}

func benchStore(ctx context.Context, b *bench) error {
	var systems []*system
	defer func() {
		for _, s := range systems {
			s.close()
		}
	}()
	for _, open := range []func(context.Context, *bench) (*system, error){openBareRaft, openRaftstore, openEtcd, openAPI} {
		s, err := open(ctx, b)
		if err != nil {
			return err
		}
		if s != nil {
			systems = append(systems, s)
		}
	}
	for _, writers := range []int{1, 64, 256} {
		if b.quick && writers == 256 {
			continue
		}
		if err := b.storeTable(ctx, systems, writers); err != nil {
			return err
		}
	}
	return nil
}

// load is what some writers did for some time.
type load struct {
	perSecond float64
	each      []float64 // milliseconds
}

// storeTable lets the systems take turns, each for a while.
func (b *bench) storeTable(ctx context.Context, systems []*system, writers int) error {
	t := &table{Title: fmt.Sprintf("Store: %s", plural(writers, "writer")), Method: storeMethod, Floor: &floorCheck{What: "256 bytes and fdatasync, one file", Unit: "ms"}}
	var err error
	if t.Floor.Before, err = diskFloor(b.dir, 1500); err != nil {
		return err
	}
	turn := time.Duration(b.times(3000, 1500)) * time.Millisecond
	rates, halves := map[string][]float64{}, map[string][]float64{}
	for round := range b.times(5, 3) + 1 {
		for _, s := range systems {
			got, err := write(ctx, s, writers, turn)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if round == 0 {
				continue // caches and connections are warm from here on
			}
			rates[s.name] = append(rates[s.name], got.perSecond)
			halves[s.name] = append(halves[s.name], median(got.each))
		}
	}
	if t.Floor.After, err = diskFloor(b.dir, 1500); err != nil {
		return err
	}
	const bare, etcd = "bare Raft", "etcd"
	for _, s := range systems {
		r := t.add(s.name, "writes/s", rates[s.name])
		if s.name == bare || s.name == etcd {
			continue
		}
		r.times(rates[etcd], etcd)
		if writers > 1 && s.name == "raftstore" && len(rates[etcd]) > 0 {
			r.atLeast(1)
		}
	}
	for _, s := range systems {
		r := t.add(s.name+", half of the writes within", "ms", halves[s.name])
		if s.name != bare {
			r.times(halves[bare], bare)
		}
		if writers == 1 && s.name == "raftstore" {
			r.atMost(2)
		}
	}
	b.finish(t)
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

var writeNumber atomic.Int64

// write lets writers write for the time.
func write(ctx context.Context, s *system, writers int, turn time.Duration) (load, error) {
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		each  []float64
		errs  error
	)
	began := time.Now()
	for range writers {
		group.Go(func() {
			var mine []float64
			var err error
			for err == nil && time.Since(began) < turn {
				start := time.Now()
				if err = s.write(ctx, writeNumber.Add(1)); err == nil {
					mine = append(mine, milliseconds(time.Since(start)))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			each = append(each, mine...)
			errs = errors.Join(errs, err)
		})
	}
	group.Wait()
	return load{perSecond: float64(len(each)) / time.Since(began).Seconds(), each: each}, errs
}

// loopback is Raft's network on one machine.
type loopback struct{ net.Listener }

func (loopback) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}

func listenLoopback() (loopback, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	return loopback{listener}, err
}

// openRaftstore opens three stores in this process.
func openRaftstore(ctx context.Context, b *bench) (_ *system, err error) {
	var stores []*raftstore.Store
	closeAll := func() {
		for _, s := range stores {
			_ = s.Close()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	value := []byte(strings.Repeat("v", valueSize))
	var leader *raftstore.Store
	for i := range 3 {
		stream, err := listenLoopback()
		if err != nil {
			return nil, err
		}
		id, address := fmt.Sprintf("mi-%017x", i+1), stream.Addr().String()
		store, err := raftstore.Open(raftstore.Config{
			Dir: filepath.Join(b.dir, "raftstore", id), NodeID: id, Address: address, Stream: stream, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return nil, fmt.Errorf("open a store: %w", err)
		}
		stores = append(stores, store)
		if i == 0 {
			leader = store
			var first raftstore.Txn
			first.Put("first", value)
			if err := store.Bootstrap(first); err != nil {
				return nil, err
			}
			continue
		}
		for _, change := range []func(context.Context, string, string, uint64) error{leader.AddNonvoter, leader.AddVoter} {
			_, index, err := leader.Servers()
			if err == nil {
				err = change(ctx, id, address, index)
			}
			if err != nil {
				return nil, fmt.Errorf("add a server: %w", err)
			}
		}
	}
	return &system{name: "raftstore", close: closeAll, write: func(ctx context.Context, i int64) error {
		var txn raftstore.Txn
		txn.Put(fmt.Sprintf("key-%08d", i), value)
		_, err := leader.Apply(ctx, txn)
		return err
	}}, nil
}

// openBareRaft is Raft with the same log on disk, the same time-outs and a state
// machine that does nothing.
func openBareRaft(ctx context.Context, b *bench) (_ *system, err error) {
	var rafts []*raft.Raft
	var logs []*raftboltdb.BoltStore
	closeAll := func() {
		for i, r := range rafts {
			_ = r.Shutdown().Error()
			_ = logs[i].Close()
		}
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	quiet := hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	var servers []raft.Server
	for i := range 3 {
		dir := filepath.Join(b.dir, "raft", fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		log, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.db"), MsgpackUseNewTimeFormat: true})
		if err != nil {
			return nil, err
		}
		stream, err := listenLoopback()
		if err != nil {
			return nil, err
		}
		config := raft.DefaultConfig()
		config.LocalID = raft.ServerID(fmt.Sprint(i))
		config.Logger = quiet
		config.HeartbeatTimeout, config.ElectionTimeout, config.LeaderLeaseTimeout = 400*time.Millisecond, 400*time.Millisecond, 300*time.Millisecond
		config.CommitTimeout = 100 * time.Millisecond
		transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: stream, MaxPool: 3, Timeout: 5 * time.Second, Logger: quiet, MsgpackUseNewTimeFormat: true,
		})
		r, err := raft.NewRaft(config, nothing{}, log, log, raft.NewDiscardSnapshotStore(), transport)
		if err != nil {
			return nil, err
		}
		rafts, logs = append(rafts, r), append(logs, log)
		servers = append(servers, raft.Server{ID: config.LocalID, Address: raft.ServerAddress(stream.Addr().String())})
	}
	if err := rafts[0].BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return nil, err
	}
	var leader *raft.Raft
	err = await(ctx, "a leader of bare Raft", func() error {
		for _, r := range rafts {
			if r.State() == raft.Leader {
				leader = r
				return nil
			}
		}
		return errors.New("none yet")
	})
	if err != nil {
		return nil, err
	}
	value := []byte(strings.Repeat("v", valueSize))
	return &system{name: "bare Raft", close: closeAll, write: func(context.Context, int64) error {
		return leader.Apply(value, time.Minute).Error()
	}}, nil
}

// nothing is a state machine that keeps nothing, in batches.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                  { return nil }
func (nothing) ApplyBatch(logs []*raft.Log) []any    { return make([]any, len(logs)) }
func (nothing) Snapshot() (raft.FSMSnapshot, error)  { return nothing{}, nil }
func (nothing) Restore(snapshot io.ReadCloser) error { return snapshot.Close() }
func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}

// openAPI is a mesh of three voters, written to as a client does.
func openAPI(ctx context.Context, b *bench) (*system, error) {
	m, err := b.newMesh(ctx, "api", "127.77.3", 3)
	if err != nil {
		return nil, err
	}
	if err := m.awaitVoters(ctx, 3); err != nil {
		m.close()
		return nil, err
	}
	roles, err := m.roles(ctx)
	if err != nil {
		m.close()
		return nil, err
	}
	description := strings.Repeat("v", valueSize)
	client := m.client(roles.leader)
	return &system{name: "API", close: m.close, write: func(ctx context.Context, _ int64) error {
		_, err := client.ssm.CreateActivation(ctx, &ssm.CreateActivationInput{
			IamRole: aws.String("bench"), Description: aws.String(description),
		})
		return err
	}}, nil
}
