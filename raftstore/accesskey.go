package raftstore

import "time"

// AccessKey is an API user's SigV4 key.
type AccessKey struct {
	Meta
	ID string
	// SealedSecret is the secret access key, sealed with the mesh key.
	SealedSecret []byte
	UserName     string
	// Administrator may do everything. Policies come later; until then every key
	// is an administrator's.
	Administrator bool
	CreatedAt     time.Time
}

const (
	accessKeyPrefix  = "access-key/"
	accessKeyVersion = 1
)

// GetAccessKey returns the key with this id, or ErrNotFound.
func GetAccessKey(r Reader, id string) (AccessKey, error) {
	var k AccessKey
	index, found, err := getRecord(r, accessKeyPrefix+id, accessKeyVersion, &k)
	if err == nil && !found {
		err = ErrNotFound
	}
	k.ModifyIndex = index
	return k, err
}

// PutAccessKey writes k, requiring that it is unchanged since it was read.
func (t *Txn) PutAccessKey(k AccessKey) {
	t.Require(accessKeyPrefix+k.ID, k.ModifyIndex)
	t.Put(accessKeyPrefix+k.ID, encodeRecord(accessKeyVersion, k))
}
