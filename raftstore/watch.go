package raftstore

import (
	"slices"
	"sync"
)

// Watch tells that something under its prefixes changed. Several changes may be
// told as one, and one may be told that turns out to be none: look again.
type Watch struct {
	// C holds one signal at most. It is never closed.
	C <-chan struct{}

	signal   chan struct{}
	prefixes []string
	owner    *watches
}

// Watch tells of changes to keys with one of the prefixes ("" for all) from now
// on, also of those that another node made. To miss nothing: watch, read, then
// wait. Stop it when done.
func (s *Store) Watch(prefixes ...string) *Watch {
	signal := make(chan struct{}, 1)
	w := &Watch{C: signal, signal: signal, prefixes: slices.Clone(prefixes), owner: &s.watches}
	s.watches.add(w)
	return w
}

// Stop ends the watch; it may be called twice.
func (w *Watch) Stop() { w.owner.remove(w) }

func (w *Watch) notify() {
	select {
	case w.signal <- struct{}{}:
	default: // there is one already, and who reads it will see this change too
	}
}

// watches finds the watches of a changed key. It is looked at for every key that
// is applied, so its cost is the number of different prefix lengths, a handful,
// and not the number of watches.
type watches struct {
	mu       sync.Mutex
	byPrefix map[string]map[*Watch]struct{}
	// lengths counts the prefixes of each length.
	lengths map[int]int
}

func (ws *watches) add(w *Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.byPrefix == nil {
		ws.byPrefix = map[string]map[*Watch]struct{}{}
		ws.lengths = map[int]int{}
	}
	for _, prefix := range w.prefixes {
		if ws.byPrefix[prefix] == nil {
			ws.byPrefix[prefix] = map[*Watch]struct{}{}
			ws.lengths[len(prefix)]++
		}
		ws.byPrefix[prefix][w] = struct{}{}
	}
}

func (ws *watches) remove(w *Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, prefix := range w.prefixes {
		set, ok := ws.byPrefix[prefix]
		if !ok {
			continue
		}
		delete(set, w)
		if len(set) > 0 {
			continue
		}
		delete(ws.byPrefix, prefix)
		if ws.lengths[len(prefix)]--; ws.lengths[len(prefix)] == 0 {
			delete(ws.lengths, len(prefix))
		}
	}
}

// changed tells the watches of these keys.
func (ws *watches) changed(keys []string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for length := range ws.lengths {
		for _, key := range keys {
			if len(key) < length {
				continue
			}
			for w := range ws.byPrefix[key[:length]] {
				w.notify()
			}
		}
	}
}

// all tells every watch: the whole state was replaced.
func (ws *watches) all() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, set := range ws.byPrefix {
		for w := range set {
			w.notify()
		}
	}
}
