package raftstore

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestPipelineLetsItsSenderGo: the reader stops at the first failure, as Raft's
// does; a sender that goes on gets an error and does not wait for ever.
func TestPipelineLetsItsSenderGo(t *testing.T) {
	t.Parallel()
	for name, success := range map[string]bool{"a refusal": false, "a broken connection": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			follower, leader := newTransport(t), newTransport(t)
			handled := make(chan struct{})
			go func() {
				defer close(handled)
				for count := 0; ; count++ {
					select {
					case call := <-follower.Consumer():
						call.Respond(&raft.AppendEntriesResponse{Term: 1, Success: success}, nil)
						if success && count == 2 {
							follower.Close()
							follower.CloseStreams()
							return
						}
					case <-t.Context().Done():
						return
					}
				}
			}()
			transport := &heartbeats{NetworkTransport: leader, answers: &answers{}}
			sender, err := transport.AppendEntriesPipeline("follower", follower.LocalAddr())
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for answer := range sender.Consumer() {
					if answer.Error() != nil || !answer.Response().Success {
						return
					}
				}
			}()
			sent := make(chan error, 1)
			go func() {
				for {
					if _, err := sender.AppendEntries(&raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
						sent <- err
						return
					}
				}
			}()
			select {
			case <-sent:
			case <-time.After(time.Minute):
				t.Fatal("the sender waits for ever")
			}
			if err := sender.Close(); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// newTransport is Raft's own, on loopback.
func newTransport(t *testing.T) *raft.NetworkTransport {
	t.Helper()
	transport, err := raft.NewTCPTransport("127.0.0.1:0", nil, 2, 10*time.Second, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { transport.Close() })
	return transport
}
