package raftstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// boltFile is a file with what bbolt has: branches, leaves, overflow, a bucket
// within its parent's page, free pages.
func boltFile(t testing.TB, options *bbolt.Options) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		if err := db.Update(func(tx *bbolt.Tx) error {
			small, err := tx.CreateBucketIfNotExists([]byte("small"))
			if err != nil {
				return err
			}
			if err := small.Put([]byte("a"), []byte("b")); err != nil {
				return err
			}
			large, err := tx.CreateBucketIfNotExists([]byte("large"))
			if err != nil {
				return err
			}
			for i := range 300 {
				if err := large.Put(fmt.Appendf(nil, "key-%04d", i), []byte(strings.Repeat("v", 50+round*40))); err != nil {
					return err
				}
			}
			return large.Put([]byte("long"), bytes.Repeat([]byte("x"), 20000))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// readAll has bbolt open a file and read all of it.
func readWithBolt(t testing.TB, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, bboltOptions(time.Second))
	if err != nil {
		t.Fatalf("the pages are sound and bbolt says %v", err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		var walk func(b *bbolt.Bucket) error
		walk = func(b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				if v == nil {
					if child := b.Bucket(k); child != nil {
						return walk(child)
					}
				}
				return nil
			})
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return walk(b) })
	}); err != nil {
		t.Fatal(err)
	}
}

func TestPagesOfASoundFile(t *testing.T) {
	t.Parallel()
	for _, options := range []*bbolt.Options{nil, bboltOptions(time.Second), {PageSize: 1024}, {PageSize: 16384}} {
		data := boltFile(t, options)
		if torn, err := checkPages(bytes.NewReader(data), int64(len(data))); err != nil || torn {
			t.Errorf("torn %v, %v", torn, err)
		}
		// One meta page that is not whole: the other counts.
		first := native.Uint32(data[boltPageHeader+8:])
		for _, at := range []uint32{0, first} {
			broken := bytes.Clone(data)
			clear(broken[at : at+512])
			if torn, err := checkPages(bytes.NewReader(broken), int64(len(broken))); err != nil || !torn {
				t.Errorf("without the meta page at %d: torn %v, %v", at, torn, err)
			}
			readWithBolt(t, broken)
		}
	}
}

// TestPagesOfADamagedFile: whatever is wrong with a file, it is refused, or bbolt
// can read it; nothing panics and nothing goes in circles.
func TestPagesOfADamagedFile(t *testing.T) {
	t.Parallel()
	data := boltFile(t, bboltOptions(time.Second))
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	pages := len(data) / 4096
	used := min(pages, 40)
	for range 150 {
		broken := bytes.Clone(data)
		for range 1 + random.IntN(3) {
			at := random.IntN(used) * 4096
			switch random.IntN(5) {
			case 0:
				clear(broken[at : at+4096])
			case 1: // another page in its place, whole
				copy(broken[at:at+4096], data[random.IntN(used)*4096:])
			case 2: // the same, and it says it is the right one
				from := random.IntN(used) * 4096
				copy(broken[at+8:at+4096], data[from+8:from+4096])
			case 3:
				broken[at+random.IntN(64)] ^= 1 << random.IntN(8)
			case 4:
				broken = broken[:max(4096, at)]
			}
			if len(broken) < used*4096 {
				break
			}
		}
		if _, err := checkPages(bytes.NewReader(broken), int64(len(broken))); err != nil {
			refused++
			continue
		}
		readWithBolt(t, broken)
	}
	if refused < 40 {
		t.Errorf("only %d of 150 were refused", refused)
	}
}

// TestPagesInACircle: a branch that leads to itself.
func TestPagesInACircle(t *testing.T) {
	t.Parallel()
	data := boltFile(t, bboltOptions(time.Second))
	circles := 0
	for at := 2 * 4096; at < len(data); at += 4096 {
		if native.Uint16(data[at+8:]) != boltBranch {
			continue
		}
		broken := bytes.Clone(data)
		native.PutUint64(broken[at+boltPageHeader+8:], native.Uint64(data[at:]))
		if _, err := checkPages(bytes.NewReader(broken), int64(len(broken))); err != nil && strings.Contains(err.Error(), "used twice") {
			circles++
		}
	}
	if circles == 0 {
		t.Error("no circle was found")
	}
}

func FuzzPages(f *testing.F) {
	data := boltFile(f, &bbolt.Options{PageSize: 1024, NoFreelistSync: true})
	f.Add(data[:min(len(data), 64<<10)])
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = checkPages(bytes.NewReader(data), int64(len(data)))
	})
}
