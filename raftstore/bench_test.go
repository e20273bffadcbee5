package raftstore

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The benchmarks write 256 byte values into three servers of this process over
// TCP on the loopback, all on one disk: through the store, and through nothing
// but Raft on the same kind of log. Compare the two of one run.

var benchmarkWriters = []int{1, 64}

func BenchmarkApply(b *testing.B) {
	c := newCluster(b, 3, nil)
	leader := c.leader().store
	ctx := b.Context()
	value := strings.Repeat("v", 256)
	for _, writers := range benchmarkWriters {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			writeFrom(b, writers, func(i int) error {
				_, err := leader.Apply(ctx, put(fmt.Sprintf("key-%08d", i), value))
				return err
			})
		})
	}
}

func BenchmarkConfirmedView(b *testing.B) {
	c := newCluster(b, 3, nil)
	leader := c.leader().store
	ctx := b.Context()
	for _, readers := range benchmarkWriters {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			writeFrom(b, readers, func(int) error {
				return leader.ConfirmedView(ctx, func(r Reader) error { r.Get("first"); return nil })
			})
		})
	}
}

func BenchmarkBareRaft(b *testing.B) {
	leader := bareRaft(b)
	value := []byte(strings.Repeat("v", 256))
	for _, writers := range benchmarkWriters {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			writeFrom(b, writers, func(int) error { return leader.Apply(value, time.Minute).Error() })
		})
	}
}

// writeFrom calls write b.N times from as many goroutines, and reports the median
// and the 99th percentile.
func writeFrom(b *testing.B, writers int, write func(i int) error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		took  []time.Duration
		calls = make(chan int)
	)
	b.ResetTimer()
	for range writers {
		wg.Go(func() {
			var mine []time.Duration
			for i := range calls {
				began := time.Now()
				if err := write(i); err != nil {
					b.Error(err)
				}
				mine = append(mine, time.Since(began))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	for i := range b.N {
		calls <- i
	}
	close(calls)
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// bareRaft is three servers with the store's log, timings and transport, and a
// state machine that does nothing. It returns the leader.
func bareRaft(b *testing.B) *raft.Raft {
	c := &cluster{t: b, network: newNetwork()}
	var servers []raft.Server
	var rafts []*raft.Raft
	for i := range 3 {
		node := &testNode{id: fmt.Sprint(i), dir: b.TempDir(), address: "127.0.0.1:0"}
		cfg, err := c.config(node).withDefaults()
		if err != nil {
			b.Fatal(err)
		}
		logs, err := openLog(cfg, cfg.Fatal)
		if err != nil {
			b.Fatal(err)
		}
		transport := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: cfg.Stream, MaxPool: transportPool, Timeout: transportTimeout, Logger: newRaftLogger(cfg.Log), MsgpackUseNewTimeFormat: true,
		})
		r, err := raft.NewRaft(raftConfig(cfg), noMachine{}, logs, logs, raft.NewDiscardSnapshotStore(), transport)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			logs.release()
			if err := r.Shutdown().Error(); err != nil {
				b.Error(err)
			}
			if err := logs.close(); err != nil {
				b.Error(err)
			}
		})
		servers = append(servers, raft.Server{ID: raft.ServerID(cfg.NodeID), Address: raft.ServerAddress(cfg.Address)})
		rafts = append(rafts, r)
	}
	if err := rafts[0].BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		b.Fatal(err)
	}
	waitFor(b, "a leader", func() bool { return slices.IndexFunc(rafts, leads) >= 0 })
	return rafts[slices.IndexFunc(rafts, leads)]
}

func leads(r *raft.Raft) bool { return r.State() == raft.Leader }

// noMachine applies nothing, in batches.
type noMachine struct{}

func (noMachine) Apply(*raft.Log) any                  { return nil }
func (noMachine) ApplyBatch(entries []*raft.Log) []any { return make([]any, len(entries)) }
func (noMachine) Snapshot() (raft.FSMSnapshot, error)  { return nil, raft.ErrNothingNewToSnapshot }
func (noMachine) Restore(source io.ReadCloser) error   { return source.Close() }
