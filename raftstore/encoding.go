package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// An entry of the Raft log, as bytes. Numbers are unsigned varints.
//
//	byte     entry version, 1
//	byte     entry kind: 1, a transaction
//	number   count of preconditions, then for each:
//	           number, bytes   length of the key, key
//	           number          modify index
//	number   count of operations, then for each:
//	           byte            0 put, 1 delete
//	           number, bytes   length of the key, key
//	           number, bytes   length of the value, value (a put only)
//
// The numbers of versions, kinds and operations are on disk: never renumber.
// A new one waits until every voter announces that it knows it; a node that
// meets one that it does not know stops.
const (
	entryVersion = 1

	kindTxn = 1

	opPut    = 0
	opDelete = 1
)

// maxKeySize is the longest key, in bytes.
const maxKeySize = 2048

var (
	// errUnknownEntry: the entry was written by a newer version.
	errUnknownEntry = errors.New("written by a newer version of meshd, upgrade this node")
	errDamagedEntry = errors.New("damaged")
)

// encodeTxn checks t and returns its entry.
func encodeTxn(t Txn) ([]byte, error) {
	size := 2 + 2*binary.MaxVarintLen32
	for _, p := range t.Preconditions {
		if err := checkKey(p.Key); err != nil {
			return nil, err
		}
		size += len(p.Key) + 2*binary.MaxVarintLen64
	}
	for _, op := range t.Ops {
		if err := checkKey(op.Key); err != nil {
			return nil, err
		}
		size += 1 + len(op.Key) + len(op.Value) + 2*binary.MaxVarintLen32
		if size > 2*MaxTxnSize {
			return nil, ErrTooLarge // do not even allocate for it
		}
	}
	buf := make([]byte, 0, size)
	buf = append(buf, entryVersion, kindTxn)
	buf = binary.AppendUvarint(buf, uint64(len(t.Preconditions)))
	for _, p := range t.Preconditions {
		buf = binary.AppendUvarint(buf, uint64(len(p.Key)))
		buf = append(buf, p.Key...)
		buf = binary.AppendUvarint(buf, p.ModifyIndex)
	}
	buf = binary.AppendUvarint(buf, uint64(len(t.Ops)))
	for _, op := range t.Ops {
		if op.Delete {
			buf = append(buf, opDelete)
		} else {
			buf = append(buf, opPut)
		}
		buf = binary.AppendUvarint(buf, uint64(len(op.Key)))
		buf = append(buf, op.Key...)
		if !op.Delete {
			buf = binary.AppendUvarint(buf, uint64(len(op.Value)))
			buf = append(buf, op.Value...)
		}
	}
	if len(buf) > MaxTxnSize {
		return nil, ErrTooLarge
	}
	return buf, nil
}

func checkKey(key string) error {
	if len(key) == 0 || len(key) > maxKeySize {
		return fmt.Errorf("a key of %d bytes: the store takes 1 to %d", len(key), maxKeySize)
	}
	return nil
}

// decodeTxn reads an entry. It never allocates more than in proportion to data,
// and accepts nothing that encodeTxn would not have written but for MaxTxnSize,
// which may change from version to version. Values alias data.
func decodeTxn(data []byte) (Txn, error) {
	if len(data) < 2 {
		return Txn{}, errDamagedEntry
	}
	if data[0] != entryVersion {
		return Txn{}, fmt.Errorf("entry version %d: %w", data[0], errUnknownEntry)
	}
	if data[1] != kindTxn {
		return Txn{}, fmt.Errorf("entry kind %d: %w", data[1], errUnknownEntry)
	}
	d := entryDecoder{rest: data[2:]}
	var t Txn
	if n := d.count(3); n > 0 { // a length, a byte of key, an index
		t.Preconditions = make([]Precondition, 0, n)
		for range n {
			t.Preconditions = append(t.Preconditions, Precondition{Key: d.key(), ModifyIndex: d.number()})
		}
	}
	if n := d.count(3); n > 0 { // the operation, a length, a byte of key
		t.Ops = make([]Op, 0, n)
		for range n {
			op := d.byte()
			if op > opDelete {
				return Txn{}, fmt.Errorf("operation %d: %w", op, errUnknownEntry)
			}
			o := Op{Key: d.key(), Delete: op == opDelete}
			if !o.Delete {
				o.Value = d.bytes(math.MaxInt)
			}
			t.Ops = append(t.Ops, o)
		}
	}
	if d.failed || len(d.rest) > 0 {
		return Txn{}, errDamagedEntry
	}
	return t, nil
}

// entryDecoder reads from rest; after the first mistake it returns zero values
// and failed is set.
type entryDecoder struct {
	rest   []byte
	failed bool
}

func (d *entryDecoder) number() uint64 {
	n, size := binary.Uvarint(d.rest)
	// The shortest form only, so that an entry has one encoding.
	if size <= 0 || (size > 1 && d.rest[size-1] == 0) {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

// count reads a number of elements that take at least least bytes each.
func (d *entryDecoder) count(least int) int {
	n := d.number()
	if n > uint64(len(d.rest)/least) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *entryDecoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *entryDecoder) bytes(most int) []byte {
	n := d.number()
	if n > uint64(len(d.rest)) || n > uint64(most) {
		d.fail()
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *entryDecoder) key() string {
	key := string(d.bytes(maxKeySize))
	if key == "" {
		d.fail()
	}
	return key
}

func (d *entryDecoder) fail() {
	d.failed = true
	d.rest = nil
}
