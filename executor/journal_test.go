package executor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// memoryDisk is a file system that knows what was synced: lose forgets the rest.
type memoryDisk struct {
	mu     sync.Mutex
	files  map[string]*memoryFile // names as they are now
	named  map[string]*memoryFile // names as of the last sync of the directory
	syncs  int
	fail   func(operation string) error
	onSync func()
}

type memoryFile struct {
	disk    *memoryDisk
	content []byte
	durable []byte
}

func newMemoryDisk() *memoryDisk {
	return &memoryDisk{files: map[string]*memoryFile{}, named: map[string]*memoryFile{}, fail: func(string) error { return nil }, onSync: func() {}}
}

// lose is a power cut.
func (d *memoryDisk) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = map[string]*memoryFile{}
	for name, f := range d.named {
		d.files[name] = &memoryFile{disk: d, content: bytes.Clone(f.durable), durable: f.durable}
		d.named[name] = d.files[name]
	}
	d.fail = func(string) error { return nil }
}

func (d *memoryDisk) open(path string) (diskFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[path] == nil {
		d.files[path] = &memoryFile{disk: d}
	}
	return d.files[path], nil
}

func (d *memoryDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[to] = d.files[from]
	delete(d.files, from)
	return d.fail("rename")
}

func (d *memoryDisk) remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, path)
	return nil
}

func (d *memoryDisk) syncDir(string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail("syncdir"); err != nil {
		return err
	}
	d.named = map[string]*memoryFile{}
	for name, f := range d.files {
		d.named[name] = f
	}
	return nil
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(f.content).ReadAt(p, off)
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	err := f.disk.fail("write")
	if err != nil {
		p = p[:len(p)/2]
	}
	f.content = append(f.content[:off:off], p...)
	return len(p), err
}

func (f *memoryFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.fail("truncate"); err != nil {
		return err
	}
	f.content = bytes.Clone(f.content[:size])
	return nil
}

func (f *memoryFile) Sync() error {
	f.disk.onSync()
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.fail("sync"); err != nil {
		return err
	}
	f.disk.syncs++
	f.durable = bytes.Clone(f.content)
	return nil
}

func (f *memoryFile) Size() (int64, error) { return int64(len(f.content)), nil }
func (f *memoryFile) Close() error         { return nil }

func openTest(t *testing.T, d *memoryDisk) *Journal {
	t.Helper()
	j, err := OpenJournal(JournalConfig{Path: "dir/journal", Log: quiet(), disk: d})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func accept(id string) Record {
	return Record{Kind: RecordAccepted, JobID: id, At: epoch, Job: json.RawMessage(`{"n":"` + id + `"}`), ExpiresAt: epoch.Add(time.Hour)}
}

// life is a job from start to end, in batches.
func life(id string) [][]Record {
	result := StepResult{Name: "one", Status: "Success", StatusDetails: "Success", Stdout: "hello\n", StdoutBytes: 6, FinishedAt: epoch}
	return [][]Record{
		{accept(id), {Kind: RecordStarting, JobID: id, At: epoch, BootID: "boot"}},
		{{Kind: RecordStep, JobID: id, At: epoch, Results: []StepResult{result}}, {Kind: RecordStarting, JobID: id, At: epoch, Step: 1, BootID: "boot"}},
		{{Kind: RecordCancelling, JobID: id, At: epoch}},
		{{Kind: RecordFinished, JobID: id, At: epoch, Results: []StepResult{result}, Status: "Success", StatusDetails: "Success"}},
	}
}

func mustAppend(t *testing.T, j *Journal, records ...Record) {
	t.Helper()
	if err := j.Append(records...); err != nil {
		t.Fatal(err)
	}
}

func snapshot(j *Journal) string {
	data, _ := json.Marshal(j.Entries())
	return string(data)
}

func TestJournalKeepsWhatItAnswered(t *testing.T) {
	d := newMemoryDisk()
	j := openTest(t, d)
	for _, records := range life("a") {
		mustAppend(t, j, records...)
		before := snapshot(j)
		d.lose()
		if j = openTest(t, d); snapshot(j) != before {
			t.Fatalf("after a power cut\n%s\nwas\n%s", snapshot(j), before)
		}
	}
	entry := j.Entry("a")
	if !entry.Finished() || entry.Running || !entry.Cancelling || len(entry.Steps) != 2 || entry.Sequence != 4 || !entry.Unreported() {
		t.Fatalf("entry %+v", entry)
	}
	j.Note(Record{Kind: RecordAcknowledged, JobID: "a", Sequence: 4})
	if entry := j.Entry("a"); entry.Unreported() || entry.Job != nil || entry.Steps[0].Stdout != "" || entry.Steps[0].StdoutBytes != 6 {
		t.Fatalf("acknowledged entry %+v", entry)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	d.lose()
	if j = openTest(t, d); j.Entry("a").Unreported() {
		t.Fatal("closing lost a note")
	}
}

// TestJournalNamesAreDurable: a run that ended between making the file and syncing
// its name does not leave the next one with a file that a power cut takes.
func TestJournalNamesAreDurable(t *testing.T) {
	d := newMemoryDisk()
	d.fail = func(operation string) error {
		if operation == "syncdir" {
			return unix.EIO
		}
		return nil
	}
	if _, err := OpenJournal(JournalConfig{Path: "dir/journal", Log: quiet(), disk: d}); err == nil {
		t.Fatal("opened a journal whose name may be lost")
	}
	d.files["dir/journal"].content = header()
	d.fail = func(string) error { return nil }
	j := openTest(t, d)
	mustAppend(t, j, accept("a"))
	d.lose()
	if j = openTest(t, d); j.Entry("a") == nil {
		t.Fatal("the journal is lost")
	}
}

func TestJournalGroupsCommits(t *testing.T) {
	d := newMemoryDisk()
	j := openTest(t, d)
	d.syncs = 0
	// While the first fsync is under way, all others gather behind it.
	const callers = 50
	var calls sync.WaitGroup
	var once sync.Once
	d.onSync = func() {
		once.Do(func() {
			for i := range callers {
				calls.Go(func() { mustAppend(t, j, accept(fmt.Sprint("job", i))) })
			}
			eventually(t, "all callers wait", func() bool {
				j.mu.Lock()
				defer j.mu.Unlock()
				return j.gather != nil && len(j.gather.calls) == callers
			})
		})
	}
	mustAppend(t, j, accept("first"))
	calls.Wait()
	if d.syncs != 2 || len(j.Entries()) != callers+1 {
		t.Fatalf("%d syncs for %d jobs", d.syncs, len(j.Entries()))
	}
}

func TestJournalCutsATornTailAtEachByte(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal")
	open := func() (*Journal, error) { return OpenJournal(JournalConfig{Path: path, Log: quiet()}) }
	j, err := open()
	if err != nil {
		t.Fatal(err)
	}
	states := []string{snapshot(j)}
	ends := []int64{j.size}
	for _, records := range life("a") {
		mustAppend(t, j, records...)
		states, ends = append(states, snapshot(j)), append(ends, j.size)
	}
	j.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut++ {
		for _, garbage := range [][]byte{nil, make([]byte, 30), bytes.Repeat([]byte{0xff}, 30)} {
			if cut == len(whole) && garbage == nil {
				continue
			}
			if cut < journalHeader && garbage != nil {
				continue // not torn: a file of that length never began otherwise
			}
			if err := os.WriteFile(path, append(bytes.Clone(whole[:cut]), garbage...), 0o600); err != nil {
				t.Fatal(err)
			}
			j, err := open()
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			want := 0
			for i, end := range ends {
				if int64(cut) >= end {
					want = i
				}
			}
			if snapshot(j) != states[want] {
				t.Fatalf("cut at %d: %s, want %s", cut, snapshot(j), states[want])
			}
			// It goes on from there.
			mustAppend(t, j, accept("next"))
			j.Close()
			if j, err = open(); err != nil || j.Entry("next") == nil {
				t.Fatalf("cut at %d: appended, then %v", cut, err)
			}
			j.Close()
		}
	}
}

func TestJournalRefusesDamageInTheMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	open := func() (*Journal, error) { return OpenJournal(JournalConfig{Path: path, Log: quiet()}) }
	j, err := open()
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for _, records := range life("a") {
		last = j.size
		mustAppend(t, j, records...)
	}
	j.Close()
	whole, _ := os.ReadFile(path)
	for at := 0; at < int(last); at += 3 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x40
		os.WriteFile(path, bad, 0o600)
		if j, err := open(); !errors.Is(err, ErrJournalDamaged) {
			t.Fatalf("byte %d changed: %v, %v", at, j, err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, bad) {
			t.Fatalf("byte %d changed: opening changed the file", at)
		}
	}
	// A whole frame that is missing.
	_, _, rest, err := parseFrame(whole[journalHeader:])
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path, append(bytes.Clone(whole[:journalHeader]), rest...), 0o600)
	if _, err := open(); !errors.Is(err, ErrJournalDamaged) {
		t.Fatalf("a missing frame: %v", err)
	}
}

func TestJournalOfALaterVersionIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	h := header()
	h[len(journalMagic)] = 9
	os.WriteFile(path, append(h, 0), 0o600)
	if _, err := OpenJournal(JournalConfig{Path: path, Log: quiet()}); !errors.Is(err, ErrJournalDamaged) {
		t.Fatalf("wrong checksum: %v", err)
	}
	later := header9()
	os.WriteFile(path, later, 0o600)
	if _, err := OpenJournal(JournalConfig{Path: path, Log: quiet()}); !errors.Is(err, ErrJournalVersion) {
		t.Fatalf("version 9: %v", err)
	}
}

func TestJournalOnAFullDisk(t *testing.T) {
	d := newMemoryDisk()
	j := openTest(t, d)
	mustAppend(t, j, accept("a"))
	d.fail = func(op string) error {
		if op == "write" {
			return unix.ENOSPC
		}
		return nil
	}
	if err := j.Append(accept("b")); !errors.Is(err, ErrJournalWrite) || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("full disk: %v", err)
	}
	if j.Entry("b") != nil {
		t.Fatal("b is known")
	}
	d.fail = func(string) error { return nil }
	mustAppend(t, j, accept("c"))
	d.lose()
	j = openTest(t, d)
	if j.Entry("a") == nil || j.Entry("b") != nil || j.Entry("c") == nil {
		t.Fatalf("after it: %s", snapshot(j))
	}
}

func TestJournalIsBrokenWhenNothingIsCertain(t *testing.T) {
	d := newMemoryDisk()
	j := openTest(t, d)
	d.fail = func(op string) error {
		if op == "sync" {
			return unix.EIO
		}
		return nil
	}
	if err := j.Append(accept("a")); !errors.Is(err, ErrJournalBroken) || errors.Is(err, ErrJournalWrite) {
		t.Fatalf("failing fsync: %v", err)
	}
	d.fail = func(string) error { return nil }
	if err := j.Append(accept("b")); !errors.Is(err, ErrJournalBroken) {
		t.Fatalf("after a failing fsync: %v", err)
	}
}

func TestJournalCompaction(t *testing.T) {
	d := newMemoryDisk()
	j := openTest(t, d)
	j.compactAt, j.config.CompactAt = 20000, 20000
	compacted := false
	for i := range 100 {
		id := fmt.Sprintf("job-%02d", i)
		size := j.size
		for _, records := range life(id) {
			mustAppend(t, j, records...)
		}
		if i%2 == 0 {
			j.Note(Record{Kind: RecordAcknowledged, JobID: id, Sequence: 4})
		}
		compacted = compacted || j.size < size
	}
	if !compacted {
		t.Fatal("never compacted")
	}
	mustAppend(t, j, accept("last"))
	before := snapshot(j)
	d.lose()
	j = openTest(t, d)
	if snapshot(j) != before || len(j.Entries()) != 101 {
		t.Fatalf("compaction lost something:\n%s\nwas\n%s", snapshot(j), before)
	}
	// No id goes before its expiry; then only those that nobody waits for.
	j.Forget(epoch, func(*Entry) bool { return true })
	if len(j.Entries()) != 101 {
		t.Fatal("forgot ids before their expiry")
	}
	j.Forget(epoch.Add(2*time.Hour), func(*Entry) bool { return true })
	if len(j.Entries()) != 51 {
		t.Fatalf("%d ids left", len(j.Entries()))
	}
	j.compact()
	d.lose()
	if j = openTest(t, d); len(j.Entries()) != 51 || j.Entry("last") == nil {
		t.Fatalf("%d ids after compaction", len(j.Entries()))
	}
}

func TestJournalCompactionFailsSafely(t *testing.T) {
	for _, operation := range []string{"write", "sync", "rename", "syncdir"} {
		d := newMemoryDisk()
		j := openTest(t, d)
		for _, records := range life("a") {
			mustAppend(t, j, records...)
		}
		before := snapshot(j)
		d.fail = func(op string) error {
			if op == operation {
				return unix.EIO
			}
			return nil
		}
		j.compact()
		d.fail = func(string) error { return nil }
		err := j.Append(accept("b"))
		if operation == "syncdir" {
			if !errors.Is(err, ErrJournalBroken) {
				t.Errorf("%s: %v", operation, err)
			}
		} else if operation != "rename" && err != nil {
			t.Errorf("%s: %v", operation, err)
		}
		if err == nil {
			before = snapshot(j)
		}
		if operation == "rename" {
			continue // a rename that fails and happens is no file system's
		}
		d.lose()
		if j := openTest(t, d); snapshot(j) != before {
			t.Errorf("%s: %s, was %s", operation, snapshot(j), before)
		}
	}
}

func TestJournalRefusesWhatCannotBe(t *testing.T) {
	d := newMemoryDisk()
	j := openTest(t, d)
	for _, records := range life("done") {
		mustAppend(t, j, records...)
	}
	mustAppend(t, j, accept("a"), Record{Kind: RecordStarting, JobID: "a", At: epoch})
	for name, r := range map[string]Record{
		"accepted twice":      accept("a"),
		"started twice":       {Kind: RecordStarting, JobID: "a", At: epoch},
		"start of unknown":    {Kind: RecordStarting, JobID: "x", At: epoch},
		"end of unknown":      {Kind: RecordFinished, JobID: "x", Status: "Success"},
		"end without status":  {Kind: RecordFinished, JobID: "a"},
		"forgotten too early": {Kind: RecordForgotten, JobID: "a"},
		"unknown kind":        {Kind: "later", JobID: "a"},
		"ends twice":          {Kind: RecordFinished, JobID: "done", Status: "Failed"},
		"starts after end":    {Kind: RecordStarting, JobID: "done", Step: 5},
		"without id":          {Kind: RecordAccepted},
	} {
		before, size := snapshot(j), j.size
		if err := j.Append(r); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if snapshot(j) != before || j.size != size {
			t.Errorf("%s: left a trace", name)
		}
	}
	// One bad caller does not harm another of the same batch.
	overlay := map[string]*Entry{}
	if err := j.stage(overlay, []Record{accept("n"), accept("n")}); err == nil || len(overlay) != 0 {
		t.Fatalf("staged %v, %v", overlay, err)
	}
}

func header9() []byte {
	h := header()
	h[len(journalMagic)] = 9
	return binary.LittleEndian.AppendUint32(h[:len(h)-4], crc32.Checksum(h[:len(h)-4], castagnoli))
}

func TestEntriesAreNeverChanged(t *testing.T) {
	j := openTest(t, newMemoryDisk())
	var seen []*Entry
	var as []string
	for _, records := range life("a") {
		mustAppend(t, j, records...)
		entry := j.Entry("a")
		data, _ := json.Marshal(entry)
		seen, as = append(seen, entry), append(as, string(data))
	}
	j.Note(Record{Kind: RecordAcknowledged, JobID: "a", Sequence: 9})
	for i := range seen {
		if data, _ := json.Marshal(seen[i]); string(data) != as[i] {
			t.Errorf("entry %d changed to %s", i, data)
		}
	}
}

func FuzzJournal(f *testing.F) {
	d := newMemoryDisk()
	j, err := OpenJournal(JournalConfig{Path: "j", Log: quiet(), disk: d})
	if err != nil {
		f.Fatal(err)
	}
	for _, records := range life("a") {
		if err := j.Append(records...); err != nil {
			f.Fatal(err)
		}
	}
	whole := d.files["j"].content
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(appendFrame(header(), 1, []byte(`[{"k":"entry","id":"x","entry":{"JobID":"x"}}]`)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newMemoryDisk()
		d.files["j"] = &memoryFile{disk: d, content: slices.Clone(data)}
		j, err := OpenJournal(JournalConfig{Path: "j", Log: quiet(), disk: d})
		if err != nil {
			if !bytes.Equal(d.files["j"].content, data) && len(data) > journalHeader {
				t.Fatal("a refused journal was changed")
			}
			return
		}
		before := j.Entries()
		j2, err := OpenJournal(JournalConfig{Path: "j", Log: quiet(), disk: d})
		if err != nil || !reflect.DeepEqual(before, j2.Entries()) {
			t.Fatalf("opened once, then: %v", err)
		}
	})
}
