package raftstore

// Keyring is the gossip keys, newest decision first: Keys[0] encrypts, all
// decrypt. The keys themselves are sealed with the mesh key.
type Keyring struct {
	Meta
	Version uint64
	Keys    []GossipKey
	// Rotating is the id of the key that is being brought in after a removal, "" at
	// rest: first all learn it, then it encrypts, then the others are dropped.
	Rotating string `json:",omitempty"`
	// CoversRemoved is how many entries of Roster.Removed the newest rotation shuts
	// out; more entries ask for another.
	CoversRemoved int `json:",omitempty"`
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

// KeyringKey is the key to watch for changes of the keyring.
const KeyringKey = keyringKey

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
