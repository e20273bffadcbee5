package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestRaftsLogIsToldWithMeasure(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	now := time.Now()
	logger := newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))).(*raftLogger)
	logger.quiet.now = func() time.Time { return now }
	lines := func() int { n := strings.Count(out.String(), "\n"); out.Reset(); return n }

	logger.Info("entering follower state")
	logger.Warn("heartbeat timeout reached, starting election")
	if n := lines(); n != 0 || logger.IsWarn() || !logger.IsError() {
		t.Errorf("Raft's notes are told: %d lines", n)
	}
	for i := range 5 {
		logger.Error("failed to heartbeat to", "peer", "10.0.0.1", "error", errors.New(strings.Repeat("x", i)))
		logger.With("peer", "10.0.0.2").Named("net").Error("failed to heartbeat to", "error", "other")
	}
	if n := lines(); n != 2 {
		t.Errorf("%d lines about two servers that are away", n)
	}
	logger.Error("failed to decode incoming command", "error", fmt.Errorf("read tcp: %w", net.ErrClosed))
	if n := lines(); n != 0 {
		t.Errorf("%d lines about a connection that this process closed", n)
	}
	now = now.Add(repeatInterval)
	logger.Error("failed to heartbeat to", "peer", "10.0.0.1", "size", hclog.Fmt("%d / %d", 1, 2))
	if got := out.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, `msg="raft: failed to heartbeat to" peer=10.0.0.1 size="1 / 2"`) {
		t.Errorf("told as %s", got)
	}
	for i := range 3 * maxRepetitions {
		logger.Error(strings.Repeat("m", i%7)+"n", "peer", i)
	}
	if n := len(logger.quiet.last); n > maxRepetitions {
		t.Errorf("%d warnings are remembered", n)
	}
}
