package worker

import (
	"cmp"
	"slices"
	"time"

	"fleetmesh/executor"
)

// jobFiles are the files of a job as the sweep sees them.
type jobFiles struct {
	id    string
	bytes int64 // on disk
	// endedAt is when the job ended; pinned: they stay, because it has not, or the
	// mesh does not know its end yet.
	endedAt time.Time
	pinned  bool
}

// roomRules say how much the files of all jobs may take.
type roomRules struct {
	retention time.Duration
	// space is for all files, in bytes; reserved is what running steps may still
	// write of it.
	space    int64
	reserved int64
	// lack is how many bytes of the disk are missing to what is to be free.
	lack int64
}

// outdated returns the ids of the jobs whose files go, oldest first: those that
// ended longer ago than the retention, then the oldest until all fit into the
// space and the disk has its room.
func outdated(jobs []jobFiles, now time.Time, rules roomRules) []string {
	jobs = slices.Clone(jobs)
	slices.SortStableFunc(jobs, func(a, b jobFiles) int {
		return cmp.Or(a.endedAt.Compare(b.endedAt), cmp.Compare(a.id, b.id))
	})
	over := rules.reserved - rules.space
	for _, job := range jobs {
		over += job.bytes
	}
	over = max(over, rules.lack)
	var ids []string
	for _, job := range jobs {
		if job.pinned || over <= 0 && now.Sub(job.endedAt) < rules.retention {
			continue
		}
		ids = append(ids, job.id)
		over -= job.bytes
	}
	return ids
}

// stepLimit is how many bytes each of the two outputs of a step may have that
// begins now. Half of the space is for the jobs that run, in equal shares; the
// other half is for what they leave. pinned is what ended jobs take of the space
// that must stay, own what the step's job has taken, others what each other
// running job has taken or may still take. However little there is, a step has
// what the API shows.
func stepLimit(space, pinned, own int64, others []int64, slots int) int64 {
	left := min(space/2, space-pinned) - own
	for _, taken := range others {
		left -= taken
	}
	share := left / int64(max(slots-len(others), 1))
	return max(share/2, executor.AlwaysKept)
}
