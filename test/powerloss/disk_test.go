package powerloss

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func whole(op Op) []Event { return []Event{{Op: &op}, {Op: &op, End: true}} }

func concat(parts ...[]Event) []Event { return slices.Concat(parts...) }

func newFile(path string) []Event { return whole(Op{Kind: Open, Path: path, Create: true}) }

func write(path string, offset int64, data string) []Event {
	return whole(Op{Kind: Write, Path: path, Offset: offset, Data: []byte(data)})
}
func syncs(path string) []Event      { return whole(Op{Kind: Sync, Path: path}) }
func rename(from, to string) []Event { return whole(Op{Kind: Rename, Path: from, To: to}) }

// states are the distinct states that many cuts at the end of events leave, as
// "path=content" in order.
func states(t *testing.T, events []Event) map[string]bool {
	t.Helper()
	disk := (&Image{}).Disk("/d")
	for _, e := range events {
		disk.Play(e)
	}
	if strange := disk.Strange(); len(strange) != 0 {
		t.Fatalf("strange: %v", strange)
	}
	found := map[string]bool{}
	for seed := range uint64(4000) {
		image := disk.Cut(rand.New(rand.NewPCG(seed, 0)))
		var all []string
		for path, c := range image.files {
			all = append(all, path+"="+string(bytes.ReplaceAll(c.bytes(), []byte{0}, []byte{'0'})))
		}
		for _, dir := range image.dirs {
			all = append(all, dir+"/")
		}
		slices.Sort(all)
		found[strings.Join(all, " ")] = true
	}
	return found
}

func TestCut(t *testing.T) {
	replaced := concat(newFile("/d/f"), write("/d/f", -1, "old"), syncs("/d/f"), syncs("/d"),
		newFile("/d/n"), write("/d/n", -1, "new"))
	for _, test := range []struct {
		name   string
		events []Event
		may    []string // each must come up, and nothing else
	}{
		{"nothing was synced", concat(newFile("/d/f"), write("/d/f", -1, "abc")),
			[]string{"", "f=", "f=000", "f=abc"}},
		{"the file was synced, its name was not", concat(newFile("/d/f"), write("/d/f", -1, "abc"), syncs("/d/f")),
			[]string{"", "f=abc"}},
		{"the name was synced, the file was not", concat(newFile("/d/f"), write("/d/f", -1, "abc"), syncs("/d")),
			[]string{"f=", "f=000", "f=abc"}},
		{"both were synced", concat(newFile("/d/f"), write("/d/f", -1, "abc"), syncs("/d/f"), syncs("/d")),
			[]string{"f=abc"}},
		{"replaced without a sync", concat(replaced, rename("/d/n", "/d/f")),
			[]string{"f=old", "f=", "f=000", "f=new", "f=old n=", "f=old n=000", "f=old n=new"}},
		{"replaced, without the directory", concat(replaced, syncs("/d/n"), rename("/d/n", "/d/f")),
			[]string{"f=old", "f=new", "f=old n=new"}},
		{"replaced", concat(replaced, syncs("/d/n"), rename("/d/n", "/d/f"), syncs("/d")),
			[]string{"f=new"}},
		{"removed", concat(newFile("/d/f"), syncs("/d"), whole(Op{Kind: Remove, Path: "/d/f"})),
			[]string{"f=", ""}},
		{"a new directory's name", concat(whole(Op{Kind: MakeDir, Path: "/d/e"}), newFile("/d/e/f"), syncs("/d/e")),
			[]string{"", "e/ e/f="}},
		{"made shorter", concat(newFile("/d/f"), write("/d/f", -1, "abcdef"), syncs("/d/f"), syncs("/d"), whole(Op{Kind: Truncate, Path: "/d/f", Size: 2})),
			[]string{"f=abcdef", "f=ab"}},
		{"a sync under way covers nothing yet", append(concat(newFile("/d/f"), syncs("/d"), write("/d/f", -1, "a")), Event{Op: &Op{Kind: Sync, Path: "/d/f"}}),
			[]string{"f=", "f=0", "f=a"}},
		{"appended", concat(whole(Op{Kind: Open, Path: "/d/f", Create: true, Append: true}), syncs("/d"), write("/d/f", -1, "a"), syncs("/d/f"),
			whole(Op{Kind: Open, Path: "/d/f", Append: true}), write("/d/f", -1, "b"), syncs("/d/f")),
			[]string{"f=ab"}},
		{"moved and written", concat(newFile("/d/f"), syncs("/d"), write("/d/f", -1, "abc"), whole(Op{Kind: Seek, Path: "/d/f", Offset: 1}), write("/d/f", -1, "x"), syncs("/d/f")),
			[]string{"f=axc"}},
		{"elsewhere", write("/e/f", -1, "abc"), []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := states(t, test.events)
			for _, state := range test.may {
				if !found[state] {
					t.Errorf("%q never came up", state)
				}
				delete(found, state)
			}
			for state := range found {
				t.Errorf("%q cannot be", state)
			}
		})
	}
}

// TestSyncCoversWhatHadEnded: a write that ends while the sync is under way is
// not covered by it.
func TestSyncCoversWhatHadEnded(t *testing.T) {
	late := &Op{Kind: Write, Path: "/d/f", Data: []byte("a")}
	sync := &Op{Kind: Sync, Path: "/d/f"}
	found := states(t, concat(newFile("/d/f"), syncs("/d"), []Event{{Op: late}, {Op: sync}, {Op: late, End: true}, {Op: sync, End: true}}))
	if !found["f="] || !found["f=a"] {
		t.Errorf("%v", found)
	}
}

// TestTornWrite: of an unsynced write over old content any sectors may be there,
// and no sector in part.
func TestTornWrite(t *testing.T) {
	old, new := strings.Repeat("a", 3*512), strings.Repeat("b", 3*512)
	found := states(t, concat(newFile("/d/f"), write("/d/f", 0, old), syncs("/d/f"), syncs("/d"), write("/d/f", 0, new)))
	if len(found) != 8 {
		t.Errorf("%d states of three sectors", len(found))
	}
	for state := range found {
		content := strings.TrimPrefix(state, "f=")
		for len(content) > 0 {
			if sector := content[:512]; sector != old[:512] && sector != new[:512] {
				t.Fatal("a torn sector")
			}
			content = content[512:]
		}
	}
}

// TestImageStays: what is played after a cut does not change the cut's image.
func TestImageStays(t *testing.T) {
	disk := (&Image{}).Disk("/d")
	play := func(events []Event) {
		for _, e := range events {
			disk.Play(e)
		}
	}
	play(concat(newFile("/d/f"), write("/d/f", 0, "old"), syncs("/d/f"), syncs("/d")))
	image := disk.Cut(rand.New(rand.NewPCG(0, 0)))
	play(concat(write("/d/f", 0, "newer"), syncs("/d/f"), rename("/d/f", "/d/g"), syncs("/d")))
	if data, _ := image.File("f"); string(data) != "old" {
		t.Errorf("f is %q", data)
	}
}

// TestImage: an image written out is what a new disk loads.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	big := append(bytes.Repeat([]byte{0}, 5*pageSize), "end"...)
	for path, data := range map[string][]byte{"a/f": []byte("abc"), "a/b/g": nil, "big": big} {
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	disk, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	image := disk.Cut(rand.New(rand.NewPCG(1, 1)))
	copied := t.TempDir()
	if err := image.Write(copied); err != nil {
		t.Fatal(err)
	}
	again, err := New(copied)
	if err != nil {
		t.Fatal(err)
	}
	if again.Cut(rand.New(rand.NewPCG(2, 2))).Sum() != image.Sum() {
		t.Error("they differ")
	}
	if data, ok := image.File("big"); !ok || !bytes.Equal(data, big) {
		t.Errorf("big: %v, %d bytes", ok, len(data))
	}
	if data, err := os.ReadFile(filepath.Join(copied, "big")); err != nil || !bytes.Equal(data, big) {
		t.Errorf("big on disk: %v, %d bytes", err, len(data))
	}
}
