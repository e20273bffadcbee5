//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// peakMemory is the most memory that a node's meshd has ever had, in bytes.
func (m *mesh) peakMemory(n *node) int64 {
	m.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
			if err != nil {
				m.t.Fatal(err)
			}
			return kib << 10
		}
	}
	m.t.Fatalf("no peak of memory in %s", data)
	return 0
}

// diskUse is what a directory takes of the disk, in bytes.
func (m *mesh) diskUse(dir string) (bytes int64) {
	m.t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return bytes
}

// wholeOutput reads a command's output of a node through another.
func (m *mesh) wholeOutput(through, of *node, command string) ([]byte, error) {
	out, _, err := m.run("meshctl", "--endpoint", "https://"+through.address+":7947", "command", "output", command, "--node", of.id)
	if err != nil {
		err = fmt.Errorf("read the output of %s: %w", of.name, err)
	}
	return []byte(out), err
}

// sendScript sends a script to targets, as `meshctl run` names them, and returns its
// command's id.
func (m *mesh) sendScript(script string, targets ...string) string {
	m.t.Helper()
	args := append([]string{"run", "-o", "json", "--detach", "--max-concurrency", "100%"}, targets...)
	var sent struct{ Command struct{ CommandId string } }
	if err := json.Unmarshal([]byte(m.meshctl(append(args, "--", script)...)), &sent); err != nil {
		m.t.Fatal(err)
	}
	return sent.Command.CommandId
}

// TestMuchOutputAtOnce: 10 MB on each of 20 nodes at once cost the leader little
// memory and the store no more than what the API shows, and all can be read.
func TestMuchOutputAtOnce(t *testing.T) {
	const nodes, size = 20, 10_000_000
	m := newMesh(t, nodes, func(int) []string { return nil })
	voters := m.awaitVoters(5)
	leader := m.byID(voters.Leader)
	through := m.nodes[nodes-1]
	idle := m.peakMemory(leader)
	before := m.diskUse(filepath.Join(leader.dir, "store"))
	id := m.sendScript(fmt.Sprintf(`yes "$AWS_SSM_INSTANCE_ID" | head -c %d`, size), "--targets", "all")
	m.meshctl("command", "wait", id)
	grown := m.diskUse(filepath.Join(leader.dir, "store")) - before
	ran := m.peakMemory(leader)

	var all sync.WaitGroup
	turn := make(chan struct{}, 10)
	for _, n := range m.nodes {
		all.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			want := bytes.Repeat([]byte(n.id+"\n"), size/len(n.id)+1)[:size]
			if got, err := m.wholeOutput(through, n, id); err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
				t.Errorf("the output of %s has %d bytes and is another; %v", n.name, len(got), err)
			}
		})
	}
	all.Wait()
	for _, n := range m.nodes {
		if peak := m.peakMemory(n); peak >= 100<<20 {
			t.Errorf("%s (leader: %t) has had %d MiB of memory", n.name, n == leader, peak>>20)
		}
	}
	t.Logf("the leader's memory: %d KiB idle, %d KiB when all had run, %d KiB in the end; store grown by %d KiB", idle>>10, ran>>10, m.peakMemory(leader)>>10, grown>>10)
	// Each record is in the log and in the state, and these are trees of pages.
	if most := int64(nodes * 4 * 32_000); grown > most {
		t.Errorf("the store has grown by %d bytes, want at most %d", grown, most)
	}
}

// TestRunawayOutput: scripts that print without end leave the disk its room. They
// go on, it is told where their outputs end, and the node works on.
func TestRunawayOutput(t *testing.T) {
	m := newMeshOnDisks(t, 2, func(int) []string { return []string{"--member-only"} })
	member := m.nodes[1]
	const size = 500_000_000
	ids := make([]string, 2)
	for i := range ids {
		ids[i] = m.sendScript(fmt.Sprintf("yes out | head -c %d\nyes err | head -c %d >&2\necho over > %s", size, size, filepath.Join(m.dir, fmt.Sprint("over", i))), "--nodes", member.id)
	}
	for i, id := range ids {
		m.meshctl("command", "wait", id)
		if _, err := os.Stat(filepath.Join(m.dir, fmt.Sprint("over", i))); err != nil {
			t.Errorf("the script did not go on: %v", err)
		}
		var d struct {
			CommandInvocations []struct{ Status, TraceOutput string }
		}
		m.json(&d, "command", "show", id)
		if i := d.CommandInvocations[0]; i.Status != "Success" || !strings.Contains(i.TraceOutput, "output was truncated: ") {
			t.Errorf("%+v", i)
		}
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(member.dir, &disk); err != nil {
		t.Fatal(err)
	}
	if free := int64(disk.Bfree) * disk.Bsize; free < 30<<20 {
		t.Errorf("%d MiB of the disk are free", free>>20)
	}
	out, err := m.wholeOutput(m.nodes[0], member, ids[1])
	if err != nil || !bytes.HasPrefix(out, []byte("out\nout\n")) || !bytes.HasSuffix(out, []byte(" ---\n")) || !bytes.Contains(out, []byte("\n--- output truncated: only the first ")) {
		t.Errorf("the output of the second has %d bytes and ends %q; %v", len(out), out[max(0, len(out)-150):], err)
	}
	// What comes later is kept whole: the oldest have made room.
	m.await("room for an output of a megabyte", func() error {
		id := m.sendScript("yes more | head -c 1000000", "--nodes", member.id)
		m.meshctl("command", "wait", id)
		out, err := m.wholeOutput(m.nodes[0], member, id)
		if err == nil && !bytes.Equal(out, bytes.Repeat([]byte("more\n"), 200_000)) {
			err = errors.New("it was cut")
		}
		return err
	})
	if n := m.said(member, "takes no jobs"); n != 0 {
		t.Errorf("the node has refused jobs %d times", n)
	}
}
