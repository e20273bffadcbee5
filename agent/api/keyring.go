package api

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"fleetmesh/agent/meshapi"
	"fleetmesh/raftstore"
)

const (
	gossipKeySize = 32
	// maxGossipKeys is how many keys the ring holds: gossip tries each on what it
	// hears.
	maxGossipKeys = 8
)

// keyring lists or changes the gossip keys. agent/leader gives the new ring to
// every node.
func (c *call) keyring(in *meshapi.KeyringInput) (*meshapi.KeyringOutput, error) {
	ring, err := raftstore.GetKeyring(c)
	if err != nil {
		return nil, fmt.Errorf("read the keyring: %w", err)
	}
	switch in.Action {
	case "list":
		if in.KeyId != "" {
			return nil, refuse(codeValidation, "The action list takes no KeyId.")
		}
	case "add":
		if in.KeyId != "" {
			return nil, refuse(codeValidation, "The action add makes a key of its own and takes no KeyId.")
		}
		if len(ring.Keys) >= maxGossipKeys {
			return nil, refuse(codeValidation, "The ring holds at most %d keys: remove one that is not used any more.", maxGossipKeys)
		}
		added, err := c.newGossipKey()
		if err != nil {
			return nil, err
		}
		c.putKeyring(&ring, append(slices.Clone(ring.Keys), added), added.ID)
	case "use", "remove":
		at := slices.IndexFunc(ring.Keys, func(k raftstore.GossipKey) bool { return k.ID == in.KeyId })
		if at < 0 {
			return nil, refuse(codeValidation, "There is no gossip key %q; the action list shows them.", in.KeyId)
		}
		rest := slices.Delete(slices.Clone(ring.Keys), at, at+1)
		switch {
		case in.Action == "remove" && at == 0:
			return nil, refuse(codeValidation, "The key %s is in use: use another one first.", in.KeyId)
		case in.Action == "remove":
			c.putKeyring(&ring, rest, in.KeyId)
		case at > 0:
			c.putKeyring(&ring, slices.Insert(rest, 0, ring.Keys[at]), in.KeyId)
		}
	default:
		return nil, refuse(codeValidation, "Action is list, add, use or remove, not %q.", in.Action)
	}
	out := &meshapi.KeyringOutput{Version: ring.Version, Keys: []meshapi.KeyringKey{}}
	for i, k := range ring.Keys {
		out.Keys = append(out.Keys, meshapi.KeyringKey{KeyId: k.ID, Primary: i == 0})
	}
	return out, nil
}

func (c *call) putKeyring(ring *raftstore.Keyring, keys []raftstore.GossipKey, changed string) {
	ring.Keys = keys
	ring.Version++
	c.txn.PutKeyring(*ring)
	c.resource = changed
}

func (c *call) newGossipKey() (raftstore.GossipKey, error) {
	key := make([]byte, gossipKeySize)
	if _, err := rand.Read(key); err != nil {
		return raftstore.GossipKey{}, fmt.Errorf("draw a gossip key: %w", err)
	}
	sum := sha256.Sum256(key)
	id := hex.EncodeToString(sum[:8])
	return raftstore.GossipKey{ID: id, Sealed: c.key.Seal(key, sealGossipKey+id)}, nil
}
