//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

// TestScriptsOutliveDaemons: a long script runs on all nodes while the leader is
// killed, then another node twice, the second time while it recovers, then all at
// once; on some nodes the script ends while nobody is there. Each ran once, whole
// and with its whole output.
func TestScriptsOutliveDaemons(t *testing.T) {
	m := newMesh(t, 5, anyNode)
	m.awaitRest(5, 0)
	d := &deadly{ledger: newLedger(m)}
	alone, watched := m.nodes[:2], m.nodes[2:]
	gate := func(n *node) string { return filepath.Join(m.dir, "gate."+n.id) }
	half := "seq -f 'line %.0f of some length' 1 20000"
	id := d.mustSend([]string{half, until(filepath.Join(m.dir, "gate.$AWS_SSM_INSTANCE_ID")), half}, m.nodes...)
	d.begun(id, m.nodes...)

	someTime := func() { time.Sleep(rand.N(time.Second)) }
	leader := m.leader()
	m.kill(leader)
	someTime()
	m.start(leader)
	someTime()
	second := m.others(m.leader())[rand.IntN(len(m.nodes)-1)]
	for range 2 {
		m.kill(second)
		m.start(second)
		time.Sleep(rand.N(300 * time.Millisecond))
	}
	someTime()
	for _, n := range m.nodes {
		n.process.Process.Kill()
	}
	for _, n := range m.nodes {
		m.kill(n)
	}
	for _, n := range alone {
		d.touch(gate(n))
	}
	d.await("the end of the scripts that nobody watches", func() error {
		runs := d.runs()[d.sent[id].token]
		for _, n := range alone {
			if runs[n.id].ends == 0 {
				return errors.New("it runs on " + n.name)
			}
		}
		return nil
	})
	for _, n := range m.nodes {
		m.start(n)
	}
	someTime()
	for _, n := range watched {
		d.touch(gate(n))
	}
	lines, err := exec.Command("sh", "-c", half).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat(string(lines), 2) + d.sent[id].token + "\n"
	c := d.settled(id)
	for _, n := range m.nodes {
		d.expect("killed", id, n, ranWhole)
		got := m.meshctl("--endpoint", "https://"+m.nodes[rand.IntN(5)].address+":7947", "command", "output", id, "--node", n.id)
		if got != want {
			t.Errorf("%s: its output has %d bytes, want %d; ends %q", n.name, len(got), len(want), got[max(0, len(got)-80):])
		}
	}
	if c.Status != "Success" || c.CompletedCount != 5 || c.ErrorCount != 0 {
		t.Errorf("the command is %s, %d complete, %d errors", c.Status, c.CompletedCount, c.ErrorCount)
	}
	m.noLeaks()
}

// lonely is a mesh of two; scripts run on the second, whose boot of the machine
// the test makes up.
type lonely struct {
	*deadly
	target *node
	bootID string // file
}

func newLonely(t *testing.T) *lonely {
	t.Helper()
	dir := t.TempDir()
	l := &lonely{bootID: filepath.Join(dir, "boot_id")}
	l.boot(t)
	m := newOutfittedMesh(t, 2, func(int) []string { return []string{"--member-only"} }, func(n *node) {
		if n.name == "node2" {
			// The daemon is in a mount namespace of its own, with another boot id.
			n.wrapper = []string{"unshare", "--mount", "sh", "-ec", `mount --bind "$0" /proc/sys/kernel/random/boot_id; exec "$@"`, l.bootID}
		}
	})
	l.deadly, l.target = &deadly{ledger: newLedger(m)}, m.nodes[1]
	return l
}

// boot changes the boot id.
func (l *lonely) boot(t *testing.T) {
	t.Helper()
	id := fmt.Sprintf("%08x-0000-4000-8000-%012x\n", rand.Uint32(), rand.Uint64()>>16)
	if err := os.WriteFile(l.bootID, []byte(id), 0o600); err != nil {
		t.Fatal(err)
	}
}

var processPattern = regexp.MustCompile(`"(Shim|Script)":\{"PID":(\d+),`)

// processes are the shim and the script of a command's only step, as the target's
// status file has them.
func (l *lonely) processes(id string) (shim, script int) {
	l.t.Helper()
	l.await("the script's process in the status file", func() error {
		files, _ := filepath.Glob(filepath.Join(l.target.dir, "jobs", "files", id, "0.*", "status"))
		if len(files) != 1 {
			return fmt.Errorf("status files %q", files)
		}
		data, err := os.ReadFile(files[0])
		for _, match := range processPattern.FindAllStringSubmatch(string(data), -1) {
			pid, _ := strconv.Atoi(match[2])
			if match[1] == "Shim" {
				shim = pid
			} else {
				script = pid
			}
		}
		if err == nil && (shim == 0 || script == 0) {
			err = fmt.Errorf("status %q", data)
		}
		return err
	})
	return shim, script
}

// powerOff ends the target's daemon, shims and scripts, as the end of the machine
// does.
func (l *lonely) powerOff(pids ...int) {
	l.t.Helper()
	if l.target.process != nil {
		l.kill(l.target)
	}
	for _, pid := range pids {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // each leads its group
	}
	l.await("the end of the processes", func() error {
		for _, pid := range pids {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("process %d: %v", pid, err)
			}
		}
		return nil
	})
}

// reuse starts an unrelated process with a number that was another's, leader of
// its session and group as a script is.
func (l *lonely) reuse(pid int) *exec.Cmd {
	l.t.Helper()
	var stranger *exec.Cmd
	l.await(fmt.Sprintf("a process with the number %d", pid), func() error {
		// Others start processes, too: they may be faster.
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			return err
		}
		stranger = exec.Command("sleep", "600")
		stranger.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := stranger.Start(); err != nil {
			return err
		}
		if got := stranger.Process.Pid; got != pid {
			stranger.Process.Kill()
			stranger.Wait()
			return fmt.Errorf("it got the number %d", got)
		}
		return nil
	})
	l.t.Cleanup(func() { stranger.Process.Kill(); stranger.Wait() })
	return stranger
}

// unharmed: nobody has touched the stranger.
func (l *lonely) unharmed(stranger *exec.Cmd) {
	l.t.Helper()
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(stranger.Process.Pid, &status, syscall.WNOHANG|syscall.WUNTRACED, nil); pid != 0 || err != nil {
		l.t.Errorf("the stranger with the number %d was stopped or killed: %x, %v", stranger.Process.Pid, status, err)
	}
}

func (l *lonely) trace(id string) string {
	return aws.ToString(l.settled(id).invocations[l.target.id].TraceOutput)
}

// TestReusedProcessIDs: the daemon, the shim and the script are dead, and their
// numbers are those of other processes when the daemon comes back. Those are
// neither taken for the script nor killed, and the script is not run again.
func TestReusedProcessIDs(t *testing.T) {
	l := newLonely(t)
	id := l.mustSend([]string{"sleep 600"}, l.target)
	l.begun(id, l.target)
	shim, script := l.processes(id)
	daemon := l.target.process.Process.Pid
	l.powerOff(shim, script)
	var strangers []*exec.Cmd
	for _, pid := range []int{shim, script, daemon} {
		strangers = append(strangers, l.reuse(pid))
	}
	l.start(l.target)
	l.expect("reused", id, l.target, interrupted)
	// Nor does a wish to cancel reach them: the job has ended.
	if _, err := l.client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: &id}); err != nil {
		t.Fatal(err)
	}
	l.kill(l.target)
	l.start(l.target)
	after := l.mustSend(nil, l.target)
	l.expect("after", after, l.target, ranWhole)
	for _, stranger := range strangers {
		l.unharmed(stranger)
	}
	l.expect("reused", id, l.target, interrupted)
}

// TestReboot: the machine is started anew while one script runs, one waits for its
// turn, one has ended unseen. The first ends as interrupted, whatever processes
// have the old numbers; the second runs, once; the third is what it was.
func TestReboot(t *testing.T) {
	l := newLonely(t)
	gate := filepath.Join(l.dir, "gate")
	unseen := l.mustSend([]string{until(gate)}, l.target)
	var running []string
	for range 4 { // with the first, as many as run at once
		running = append(running, l.mustSend([]string{"sleep 600"}, l.target))
	}
	for _, id := range append(running, unseen) {
		l.begun(id, l.target)
	}
	waiting := l.mustSend(nil, l.target)
	l.await("its acceptance", func() error {
		data, err := os.ReadFile(filepath.Join(l.target.dir, "jobs", "journal"))
		if err == nil && !strings.Contains(string(data), waiting) {
			err = errors.New("it is not accepted")
		}
		return err
	})
	var pids []int
	for _, id := range running {
		shim, script := l.processes(id)
		pids = append(pids, shim, script)
	}
	shim, _ := l.processes(unseen)
	l.kill(l.target)
	l.touch(gate)
	l.await("the end that nobody sees", func() error {
		if err := syscall.Kill(shim, 0); !errors.Is(err, syscall.ESRCH) {
			return errors.New("its shim is there")
		}
		return nil
	})
	l.powerOff(pids...)
	stranger := l.reuse(pids[1])
	l.boot(t)
	l.start(l.target)
	for _, id := range running {
		l.expect("reboot", id, l.target, interrupted)
		if trace := l.trace(id); !strings.Contains(trace, "the machine was started anew") {
			t.Errorf("%s: %q", id, trace)
		}
	}
	l.expect("waiting", waiting, l.target, ranWhole)
	l.expect("unseen", unseen, l.target, ranWhole)
	l.unharmed(stranger)
	l.prove()
	l.noLeaks()
}
