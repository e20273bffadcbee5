package leader

import (
	"slices"

	"fleetmesh/raftstore"
)

// rotation is the next phase of changing the gossip key.
type rotation int

const (
	rotationNone rotation = iota
	// rotationIntroduce: a new key that all learn and none encrypts with yet.
	rotationIntroduce
	// rotationUse: all know it; it encrypts.
	rotationUse
	// rotationFinish: all encrypt with it; the others go.
	rotationFinish
)

// nextRotation decides from the keyring alone, so that any leader goes on where
// another stopped. removed is the number of keys that the roster shuts out;
// confirmed says that every living node has the present version of the ring.
func nextRotation(ring raftstore.Keyring, removed int, confirmed bool) rotation {
	if len(ring.Keys) == 0 {
		return rotationNone
	}
	under := slices.ContainsFunc(ring.Keys, func(k raftstore.GossipKey) bool { return k.ID == ring.Rotating })
	switch {
	case !under && removed > ring.CoversRemoved:
		return rotationIntroduce
	case !under || !confirmed:
		return rotationNone
	case ring.Keys[0].ID != ring.Rotating:
		return rotationUse
	}
	return rotationFinish
}

// rotate returns the ring after a phase; fresh is the new key of
// rotationIntroduce.
func rotate(ring raftstore.Keyring, phase rotation, removed int, fresh raftstore.GossipKey) raftstore.Keyring {
	ring.Keys = slices.Clone(ring.Keys)
	ring.Version++
	isNew := func(k raftstore.GossipKey) bool { return k.ID == ring.Rotating }
	switch phase {
	case rotationIntroduce:
		ring.Keys = append(ring.Keys, fresh)
		ring.Rotating, ring.CoversRemoved = fresh.ID, removed
	case rotationUse:
		slices.SortStableFunc(ring.Keys, func(a, b raftstore.GossipKey) int {
			switch {
			case isNew(a) && !isNew(b):
				return -1
			case isNew(b) && !isNew(a):
				return 1
			}
			return 0
		})
	case rotationFinish:
		ring.Keys = slices.DeleteFunc(ring.Keys, func(k raftstore.GossipKey) bool { return !isNew(k) })
		ring.Rotating = ""
	}
	return ring
}
