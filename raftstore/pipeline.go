package raftstore

import "github.com/hashicorp/raft"

// pipeline lets go of a sender whose answers nobody reads any more. Raft stops to
// read at the first answer that is a failure, and closes the pipeline only when
// its sender has noticed. With few messages in flight the sender may wait at that
// moment for room, which only the reader makes: then neither goes on. That
// follower would get heartbeats and no entry for as long as this server leads, a
// deposed leader would go on with heartbeats of its term, and Raft would not end
// (hashicorp/raft 1.8.0, pipelineReplicate).
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	// closing is closed by Close, ended when pass has returned.
	closing, ended chan struct{}
}

// AppendEntriesPipeline implements raft.Transport.
func (h *heartbeats) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := h.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err // Raft looks for a value of its own here
	}
	return newPipeline(inner), nil
}

// newPipeline's caller closes it, once.
func newPipeline(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{AppendPipeline: inner, answers: make(chan raft.AppendFuture), closing: make(chan struct{}), ended: make(chan struct{})}
	go p.pass()
	return p
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	close(p.closing)
	err := p.AppendPipeline.Close()
	<-p.ended
	return err
}

// pass hands answers to the reader, up to the first failure.
func (p *pipeline) pass() {
	defer close(p.ended)
	for {
		select {
		case answer := <-p.AppendPipeline.Consumer():
			failed := answer.Error() != nil || !answer.Response().Success // before it is the reader's
			select {
			case p.answers <- answer:
			case <-p.closing:
				return
			}
			if failed {
				_ = p.AppendPipeline.Close() // Close says what is wrong, should anything be
				return
			}
		case <-p.closing:
			return
		}
	}
}
