//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// TestADiskThatIsMountedAnew: a member's file system fails under a running script and
// comes back, on the same boot, with what was synced and nothing else: the journal, and
// not the claim of the step. The script is not run again.
func TestADiskThatIsMountedAnew(t *testing.T) {
	m := newMeshOnDisks(t, 2, func(int) []string { return []string{"--member-only"} })
	l := newLedger(m)
	l.disksFill = true
	member := m.nodes[1]
	id, err := l.send(t.Context(), 2, 1, member)
	if err != nil {
		t.Fatal(err)
	}
	awaitRun := func(what string, is func(*run) bool) {
		t.Helper()
		m.await(what, func() error {
			for _, nodes := range l.runs() {
				if r := nodes[member.id]; r != nil && is(r) {
					return nil
				}
			}
			return errors.New("not yet")
		})
	}
	awaitRun("the script begins", func(r *run) bool { return r.starts > 0 })
	m.kill(member)
	awaitRun("the script ends", func(r *run) bool { return r.ends > 0 })
	m.await("the end of its shim", func() error {
		if left := m.strangers(); len(left) > 0 {
			return errors.New(strings.Join(left, "; "))
		}
		return nil
	})

	synced := t.TempDir()
	if err := os.Remove(filepath.Join(member.dir, "meshd.sock")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(synced, os.DirFS(member.dir)); err != nil {
		t.Fatal(err)
	}
	claims, err := filepath.Glob(filepath.Join(synced, "jobs", "files", id, "*", "*"))
	if err != nil || len(claims) == 0 {
		t.Fatalf("the step has no files: %v", err)
	}
	for _, file := range claims {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	err = unix.Unmount(member.dir, 0)
	if err == nil {
		err = unix.Mount("tmpfs", member.dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", diskSize))
	}
	if err == nil {
		err = os.CopyFS(member.dir, os.DirFS(synced))
	}
	if err != nil {
		t.Fatal(err)
	}

	m.start(member)
	var ended command
	m.await("the end of the command", func() (err error) {
		ended, err = l.command(t.Context(), id)
		if err == nil && !slices.Contains(terminal, ended.Status) {
			err = fmt.Errorf("it is %s", ended.Status)
		}
		return err
	})
	if i := ended.invocations[member.id]; i.Status != types.CommandInvocationStatusFailed || !strings.Contains(m.reason(l, id, member), "whether it ran is not known") {
		t.Errorf("%s: %s", i.Status, m.reason(l, id, member))
	}
	for token, nodes := range l.runs() {
		if r := nodes[member.id]; r == nil || r.starts != 1 || r.ends != 1 {
			t.Errorf("%s: %+v", token, r)
		}
	}
	m.noLeaks()
}
