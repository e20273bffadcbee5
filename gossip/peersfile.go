package gossip

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	peersName   = "peers.json"
	peersFormat = 1
	// peersLimit is the longest file that is read: maxMembers of the longest.
	peersLimit = 8 << 20
	// peersDelay gathers changes before they are written; peersPerDelay members more
	// wait as long again. All is written anew each time, so while a large mesh comes
	// up, which is a change each second, writing must not grow with its square.
	peersDelay    = time.Second
	peersPerDelay = 20
)

// rememberPause is how long changes are gathered in a mesh of so many members.
func rememberPause(members int) time.Duration {
	return peersDelay * time.Duration(1+members/peersPerDelay)
}

// peersFile is peers.json: every node ever heard of and not forgotten, so that a
// restart of all finds itself again whoever was alive last.
type peersFile struct {
	Format int    `json:"format"`
	Peers  []peer `json:"peers"`
}

type peer struct {
	NodeID        string    `json:"node_id"`
	GossipAddress string    `json:"gossip_address"`
	Address       string    `json:"address"`
	Version       string    `json:"version"`
	Voter         bool      `json:"voter"`
	Left          bool      `json:"left"`
	LastSeen      time.Time `json:"last_seen"`
}

// decodePeers leaves out entries that make no sense.
func decodePeers(b []byte) ([]peer, error) {
	var file peersFile
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	if file.Format != peersFormat {
		return nil, fmt.Errorf("format %d, this program knows %d", file.Format, peersFormat)
	}
	file.Peers = slices.DeleteFunc(file.Peers, func(p peer) bool {
		_, err := netip.ParseAddrPort(p.GossipAddress)
		return err != nil || !validNodeID(p.NodeID) || !validAddress(p.Address) || !validVersion(p.Version)
	})
	return file.Peers[:min(len(file.Peers), maxMembers)], nil
}

// readPeers: a file that cannot be read costs no more than the seeds' help, so it
// is logged and replaced.
func readPeers(dir string, log *slog.Logger) []peer {
	if dir == "" {
		return nil
	}
	path := filepath.Join(dir, peersName)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var peers []peer
	if err == nil {
		var b []byte
		b, err = io.ReadAll(io.LimitReader(file, peersLimit))
		err = errors.Join(err, file.Close())
		if err == nil {
			peers, err = decodePeers(b)
		}
	}
	if err != nil {
		log.Warn("remembered peers are not used", "file", path, "error", err)
	}
	return peers
}

// writePeers replaces the file at once: a crash leaves the old or the new one.
func writePeers(dir string, peers []peer) (err error) {
	b, err := json.MarshalIndent(peersFile{Format: peersFormat, Peers: peers}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode peers: %w", err)
	}
	file, err := os.CreateTemp(dir, peersName+".*")
	if err != nil {
		return fmt.Errorf("write peers: %w", err)
	}
	_, err = file.Write(append(b, '\n'))
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, peersName))
	}
	if err != nil {
		return fmt.Errorf("write peers: %w", errors.Join(err, os.Remove(file.Name())))
	}
	parent, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// peers returns what to remember, in order of ids, and what of it makes it worth
// writing: all but the time at which the living were seen.
func (g *Gossip) peers() (list, worth []peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.config.Now()
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		m := g.members[id]
		if id == g.config.NodeID {
			continue
		}
		p := peer{id, m.gossipAddress, m.meta.Address, m.meta.Version, m.meta.Voter, m.left, m.lastSeen.UTC().Truncate(time.Second)}
		seen := p
		if m.alive {
			seen.LastSeen, p.LastSeen = time.Time{}, now.UTC().Truncate(time.Second)
		}
		list, worth = append(list, p), append(worth, seen)
	}
	return list, worth
}

// savePeers writes peers.json if it has changed since the last time.
func (g *Gossip) savePeers() error {
	if g.config.Dir == "" {
		return nil
	}
	list, worth := g.peers()
	if slices.Equal(worth, g.savedPeers) {
		return nil
	}
	if err := writePeers(g.config.Dir, list); err != nil {
		return err
	}
	g.savedPeers = worth
	return nil
}

// rememberLoop writes peers.json after changes.
func (g *Gossip) rememberLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wakePeers:
		}
		if !sleep(ctx, rememberPause(int(g.living.Load()))) {
			return
		}
		if err := g.savePeers(); err != nil {
			g.speaker.sayRarely("peers", slog.LevelError, "cannot remember peers", "error", err)
		}
	}
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
