package raftstore

import "time"

// Activation lets machines enrol.
type Activation struct {
	Meta
	ID string // UUID
	// SealedCode is the activation code, sealed with the mesh key: the leader
	// needs it to check a joiner's HMAC.
	SealedCode        []byte
	Description       string
	DefaultName       string
	IamRole           string
	RegistrationLimit int
	Registrations     int
	CreatedAt         time.Time
	ExpiresAt         time.Time
	Tags              map[string]string
	// MemberOnly: nodes that enrol by it may never vote.
	MemberOnly bool
	// JoinerTags are the tag keys that a joiner may choose itself; nil leaves all
	// keys to it, an empty list none.
	JoinerTags []string
}

const (
	activationPrefix  = "activation/"
	activationVersion = 1
)

// GetActivation returns the activation with this id, or ErrNotFound.
func GetActivation(r Reader, id string) (Activation, error) {
	var a Activation
	index, found, err := getRecord(r, activationPrefix+id, activationVersion, &a)
	if err == nil && !found {
		err = ErrNotFound
	}
	a.ModifyIndex = index
	return a, err
}

// ScanActivations calls fn for each activation with an id >= start, in order of
// ids, until fn returns false.
func ScanActivations(r Reader, start string, fn func(Activation) bool) error {
	var failed error
	from := ""
	if start != "" {
		from = activationPrefix + start
	}
	r.Scan(activationPrefix, from, func(key string, value []byte, index uint64) bool {
		var a Activation
		if failed = decodeRecord(key, value, activationVersion, &a); failed != nil {
			return false
		}
		a.ModifyIndex = index
		return fn(a)
	})
	return failed
}

// PutActivation writes a, requiring that it is unchanged since it was read.
func (t *Txn) PutActivation(a Activation) {
	t.Require(activationPrefix+a.ID, a.ModifyIndex)
	t.Put(activationPrefix+a.ID, encodeRecord(activationVersion, a))
}

// DeleteActivation deletes a, requiring that it is unchanged.
func (t *Txn) DeleteActivation(a Activation) {
	t.Require(activationPrefix+a.ID, a.ModifyIndex)
	t.Delete(activationPrefix + a.ID)
}
