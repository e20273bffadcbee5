package worker

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"fleetmesh/agent/peer"
)

// BenchmarkJob is one job of `true`, from Accept to the report of its end, with
// the shim started ahead and not.
func BenchmarkJob(b *testing.B) {
	for _, spare := range []bool{true, false} {
		b.Run(fmt.Sprint("spare=", spare), func(b *testing.B) {
			done := make(chan struct{}, 100)
			config := testConfig(b.TempDir(), newMesh())
			config.SpareShim = spare
			config.Report = func(_ context.Context, reports []peer.JobReport) ([]string, error) {
				for _, r := range reports {
					if !r.FinishedAt.IsZero() {
						done <- struct{}{}
					}
				}
				return nil, nil
			}
			w, err := Open(config)
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			for i := 0; b.Loop(); i++ {
				if spare {
					b.StopTimer()
					eventually(b, "a spare is there", func() bool {
						children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
						threads, _ := filepath.Glob("/proc/self/task/*/children")
						for _, path := range threads {
							more, _ := os.ReadFile(path)
							children = append(children, more...)
						}
						return err == nil && len(bytes.Fields(children)) > 0
					})
					b.StartTimer()
				}
				if _, err := w.Accept(context.Background(), []peer.Job{newJob(fmt.Sprint("job", i), shell("a", "true"))}); err != nil {
					b.Fatal(err)
				}
				<-done
			}
		})
	}
}
