package worker

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A node that has served and has lost its jobs does not start; one that has lost the
// journal alone goes on, and runs nothing again.
func TestLostJobsAreNotRunAgain(t *testing.T) {
	for name, c := range map[string]struct {
		served bool
		lose   func(dir string) error
		starts bool
	}{
		"nothing":              {served: true, lose: func(string) error { return nil }, starts: true},
		"all":                  {served: true, lose: os.RemoveAll},
		"all, and served none": {lose: os.RemoveAll, starts: true},
		"all but an empty journal": {served: true, lose: func(dir string) error {
			return errors.Join(os.RemoveAll(jobsDir(dir)), os.Truncate(filepath.Join(dir, "journal"), 0))
		}},
		"the journal":        {served: true, lose: func(dir string) error { return os.Remove(filepath.Join(dir, "journal")) }, starts: true},
		"what is in it":      {served: true, lose: func(dir string) error { return os.Truncate(filepath.Join(dir, "journal"), 0) }, starts: true},
		"the files of a job": {served: true, lose: func(dir string) error { return os.RemoveAll(jobsDir(dir)) }, starts: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMesh()
			config := testConfig(filepath.Join(t.TempDir(), "jobs"), m)
			mark := filepath.Join(t.TempDir(), "mark")
			job := newJob("job", shell("a", "echo x >> "+mark))
			w := open(t, config)
			accept(t, w, job)
			m.end(t, "job")
			w.Close()
			if err := c.lose(config.Dir); err != nil {
				t.Fatal(err)
			}
			config.Served = c.served
			w, err := Open(config)
			if !c.starts {
				if !errors.Is(err, ErrJobsLost) {
					t.Errorf("starts: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if !c.served {
				return
			}
			accept(t, w, job)
			eventually(t, "the job has ended", func() bool { return w.journal.Entry("job").Finished() })
			if ran(mark) != 1 {
				t.Errorf("ran %d times", ran(mark))
			}
		})
	}
}
