package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"fleetmesh/executor"
)

// ErrJobsLost is returned by Open when a node that has served has neither its journal
// nor the files of any job.
var ErrJobsLost = errors.New("the job journal of this node is gone, and the files of its jobs with it: what has run here is not known, and what the mesh asks for again would run a second time. Find out who deleted them; then remove the node from the mesh (meshctl node remove), move its directory away and let it join again")

// findJobs refuses a directory whose jobs were deleted. Without the journal alone the
// node may go on: the files of its jobs tell what was begun.
func findJobs(config Config) error {
	path := filepath.Join(config.Dir, "journal")
	if info, err := os.Stat(path); err == nil && info.Size() >= executor.EmptyJournal {
		return nil
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for the job journal: %w", err)
	}
	files, err := os.ReadDir(jobsDir(config.Dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for the files of jobs: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("%w: %s", ErrJobsLost, config.Dir)
	}
	config.Log.Warn("the job journal is gone: going on with the files of the jobs alone", "journal", path, "jobs", len(files))
	return nil
}
