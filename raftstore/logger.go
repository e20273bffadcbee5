package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// raftLogger is what Raft logs to. Raft tells of every step of an election and of
// every message to a dead server; an operator wants to know that servers cannot
// be reached and who leads (which leadership tells). So each level is one lower
// here: Raft's errors are warnings, its warnings and notes are for debugging, and
// what repeats is told once in a while.
type raftLogger struct {
	log   *slog.Logger
	name  string
	args  []any
	quiet *repetitions
}

// repeatInterval is how often the same warning about the same server is told.
const repeatInterval = 30 * time.Second

func newRaftLogger(log *slog.Logger) hclog.Logger {
	return &raftLogger{log: log, quiet: &repetitions{last: map[string]time.Time{}, now: time.Now}}
}

// repetitions remembers when a warning was told last.
type repetitions struct {
	now func() time.Time

	mu   sync.Mutex
	last map[string]time.Time
}

// maxRepetitions bounds the memory for warnings.
const maxRepetitions = 1000

// first reports whether the warning with this key has not been told lately.
func (r *repetitions) first(key string) bool {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.last[key]; ok && now.Sub(last) < repeatInterval {
		return false
	}
	if len(r.last) >= maxRepetitions {
		clear(r.last)
	}
	r.last[key] = now
	return true
}

// slogLevel is the level at which a message of Raft's level appears.
func slogLevel(level hclog.Level) slog.Level {
	switch {
	case level >= hclog.Error:
		return slog.LevelWarn
	case level >= hclog.Info:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

// Log implements hclog.Logger.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	if level == hclog.Off {
		return
	}
	at := slogLevel(level)
	if !l.log.Enabled(context.Background(), at) {
		return
	}
	all := append(l.args[:len(l.args):len(l.args)], args...)
	if at >= slog.LevelWarn && (closedHere(all) || !l.quiet.first(repetitionKey(msg, all))) {
		at = slog.LevelDebug
	}
	for i, arg := range all {
		if f, ok := arg.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				all[i] = fmt.Sprintf(format, f[1:]...)
			}
		}
	}
	l.log.Log(context.Background(), at, "raft: "+msg, all...)
}

// closedHere reports whether the cause is a connection that this process closed
// itself, as it does on every stop and when a server loses its right.
func closedHere(args []any) bool {
	return slices.ContainsFunc(args, func(arg any) bool {
		err, ok := arg.(error)
		return ok && errors.Is(err, net.ErrClosed)
	})
}

// repetitionKey is the message and the server that it is about; times and errors
// differ each time.
func repetitionKey(msg string, args []any) string {
	var key strings.Builder
	key.WriteString(msg)
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "target", "server-id", "id":
			fmt.Fprintf(&key, "|%v", args[i+1])
		}
	}
	return key.String()
}

func (l *raftLogger) enabled(level hclog.Level) bool {
	return l.log.Enabled(context.Background(), slogLevel(level))
}

// The rest implements hclog.Logger.

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *raftLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *raftLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *raftLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *raftLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *raftLogger) ImpliedArgs() []any { return l.args }
func (l *raftLogger) Name() string       { return l.name }

func (l *raftLogger) With(args ...any) hclog.Logger {
	with := *l
	with.args = append(l.args[:len(l.args):len(l.args)], args...)
	return &with
}

func (l *raftLogger) Named(name string) hclog.Logger {
	if l.name != "" {
		name = l.name + "." + name
	}
	return l.ResetNamed(name)
}

func (l *raftLogger) ResetNamed(name string) hclog.Logger {
	named := *l
	named.name = name
	return &named
}

func (l *raftLogger) SetLevel(hclog.Level)  {} // the level is that of the slog handler
func (l *raftLogger) GetLevel() hclog.Level { return hclog.NoLevel }

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(l.log.Handler(), slog.LevelDebug)
}

func (l *raftLogger) StandardWriter(opts *hclog.StandardLoggerOptions) io.Writer {
	return l.StandardLogger(opts).Writer()
}
