package raftstore

import "time"

// Mesh is the one record about the mesh as a whole.
type Mesh struct {
	Meta
	// ID is a UUID made by `meshd init`; it is checked on each connection.
	ID   string
	Name string
	// AccountID is the 12-digit number in ARNs and Owner.
	AccountID string
	CreatedAt time.Time
	// Epoch is raised when a snapshot is restored; jobs carry it.
	Epoch uint64
	// CACertificate is PEM; SealedCAKey is the PKCS#8 PEM sealed with the mesh key.
	CACertificate []byte
	SealedCAKey   []byte
}

const (
	meshKey     = "mesh"
	meshVersion = 1
)

// GetMesh returns the mesh's record, ErrNotFound before it is written.
func GetMesh(r Reader) (Mesh, error) {
	var m Mesh
	index, found, err := getRecord(r, meshKey, meshVersion, &m)
	if err == nil && !found {
		err = ErrNotFound
	}
	m.ModifyIndex = index
	return m, err
}

// PutMesh writes m, requiring that it is unchanged since it was read.
func (t *Txn) PutMesh(m Mesh) {
	t.Require(meshKey, m.ModifyIndex)
	t.Put(meshKey, encodeRecord(meshVersion, m))
}
