//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"golang.org/x/sys/unix"
)

// diskSize is that of each node's disk, in bytes.
const diskSize = 64 << 20

// newMeshOnDisks makes a mesh whose nodes each have a small disk of their own.
func newMeshOnDisks(t *testing.T, n int, joinArgs func(i int) []string, runArgs ...string) *mesh {
	t.Helper()
	var m *mesh
	var mounted []string
	t.Cleanup(func() { // after the mesh was closed
		for _, dir := range mounted {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		}
		if m != nil {
			os.RemoveAll(m.dir)
		}
	})
	m = newOutfittedMesh(t, n, joinArgs, func(n *node) {
		err := os.Mkdir(n.dir, 0o700)
		if err == nil {
			err = unix.Mount("tmpfs", n.dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", diskSize))
		}
		if err != nil {
			t.Fatalf("make a disk (as root?): %v", err)
		}
		mounted = append(mounted, n.dir)
	}, runArgs...)
	return m
}

// fill writes until not one byte more fits on the node's disk.
func (m *mesh) fill(n *node) {
	m.t.Helper()
	file, err := os.OpenFile(filepath.Join(n.dir, "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		if _, err := file.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
			size /= 2
		} else if err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *mesh) free(n *node) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(n.dir, "filler")); err != nil {
		m.t.Fatal(err)
	}
}

// advice is what `mesh status` advises, asked of a node; with the local socket it
// needs no leader.
func (m *mesh) advice(n *node, local bool) (string, error) {
	where := []string{"--endpoint", "https://" + n.address + ":7947"}
	if local {
		where = []string{"--socket", filepath.Join(n.dir, "meshd.sock")}
	}
	out, exit, err := m.runOn(n, "meshctl", append(where, "mesh", "status", "-o", "json")...)
	if err != nil && exit != 4 { // no leader
		return "", err
	}
	var s struct{ Advice []string }
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return "", err
	}
	return strings.Join(s.Advice, "\n"), nil
}

func (m *mesh) awaitAdvice(n *node, local bool, texts ...string) {
	m.t.Helper()
	m.await("advice of "+strings.Join(texts, ", "), func() error {
		advice, err := m.advice(n, local)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(advice, text) {
				return fmt.Errorf("%q is missing in %q", text, advice)
			}
		}
		return nil
	})
}

func (m *mesh) awaitNoDiskAdvice(n *node) {
	m.t.Helper()
	m.await("room on all disks", func() error {
		advice, err := m.advice(n, false)
		if err == nil && strings.Contains(advice, "full") {
			err = errors.New(advice)
		}
		return err
	})
}

// said counts the lines of a node's log that hold a text.
func (m *mesh) said(n *node, text string) (lines int) {
	m.t.Helper()
	data, err := os.ReadFile(n.dir + ".log")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, text) {
			lines++
		}
	}
	return lines
}

// TestFullDiskOfAMember: it takes no more jobs and says why, what runs on it is
// reported in the end, and when there is room it goes on by itself.
func TestFullDiskOfAMember(t *testing.T) {
	m := newMeshOnDisks(t, 2, func(int) []string { return []string{"--member-only"} })
	l := newLedger(m)
	l.disksFill = true
	member := m.nodes[1]
	running, err := l.send(t.Context(), 6, 1, member)
	if err != nil {
		t.Fatal(err)
	}
	m.await("its script", func() error {
		for _, nodes := range l.runs() {
			if nodes[member.id] != nil {
				return nil
			}
		}
		return errors.New("it has not begun")
	})
	m.fill(member)
	m.awaitAdvice(m.nodes[0], false, "1 disk is full: node2")
	out, err := l.client.SendCommand(t.Context(), &ssm.SendCommandInput{
		DocumentName: aws.String("AWS-RunShellScript"), InstanceIds: []string{member.id, m.nodes[0].id},
		Parameters: map[string][]string{"commands": {"echo started >> " + filepath.Join(m.dir, "refused-$AWS_SSM_INSTANCE_ID")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var refused command
	m.await("the refusal", func() (err error) {
		refused, err = l.command(t.Context(), *out.Command.CommandId)
		if err == nil && !slices.Contains(terminal, refused.Status) {
			err = fmt.Errorf("it is %s", refused.Status)
		}
		return err
	})
	if i := refused.invocations[member.id]; i.Status != types.CommandInvocationStatusFailed || !strings.Contains(m.reason(l, *out.Command.CommandId, member), "disk of this node is full") {
		t.Errorf("refused as %s (%s): %q", i.Status, aws.ToString(i.StatusDetails), m.reason(l, *out.Command.CommandId, member))
	}
	if i := refused.invocations[m.nodes[0].id]; i.Status != types.CommandInvocationStatusSuccess {
		t.Errorf("on the other node: %s", i.Status)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "refused-"+member.id)); err == nil {
		t.Error("what was refused has run")
	}
	if n := m.said(member, "takes no jobs: the disk of this node is full"); n != 1 {
		t.Errorf("the full disk is told %d times in the log", n)
	}
	// The script ends while nothing can be written down.
	m.await("the end of the script", func() error {
		for _, nodes := range l.runs() {
			if r := nodes[member.id]; r != nil && r.ends == 1 {
				return nil
			}
		}
		return errors.New("it runs")
	})
	m.kill(member)
	m.start(member)
	m.awaitOnline(2)
	m.free(member)
	m.awaitNoDiskAdvice(m.nodes[0])
	m.await("the report of its end", func() error {
		c, err := l.command(t.Context(), running)
		if err == nil && !slices.Contains(terminal, c.Status) {
			err = fmt.Errorf("it is %s", c.Status)
		}
		return err
	})
	if _, err := l.send(t.Context(), 0, 1, member); err != nil {
		t.Fatal(err)
	}
	if states := l.prove(); states["Success/Success"] != 2 {
		t.Errorf("after there was room: %v", states)
	}
	m.noLeaks()
}

// reason is what `command show` says of an invocation.
func (m *mesh) reason(l *ledger, id string, n *node) string {
	m.t.Helper()
	out, err := l.client.GetCommandInvocation(m.t.Context(), &ssm.GetCommandInvocationInput{CommandId: &id, InstanceId: &n.id})
	if err != nil {
		m.t.Fatal(err)
	}
	return aws.ToString(out.StandardErrorContent) + m.meshctl("command", "show", id, "-o", "json")
}

// TestFullDisksOfVoters: a follower's, the leader's, and all voters' disks fill up
// to the last byte under load. Nothing that was acknowledged is lost, a minority
// stops nobody, and with room they go on by themselves.
func TestFullDisksOfVoters(t *testing.T) {
	m := newMeshOnDisks(t, 3, anyNode)
	m.awaitRest(3, 0)
	l := newLedger(m)
	l.disksFill = true
	ctx, stop := context.WithCancel(t.Context())
	wait := l.pour(ctx, 200*time.Millisecond, 0.2, 3)
	for _, which := range []func() *node{
		func() *node { return m.others(m.leader())[0] },
		m.leader,
	} {
		full := which()
		at := time.Now()
		m.fill(full)
		m.await("its store to be closed", func() error {
			if m.said(full, "does not hold the store until there is room") == 0 {
				return errors.New("it is open")
			}
			return nil
		})
		t.Logf("the next write after %s was full took %s", full.name, l.firstWrite(at, m.others(full)))
		m.awaitAdvice(m.others(full)[0], false, "1 disk is full: "+full.name)
		m.free(full)
		m.awaitNoDiskAdvice(full)
		m.await("a vote that counts", func() error {
			s, err := m.status()
			if err == nil && (s.FailureTolerance != 1 || m.said(full, "there is room on the disk again: this node holds the store") == 0) {
				err = fmt.Errorf("%+v", s)
			}
			return err
		})
	}
	for _, n := range m.nodes {
		m.fill(n)
	}
	m.await("no voter to hold its store", func() error {
		if _, err := m.status(); err == nil {
			return errors.New("the mesh has a leader")
		}
		return nil
	})
	m.awaitAdvice(m.nodes[0], true, "disks are full")
	_, err := l.through(m.nodes).AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{
		ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &m.nodes[0].id,
		Tags: []types.Tag{{Key: aws.String("full"), Value: aws.String("yes")}},
	})
	if err == nil || !strings.Contains(err.Error(), "ServiceUnavailable") {
		t.Errorf("a write without any room: %v", err)
	}
	// Also through a power cut.
	for _, n := range m.nodes {
		n.process.Process.Kill()
	}
	for _, n := range m.nodes {
		m.kill(n)
		m.start(n)
	}
	for _, n := range m.nodes {
		m.free(n)
	}
	m.awaitOnline(3)
	m.awaitRest(3, 0)
	stop()
	wait()
	states := l.prove()
	for state := range states {
		if state != "Success/Success" && state != "Failed/Failed" {
			t.Errorf("%v", states)
		}
	}
	m.noLeaks()
}
