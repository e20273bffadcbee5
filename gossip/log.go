package gossip

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// speaker writes log lines from a goroutine of its own: memberlist logs, and
// calls back, while it holds its locks, and a log that blocks must not stop
// gossip. When more lines wait than fit, the newest are dropped and counted.
type speaker struct {
	log     *slog.Logger
	lines   chan line
	dropped atomic.Int64
	limit   limiter
}

type line struct {
	level   slog.Level
	message string
	args    []any
}

const speakerLines = 256

func newSpeaker(log *slog.Logger) *speaker {
	return &speaker{log: log, lines: make(chan line, speakerLines)}
}

// say never blocks.
func (s *speaker) say(level slog.Level, message string, args ...any) {
	if !s.log.Enabled(context.Background(), level) {
		return
	}
	select {
	case s.lines <- line{level, message, args}:
	default:
		s.dropped.Add(1)
	}
}

// sayRarely says it once a minute per key.
func (s *speaker) sayRarely(key string, level slog.Level, message string, args ...any) {
	if s.log.Enabled(context.Background(), level) && s.limit.allow(key, time.Now()) {
		s.say(level, message, args...)
	}
}

// run writes until ctx ends, and then what still waits.
func (s *speaker) run(ctx context.Context) {
	for {
		select {
		case l := <-s.lines:
			s.write(l)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case l := <-s.lines:
				s.write(l)
			default:
				return
			}
		}
	}
}

func (s *speaker) write(l line) {
	if n := s.dropped.Swap(0); n > 0 {
		s.log.Warn("gossip log lines dropped", "lines", n)
	}
	s.log.Log(context.Background(), l.level, l.message, l.args...)
}

// limiter lets one of a kind through per limitEvery. Its memory is bounded: with
// limitKeys kinds within one period further ones are kept back.
type limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	limitEvery = time.Minute
	limitKeys  = 1024
)

func (l *limiter) allow(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.last[key]; ok && now.Sub(last) < limitEvery {
		return false
	}
	if len(l.last) >= limitKeys {
		for k, last := range l.last {
			if now.Sub(last) >= limitEvery {
				delete(l.last, k)
			}
		}
		if len(l.last) >= limitKeys {
			return false
		}
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[key] = now
	return true
}

// Write takes one line of memberlist's logger, for log.New(speaker, "", 0).
func (s *speaker) Write(p []byte) (int, error) {
	v := judge(string(p))
	switch {
	case v.drop:
	case v.key != "":
		s.sayRarely(v.key, v.level, v.message, v.args...)
	default:
		s.say(v.level, v.message, v.args...)
	}
	return len(p), nil
}

// verdict is what becomes of a line of memberlist's: dropped, or said at a
// level, with a key at most once a minute.
type verdict struct {
	drop    bool
	level   slog.Level
	key     string
	message string
	args    []any
}

// chatter are warnings and errors of memberlist that are everyday life: another
// node is away, and what matters of it is logged as a change of membership.
var chatter = []string{
	"failed to receive: ",
	"Failed to read remote state",
	"Failed to push local state",
	"Failed push/pull merge",
	"Failed fallback TCP ping",
	"Failed to send ",
	"Failed to forward ack",
	"Push/Pull with ",
	"Got ping for unexpected node",
	"Refuting ",
	"failed to join ",
	// These three are said by this package in its own words.
	"ignoring alive message for",
	"Conflicting address for",
	"failed to receive and remove the stream label header",
}

// judge parses a line "[LEVEL] memberlist: text".
func judge(text string) verdict {
	text = strings.TrimSpace(text)
	level, text, ok := strings.Cut(strings.TrimPrefix(text, "["), "] ")
	if !ok {
		level, text = "", level
	}
	text = strings.TrimPrefix(text, "memberlist: ")
	if strings.Contains(text, "no installed keys could decrypt the message") {
		from := sourceOf(text)
		return verdict{
			level:   slog.LevelWarn,
			key:     "key " + from,
			message: "gossip refused: it is encrypted with a key that is not on this node's ring",
			args:    []any{"from", from},
		}
	}
	if strings.Contains(text, "over TCP but UDP probes failed") {
		node := strings.TrimPrefix(text, "Was able to connect to ")
		node, _, _ = strings.Cut(node, " ")
		return verdict{
			level:   slog.LevelWarn,
			key:     "udp " + node,
			message: "a node answers over TCP but not over UDP: is UDP blocked on the gossip port?",
			args:    []any{"node", node},
		}
	}
	if level != "WARN" && level != "ERR" && level != "ERROR" {
		return verdict{level: slog.LevelDebug, message: text}
	}
	for _, known := range chatter {
		if strings.HasPrefix(text, known) {
			return verdict{level: slog.LevelDebug, message: text}
		}
	}
	// The beginning tells the kind; node names and addresses come later.
	return verdict{level: slog.LevelWarn, key: "memberlist " + text[:min(len(text), 24)], message: "gossip: " + text}
}

// sourceOf returns the host of a line that ends in "from=host:port".
func sourceOf(text string) string {
	_, from, ok := strings.Cut(text, "from=")
	if !ok {
		return "unknown"
	}
	from, _, _ = strings.Cut(from, " ")
	if host, _, err := net.SplitHostPort(from); err == nil {
		return host
	}
	return from
}
