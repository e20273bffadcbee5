package raftstore

// Keyring is the gossip keys, newest decision first: Keys[0] encrypts, all
// decrypt. The keys themselves are sealed with the mesh key.
type Keyring struct {
	Meta
	Version uint64
	Keys    []GossipKey
}

// GossipKey is one 32-byte key; ID is the first 16 hex digits of its SHA-256, so
// that people can speak of it.
type GossipKey struct {
	ID     string
	Sealed []byte
}

const (
	keyringKey     = "keyring"
	keyringVersion = 1
)

// GetKeyring returns the keyring, ErrNotFound before it is written.
func GetKeyring(r Reader) (Keyring, error) {
	var k Keyring
	index, found, err := getRecord(r, keyringKey, keyringVersion, &k)
	if err == nil && !found {
		err = ErrNotFound
	}
	k.ModifyIndex = index
	return k, err
}

// PutKeyring writes k as it is (the caller raises Version), requiring that it is
// unchanged since it was read.
func (t *Txn) PutKeyring(k Keyring) {
	t.Require(keyringKey, k.ModifyIndex)
	t.Put(keyringKey, encodeRecord(keyringVersion, k))
}
