package raftstore

import (
	"encoding/json"
	"fmt"
	"time"
)

// AuditEntry tells who changed what. It is written in the transaction of the
// change; reads and denials go to the answering node's local audit file.
type AuditEntry struct {
	ID        string // UUID, made by the proposer
	Time      time.Time
	Operation string // SendCommand; for the mesh's own changes a cause such as "voters"
	Caller    string // access key id, "root@<node id>" for a socket, "mesh" for the leader itself
	SourceIP  string
	RequestID string
	// Parameters is the input with secrets masked.
	Parameters json.RawMessage `json:",omitempty"`
	Resource   string          `json:",omitempty"`
}

const (
	auditPrefix  = "audit/"
	auditVersion = 1
)

// PutAudit adds an entry; keys are ordered by time.
func (t *Txn) PutAudit(a AuditEntry) {
	t.Put(fmt.Sprintf("%s%s/%s", auditPrefix, a.Time.UTC().Format(expiryKeyTimeFormat), a.ID), encodeRecord(auditVersion, a))
}

// ScanAudit calls fn for each entry not before from, oldest first, until fn
// returns false.
func ScanAudit(r Reader, from time.Time, fn func(AuditEntry) bool) error {
	var failed error
	r.Scan(auditPrefix, auditPrefix+from.UTC().Format(expiryKeyTimeFormat), func(key string, value []byte, _ uint64) bool {
		var a AuditEntry
		if failed = decodeRecord(key, value, auditVersion, &a); failed != nil {
			return false
		}
		return fn(a)
	})
	return failed
}
