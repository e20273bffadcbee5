package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

func checkKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("no gossip key: gossip is always encrypted")
	}
	for i, key := range keys {
		if len(key) != keySize {
			return fmt.Errorf("gossip key %d has %d bytes, want %d", i, len(key), keySize)
		}
	}
	return nil
}

// SetKeys puts another ring in place while gossip goes on: the first key
// encrypts, all decrypt. All keys are checked first, so it is done whole or not
// at all. A new key must be known to every node before it comes first anywhere,
// and an old one must come first nowhere before it is dropped.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if err := checkKeys(keys); err != nil {
		return err
	}
	g.keyLock.Lock()
	defer g.keyLock.Unlock()
	before := keyID(g.ring.GetPrimaryKey())
	if err := changeRing(g.ring, keys); err != nil {
		return fmt.Errorf("change gossip keys: %w", err)
	}
	g.config.Log.Info("gossip keys changed", "keys", len(keys), "encrypting_before", before, "encrypting_now", keyID(keys[0]))
	return nil
}

// Keys returns the ring in use, the encrypting key first.
func (g *Gossip) Keys() [][]byte {
	g.keyLock.Lock()
	defer g.keyLock.Unlock()
	keys := slices.Clone(g.ring.GetKeys())
	for i := range keys {
		keys[i] = bytes.Clone(keys[i])
	}
	return keys
}

// keyID is how people speak of a key, as in the store's keyring record.
func keyID(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])[:16]
}

// changeRing adds, uses, removes. Readers decrypt with the slice that GetKeys
// gave them, outside the ring's lock, and RemoveKey moves the keys behind the
// removed one within that very slice; so only the last key is ever removed, which
// moves nothing.
func changeRing(ring *memberlist.Keyring, keys [][]byte) error {
	wanted := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	for _, key := range keys {
		if err := ring.AddKey(bytes.Clone(key)); err != nil {
			return err
		}
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	for {
		now := ring.GetKeys()
		if !slices.ContainsFunc(now, func(k []byte) bool { return !wanted(k) }) {
			return nil
		}
		last := now[len(now)-1]
		if !wanted(last) {
			if err := ring.RemoveKey(last); err != nil {
				return err
			}
			continue
		}
		// A key to keep stands behind one to drop: bring it to the front, where it
		// encrypts for an instant, and put the right one before it.
		if err := ring.UseKey(last); err != nil {
			return err
		}
		if err := ring.UseKey(keys[0]); err != nil {
			return err
		}
	}
}
