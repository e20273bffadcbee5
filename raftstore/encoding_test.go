package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func exampleTxn() Txn {
	var t Txn
	t.Require("mesh", 0)
	t.Require("node/a", 1<<40)
	t.Put("mesh", []byte(`{"v":1}`))
	t.Put("active-command/x", nil)
	t.Delete("node/a")
	return t
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for name, txn := range map[string]Txn{
		"empty": {}, "example": exampleTxn(),
		"large": put("k", strings.Repeat("x", MaxTxnSize-100)),
	} {
		data, err := encodeTxn(txn)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := decodeTxn(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range got.Ops {
			if len(got.Ops[i].Value) == 0 {
				got.Ops[i].Value = nil // an empty value and none are the same
			}
		}
		if !reflect.DeepEqual(got, txn) {
			t.Errorf("%s came back as %+v", name, got)
		}
	}
}

// The bytes of an entry are for all time.
func TestEntryBytes(t *testing.T) {
	t.Parallel()
	var txn Txn
	txn.Require("a", 300)
	txn.Put("b", []byte("c"))
	txn.Delete("d")
	data, err := encodeTxn(txn)
	if err != nil {
		t.Fatal(err)
	}
	want := []byte{1, 1, 1, 1, 'a', 0xac, 2, 2, 0, 1, 'b', 1, 'c', 1, 1, 'd'}
	if !bytes.Equal(data, want) {
		t.Errorf("the entry is % x, want % x", data, want)
	}
}

func TestDamagedAndUnknownEntries(t *testing.T) {
	t.Parallel()
	good, err := encodeTxn(exampleTxn())
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := decodeTxn(good[:n]); !errors.Is(err, errDamagedEntry) {
			t.Errorf("the first %d bytes: %v, want damaged", n, err)
		}
	}
	if _, err := decodeTxn(append(bytes.Clone(good), 0)); !errors.Is(err, errDamagedEntry) {
		t.Errorf("a byte more: %v, want damaged", err)
	}
	for _, data := range [][]byte{{2, 1, 0, 0}, {1, 2, 0, 0}, {0, 0}, {1, 1, 0, 1, 2, 1, 'a', 0}} {
		if _, err := decodeTxn(data); !errors.Is(err, errUnknownEntry) {
			t.Errorf("% x: %v, want unknown", data, err)
		}
	}
	if _, err = decodeTxn([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}); !errors.Is(err, errDamagedEntry) {
		t.Errorf("a count that cannot be: %v, want damaged", err)
	}
}

func FuzzDecodeTxn(f *testing.F) {
	good, err := encodeTxn(exampleTxn())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1, 1, 0, 0})
	f.Add([]byte{1, 1, 0x80, 0x00, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		txn, err := decodeTxn(data)
		if err != nil || len(data) > MaxTxnSize {
			return
		}
		again, err := encodeTxn(txn)
		if err != nil {
			t.Fatalf("decoded %+v, which cannot be encoded: %v", txn, err)
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("% x has a second encoding % x", data, again)
		}
	})
}

// A record takes the bytes that its text has: scripts are full of <, > and &.
func TestRecordsAreNotEscaped(t *testing.T) {
	t.Parallel()
	script := json.RawMessage(`{"runCommand":["a <b >c 2>&1 && d"]}`)
	value := encodeRecord(commandVersion, Command{Document: script})
	if !bytes.Contains(value, script) {
		t.Errorf("the record is %s", value)
	}
}
