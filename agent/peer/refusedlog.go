package peer

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// refusedLogEvery is how often one source is named in the log.
	refusedLogEvery = time.Minute
	// refusedLogSources bounds how many sources are remembered; beyond it they are
	// logged as one.
	refusedLogSources = 1024
)

// refusedLog counts connections that were closed before they could say anything
// valid, and logs each source at most once a minute: a port scan or a stranger
// who tries again and again fills no disk.
type refusedLog struct {
	log *slog.Logger

	mu      sync.Mutex
	total   uint64
	sources map[string]*refusedSource
}

type refusedSource struct {
	logged time.Time
	// unlogged counts what has come since.
	unlogged uint64
}

func newRefusedLog(log *slog.Logger) *refusedLog {
	return &refusedLog{log: log, sources: make(map[string]*refusedSource)}
}

// refused counts a connection from remote and logs it when its time has come.
func (r *refusedLog) refused(remote net.Addr, why string, now time.Time) {
	host := "unknown"
	if remote != nil {
		host = remote.String()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total++
	source := r.source(host, now)
	source.unlogged++
	if !source.logged.IsZero() && now.Sub(source.logged) < refusedLogEvery {
		return
	}
	r.log.Warn("connection refused", "from", host, "why", why, "since the last such line", source.unlogged, "in all", r.total)
	source.logged, source.unlogged = now, 0
}

func (r *refusedLog) source(host string, now time.Time) *refusedSource {
	if source := r.sources[host]; source != nil {
		return source
	}
	if len(r.sources) >= refusedLogSources {
		for known, source := range r.sources {
			if now.Sub(source.logged) >= refusedLogEvery {
				delete(r.sources, known)
			}
		}
	}
	if len(r.sources) >= refusedLogSources {
		host = "" // all others
	}
	if r.sources[host] == nil {
		r.sources[host] = &refusedSource{}
	}
	return r.sources[host]
}

// count is how many connections have been refused.
func (r *refusedLog) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
