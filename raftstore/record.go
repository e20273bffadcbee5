package raftstore

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Meta is what the store knows of a record besides its content. It is filled in
// when a record is read and never stored in it.
type Meta struct {
	// ModifyIndex is the Raft index of the entry that wrote the record last; 0
	// for a record that was not read from the store.
	ModifyIndex uint64 `json:"-"`
}

// Reader reads one consistent moment of the store. A [View] is one.
type Reader interface {
	// Get returns the value and modify index of key; ok is false (and the index
	// 0) when it is not there. The bytes are valid until the view ends.
	Get(key string) (value []byte, modifyIndex uint64, ok bool)
	// Scan calls fn for each key with the prefix, in byte order, from the first
	// key >= start ("" for the beginning), until fn returns false.
	Scan(prefix, start string, fn func(key string, value []byte, modifyIndex uint64) bool)
	// Index is the Raft index that this moment reflects.
	Index() uint64
}

// envelope is how every record lies in the store: {"v":1,"r":{…}}. The version
// is the record kind's own and is raised when an older program could misread it.
type envelope struct {
	Version int             `json:"v"`
	Record  json.RawMessage `json:"r"`
}

// encodeRecord and decodeRecord are the only places that know the envelope.
func encodeRecord(version int, record any) []byte {
	body, err := encodeJSON(record)
	if err != nil {
		panic(fmt.Sprintf("raftstore: record of type %T cannot be encoded: %v", record, err)) // a struct of ours that JSON cannot hold is a programming error
	}
	value, err := encodeJSON(envelope{Version: version, Record: body})
	if err != nil {
		panic(fmt.Sprintf("raftstore: envelope of %T: %v", record, err))
	}
	return value
}

// encodeJSON leaves <, > and & as they are: escaped they would take six bytes each,
// and scripts are full of them.
func encodeJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func decodeRecord(key string, value []byte, version int, record any) error {
	var e envelope
	if err := json.Unmarshal(value, &e); err != nil {
		return fmt.Errorf("decode record %s: %w", key, err)
	}
	if e.Version > version {
		return fmt.Errorf("decode record %s: it has version %d and this program reads up to %d; upgrade this node", key, e.Version, version)
	}
	if err := json.Unmarshal(e.Record, record); err != nil {
		return fmt.Errorf("decode record %s: %w", key, err)
	}
	return nil
}

// getRecord reads key into record; found is false when it is not there.
func getRecord(r Reader, key string, version int, record any) (modifyIndex uint64, found bool, err error) {
	value, index, ok := r.Get(key)
	if !ok {
		return 0, false, nil
	}
	return index, true, decodeRecord(key, value, version, record)
}
