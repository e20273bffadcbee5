package executor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"fleetmesh/internal/failpoint"
)

var (
	// ErrJournalDamaged is returned by OpenJournal when the file is not what was
	// written, beyond a torn tail. Nothing was changed, and nothing may be run:
	// what ran already cannot be known.
	ErrJournalDamaged = errors.New("the job journal is damaged")
	// ErrJournalVersion is returned by OpenJournal for a file of a later version.
	ErrJournalVersion = errors.New("the job journal was written by a later version of meshd")
	// ErrJournalWrite is returned by Append when the records were not written, for
	// certain; the journal goes on (the disk may be full for a while).
	ErrJournalWrite = errors.New("the job journal cannot be written")
	// ErrJournalBroken is returned by Append, from then on always, when it is not
	// known whether records are on disk; only opening the journal anew tells.
	ErrJournalBroken = errors.New("the job journal is broken until meshd is started again")
	// ErrJournalClosed is returned by Append after Close.
	ErrJournalClosed = errors.New("the job journal is closed")
)

// journalVersion is that of the file format. Never renumber.
//
//	1  first version
const journalVersion = 1

// journalMagic begins the file; then the version (4 bytes) and the CRC-32C of
// both (4 bytes), little endian.
const (
	journalMagic  = "fmjobs\x00\x01"
	journalHeader = len(journalMagic) + 8
)

// EmptyJournal is the size in bytes of a journal without a record. A smaller file is
// one whose making was cut off, or one that has lost what it had.
const EmptyJournal = int64(journalHeader)

// JournalConfig says where the journal is.
type JournalConfig struct {
	// Path of the file. The caller makes sure that one process uses it.
	Path string
	// CompactAt is the size in bytes from which the file is rewritten when at
	// least half of it is history. Smaller: rewritten more often; larger: a longer
	// start. Default 4 MiB.
	CompactAt int64
	Log       *slog.Logger

	disk disk
}

// Journal keeps what this node has promised and done, durably. Its methods may
// be called from many goroutines; records that are appended at the same time
// share one write and one fsync.
type Journal struct {
	config JournalConfig

	// flush is held while a batch is written, and while the file is replaced. It
	// is taken before mu.
	flush     sync.Mutex
	file      diskFile
	size      int64 // bytes written and synced
	frames    uint64
	compactAt int64
	order     uint64
	broken    error

	mu      sync.Mutex
	entries map[string]*Entry
	// staged is what the batch that is being written makes of its jobs.
	staged map[string]*Entry
	gather *batch   // the next batch, nil when nobody waits for one
	notes  []Record // go with the next batch
	closed bool
}

// batch is a number of calls of Append that are written together. The first
// caller writes for all.
type batch struct {
	calls []*call
	done  chan struct{}
}

type call struct {
	records []Record
	err     error
}

// OpenJournal reads the journal, cuts a torn tail off and makes the file when
// it is missing.
func OpenJournal(config JournalConfig) (*Journal, error) {
	if config.disk == nil {
		config.disk = osDisk{}
	}
	if config.CompactAt <= 0 {
		config.CompactAt = 4 << 20
		if failpoint.Enabled {
			config.CompactAt = 32 << 10 // so that a test of the whole program comes to it
		}
	}
	j := &Journal{config: config, compactAt: config.CompactAt, entries: make(map[string]*Entry)}
	if err := j.open(); err != nil {
		if j.file != nil {
			j.file.Close()
		}
		return nil, fmt.Errorf("open the job journal %s: %w", config.Path, err)
	}
	return j, nil
}

func (j *Journal) open() error {
	disk := j.config.disk
	if err := disk.remove(j.config.Path + ".new"); err != nil {
		return err
	}
	var err error
	if j.file, err = disk.open(j.config.Path); err != nil {
		return err
	}
	data, err := readAll(j.file)
	if err != nil {
		return err
	}
	// The file's name, and its directory's: both may be new, or be a run's that was
	// killed before it had synced them.
	dir := filepath.Dir(j.config.Path)
	if err := disk.syncDir(dir); err != nil {
		return err
	}
	if err := disk.syncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if len(data) <= journalHeader && !validHeader(data) {
		// Made, but not yet used: the header was torn.
		return j.begin()
	}
	good, err := j.replay(data)
	if err != nil {
		return err
	}
	j.size = int64(good)
	if good == len(data) {
		return nil
	}
	j.config.Log.Warn("cut an unfinished write off the job journal", "bytes", len(data)-good, "at", good)
	// Not synced: a tail that comes back is cut off again, and the next frame's sync
	// covers the cut.
	if err := j.file.Truncate(j.size); err != nil {
		return fmt.Errorf("cut the torn tail off: %w", err)
	}
	return nil
}

// begin writes the header of an empty file.
func (j *Journal) begin() error {
	if err := j.file.Truncate(0); err != nil {
		return err
	}
	if _, err := j.file.WriteAt(header(), 0); err != nil {
		return err
	}
	j.size = int64(journalHeader)
	return j.file.Sync()
}

func header() []byte {
	buf := binary.LittleEndian.AppendUint32([]byte(journalMagic), journalVersion)
	return binary.LittleEndian.AppendUint32(buf, crc32.Checksum(buf, castagnoli))
}

// validHeader reports whether data begins with a sound header of any version.
func validHeader(data []byte) bool {
	if len(data) < journalHeader || string(data[:len(journalMagic)]) != journalMagic {
		return false
	}
	sum := crc32.Checksum(data[:journalHeader-4], castagnoli)
	return binary.LittleEndian.Uint32(data[journalHeader-4:]) == sum
}

// replay builds the entries from the file's content and returns how much of it
// is sound.
func (j *Journal) replay(data []byte) (good int, err error) {
	if !validHeader(data) {
		return 0, fmt.Errorf("%w: it does not begin with its header; %s", ErrJournalDamaged, damagedAdvice)
	}
	if v := binary.LittleEndian.Uint32(data[len(journalMagic):]); v > journalVersion {
		return 0, fmt.Errorf("%w: it has version %d, this one reads up to %d; install the later version", ErrJournalVersion, v, journalVersion)
	}
	good, frames, damaged, err := scanFrames(data[journalHeader:], func(payload []byte) error {
		var records []Record
		if err := json.Unmarshal(payload, &records); err != nil {
			return err
		}
		for _, r := range records {
			if err := j.take(j.entries, r); err != nil {
				return err
			}
		}
		return nil
	})
	good += journalHeader
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: at byte %d: %w; %s", ErrJournalDamaged, good, err, damagedAdvice)
	case damaged:
		return 0, fmt.Errorf("%w: the frame at byte %d is bad and others follow it; %s", ErrJournalDamaged, good, damagedAdvice)
	}
	j.frames = frames
	return good, nil
}

const damagedAdvice = "nothing was run and nothing changed. Check the disk; to go on without what this node knew of its jobs, move the file away: jobs that were running then end as the mesh's time limits say"

// take applies a record to a set of entries.
func (j *Journal) take(entries map[string]*Entry, r Record) error {
	next, err := apply(entries[r.JobID], r)
	if err != nil {
		return err
	}
	if next == nil {
		delete(entries, r.JobID)
		return nil
	}
	if r.Kind == RecordAccepted {
		j.order++
		next.Order = j.order
	}
	j.order = max(j.order, next.Order)
	entries[r.JobID] = next
	return nil
}

// Entry returns what is known of a job, nil for an unknown one.
func (j *Journal) Entry(jobID string) *Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.entries[jobID]
}

// Entries returns all jobs in the order in which they were accepted.
func (j *Journal) Entries() []*Entry {
	j.mu.Lock()
	entries := slices.Collect(maps.Values(j.entries))
	j.mu.Unlock()
	slices.SortFunc(entries, func(a, b *Entry) int { return int(a.Order) - int(b.Order) })
	return entries
}

// Note adds records that need not be durable by themselves: they are written
// with the next batch, or by Close. A crash may lose them.
func (j *Journal) Note(records ...Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range records {
		if err := j.take(j.entries, r); err != nil {
			j.config.Log.Error("the job journal drops a note", "error", err)
			continue
		}
		if j.staged[r.JobID] != nil {
			// It is written after the batch under way, so it applies to that too.
			if err := j.take(j.staged, r); err != nil {
				j.config.Log.Error("the job journal drops a note", "error", err)
				continue
			}
		}
		j.notes = append(j.notes, r)
	}
}

// Append makes records durable, all or none, and returns when they are. Records
// of one call stay together and in order. On ErrJournalWrite, none was written,
// for certain.
func (j *Journal) Append(records ...Record) error {
	c := &call{records: records}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrJournalClosed
	}
	b, first := j.gather, false
	if b == nil {
		b, first = &batch{done: make(chan struct{})}, true
		j.gather = b
	}
	b.calls = append(b.calls, c)
	j.mu.Unlock()
	if first {
		j.write(b)
	} else {
		<-b.done
	}
	return c.err
}

// write makes a batch durable. While it waits for the batch before, more callers
// join this one.
func (j *Journal) write(b *batch) {
	j.flush.Lock()
	defer j.flush.Unlock()
	j.mu.Lock()
	j.gather = nil
	// Apply to a copy of what the batch touches: entries are seen by others only
	// once they are durable.
	overlay := make(map[string]*Entry)
	records := slices.Clip(j.notes)
	notes := len(j.notes)
	var calls []*call
	for _, c := range b.calls {
		if c.err = j.stage(overlay, c.records); c.err == nil {
			records = append(records, c.records...)
			calls = append(calls, c)
		}
	}
	j.staged = overlay
	j.mu.Unlock()

	err := j.commit(records)
	j.mu.Lock()
	j.staged = nil
	for _, c := range calls {
		c.err = err
	}
	if err == nil {
		j.notes = j.notes[notes:]
		for id, entry := range overlay {
			if entry == nil {
				delete(j.entries, id)
			} else {
				j.entries[id] = entry
			}
		}
	}
	j.mu.Unlock()
	close(b.done)
	if err == nil && j.size >= j.compactAt {
		j.compact()
	}
}

// stage applies the records of one call to overlay, all or none.
func (j *Journal) stage(overlay map[string]*Entry, records []Record) error {
	trial := make(map[string]*Entry)
	for _, r := range records {
		if _, seen := trial[r.JobID]; seen {
		} else if entry, seen := overlay[r.JobID]; seen {
			trial[r.JobID] = entry
		} else {
			trial[r.JobID] = j.entries[r.JobID]
		}
		next, err := apply(trial[r.JobID], r)
		if err != nil {
			return fmt.Errorf("append to the job journal: %w", err)
		}
		if next != nil && r.Kind == RecordAccepted {
			j.order++
			next.Order = j.order
		}
		trial[r.JobID] = next
	}
	maps.Copy(overlay, trial)
	return nil
}

// commit writes one frame and syncs it. The caller holds flush.
func (j *Journal) commit(records []Record) error {
	if j.broken != nil {
		return j.broken
	}
	if len(records) == 0 {
		return nil
	}
	payload, err := json.Marshal(records)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrJournalWrite, err)
	}
	if len(payload) > maxFrame {
		return fmt.Errorf("%w: %d bytes at once", ErrJournalWrite, len(payload))
	}
	frame := appendFrame(nil, j.frames+1, payload)
	pass(records, failpoint.Unwritten)
	_, err = j.file.WriteAt(frame, j.size)
	if err == nil {
		pass(records, failpoint.Unsynced)
		err = j.file.Sync()
	}
	if err == nil {
		pass(records, failpoint.Synced)
		j.size += int64(len(frame))
		j.frames++
		return nil
	}
	// Take back what may have been written, durably: the caller will say that it
	// was not.
	undo := j.file.Truncate(j.size)
	if undo == nil {
		undo = j.file.Sync()
	}
	if undo != nil {
		j.broken = fmt.Errorf("%w: %w; then: %w", ErrJournalBroken, err, undo)
		return j.broken
	}
	return fmt.Errorf("%w: %w", ErrJournalWrite, err)
}

// pass comes by the failpoints of a frame.
func pass(records []Record, stage failpoint.Stage) {
	if !failpoint.Enabled {
		return
	}
	for _, r := range records {
		failpoint.Hit(failpoint.Journal(string(r.Kind), stage))
	}
}

// Forget drops the ids of jobs for which may holds and whose time is over; no
// id goes before its expiry, whatever may says.
func (j *Journal) Forget(now time.Time, may func(*Entry) bool) {
	for _, entry := range j.Entries() {
		if entry.Finished() && !entry.Unreported() && now.After(entry.ExpiresAt) && may(entry) {
			j.Note(Record{Kind: RecordForgotten, JobID: entry.JobID, At: now})
		}
	}
}

// Close writes the notes and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	j.flush.Lock()
	defer j.flush.Unlock()
	j.mu.Lock()
	notes := j.notes
	j.notes = nil
	j.mu.Unlock()
	err := j.commit(notes)
	if errors.Is(err, ErrJournalBroken) {
		err = nil // said already, to whom it mattered
	}
	return errors.Join(err, j.file.Close())
}
