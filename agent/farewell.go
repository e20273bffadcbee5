package agent

import (
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"fleetmesh/agent/peer"
)

const (
	// farewellEvery is how often one removed node is told so.
	farewellEvery = 10 * time.Second
	farewellLimit = 5 * time.Second
	// farewellsWaiting bounds those that wait to be told; more call again.
	farewellsWaiting = 16
)

// stranger is a removed node that calls, and where it calls from.
type stranger struct{ nodeID, host string }

// turnedAway notes a removed node that calls at closed doors. It was away when it
// was removed, so nobody could tell it.
func (a *Agent) turnedAway(nodeID, host string) {
	if store := a.store(); store == nil || !store.IsLeader() {
		return
	}
	select {
	case a.strangers <- stranger{nodeID, host}:
	default:
	}
}

// bidFarewells tells removed nodes that call so, with the roster that shuts them
// out: they end by themselves then. It runs until Close.
func (a *Agent) bidFarewells() {
	told := map[string]time.Time{}
	for {
		var s stranger
		select {
		case <-a.ctx.Done():
			return
		case s = <-a.strangers:
		}
		for id, at := range told {
			if time.Since(at) >= farewellEvery {
				delete(told, id)
			}
		}
		store := a.store()
		if _, recently := told[s.nodeID]; recently || store == nil {
			continue
		}
		told[s.nodeID] = time.Now()
		for _, address := range a.whereRemoved(s) {
			ctx, cancel := context.WithTimeout(a.ctx, farewellLimit)
			err := a.client.Farewell(ctx, peer.Target{NodeID: s.nodeID, Address: address}, &peer.RosterRequest{Fence: peer.Fence{Term: store.Term()}, Roster: a.gate.Roster()})
			cancel()
			if err == nil || a.ctx.Err() != nil {
				break
			}
			a.log.Debug("a removed node that calls could not be told", "node", s.nodeID, "at", address, "error", err)
		}
	}
}

// whereRemoved lists where a removed node may be reached: where it was, and where
// it calls from.
func (a *Agent) whereRemoved(s stranger) (addresses []string) {
	for _, removed := range a.gate.Roster().Removed {
		if removed.NodeID == s.nodeID && removed.Address != "" {
			addresses = append(addresses, removed.Address)
		}
	}
	if calls := net.JoinHostPort(s.host, strconv.Itoa(a.config.APIPort)); !slices.Contains(addresses, calls) {
		addresses = append(addresses, calls)
	}
	return addresses
}
