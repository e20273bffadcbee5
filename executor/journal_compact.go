package executor

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"fleetmesh/internal/failpoint"
)

// compactChunk is about how many bytes of entries go into one frame.
const compactChunk = 1 << 20

// compact writes the entries to a new file and puts it in the place of the old
// one: sync, rename, sync the directory. Until the rename the old file is whole,
// after it the new one is. Every id that is known stays. The caller holds flush,
// so nothing is appended meanwhile.
func (j *Journal) compact() {
	before := j.size
	if err := j.rewrite(); err != nil {
		j.config.Log.Error("the job journal could not be made smaller; it goes on growing", "bytes", j.size, "error", err)
		j.compactAt = j.size + j.config.CompactAt
		return
	}
	j.compactAt = max(j.config.CompactAt, 2*j.size)
	j.config.Log.Debug("made the job journal smaller", "from", before, "to", j.size)
}

func (j *Journal) rewrite() error {
	disk, path := j.config.disk, j.config.Path+".new"
	failpoint.Hit(failpoint.CompactUnwritten)
	// Notes are in the entries already; what they say goes with them.
	j.mu.Lock()
	notes := len(j.notes)
	j.mu.Unlock()
	entries := j.Entries()

	if err := disk.remove(path); err != nil {
		return err
	}
	file, err := disk.open(path)
	if err != nil {
		return err
	}
	size, frames, err := writeEntries(file, entries)
	if err == nil {
		failpoint.Hit(failpoint.CompactUnsynced)
		err = file.Sync()
	}
	if err == nil {
		failpoint.Hit(failpoint.CompactSynced)
		err = disk.rename(path, j.config.Path)
	}
	if err != nil {
		file.Close()
		return err
	}
	failpoint.Hit(failpoint.CompactRenamed)
	j.file.Close()
	j.file, j.size, j.frames = file, size, frames
	if err := disk.syncDir(filepath.Dir(j.config.Path)); err != nil {
		// A power cut could bring the old file back, without what comes now.
		j.broken = fmt.Errorf("%w: sync the directory after compaction: %w", ErrJournalBroken, err)
		return j.broken
	}
	failpoint.Hit(failpoint.CompactDone)
	j.mu.Lock()
	j.notes = slices.Clone(j.notes[notes:])
	j.mu.Unlock()
	return nil
}

func writeEntries(file diskFile, entries []*Entry) (size int64, frames uint64, err error) {
	if _, err := file.WriteAt(header(), 0); err != nil {
		return 0, 0, err
	}
	size = int64(journalHeader)
	var records []json.RawMessage
	pending := 0
	write := func() error {
		payload, err := json.Marshal(records)
		if err != nil {
			return err
		}
		frame := appendFrame(nil, frames+1, payload)
		if _, err := file.WriteAt(frame, size); err != nil {
			return err
		}
		size += int64(len(frame))
		frames++
		records, pending = nil, 0
		return nil
	}
	for _, entry := range entries {
		record, err := json.Marshal(Record{Kind: recordEntry, JobID: entry.JobID, Entry: entry})
		if err != nil {
			return 0, 0, err
		}
		records = append(records, record)
		if pending += len(record); pending >= compactChunk {
			if err := write(); err != nil {
				return 0, 0, err
			}
		}
	}
	if len(records) > 0 {
		if err := write(); err != nil {
			return 0, 0, err
		}
	}
	return size, frames, nil
}
