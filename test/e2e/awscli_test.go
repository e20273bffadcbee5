//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheAWSCLI drives the stock client against leader, follower and a plain
// member, with nothing but what `meshctl env` prints.
func TestTheAWSCLI(t *testing.T) {
	m := newMesh(t, 4, func(i int) []string {
		if i == 3 {
			return []string{"--member-only"}
		}
		return nil
	})
	s := m.awaitVoters(3)
	leader := m.byID(s.Leader)
	follower := m.nodes[0]
	if follower == leader {
		follower = m.nodes[1]
	}
	for _, through := range []*node{leader, follower, m.nodes[3]} {
		var sent struct{ Command struct{ CommandId string } }
		m.awsJSON(through, &sent, "send-command", "--document-name", "AWS-RunShellScript", "--targets", "Key=tag:role,Values=web",
			"--comment", "via "+through.name, "--parameters", `commands=["echo out","echo err >&2"]`)
		if _, err := m.aws(through, "wait", "command-executed", "--command-id", sent.Command.CommandId, "--instance-id", m.nodes[0].id); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Status, StatusDetails, StandardOutputContent, StandardErrorContent string
			ResponseCode                                                       int
		}
		m.awsJSON(through, &got, "get-command-invocation", "--command-id", sent.Command.CommandId, "--instance-id", m.nodes[0].id)
		if got.Status != "Success" || got.StandardOutputContent != "out\n" || got.StandardErrorContent != "err\n" || got.ResponseCode != 0 {
			t.Errorf("through %s: %+v", through.name, got)
		}
		var nodes struct {
			InstanceInformationList []struct{ InstanceId, PingStatus, Name string }
		}
		m.awsJSON(through, &nodes, "describe-instance-information", "--filters", "Key=tag:role,Values=web")
		if len(nodes.InstanceInformationList) != 2 {
			t.Errorf("through %s: %+v", through.name, nodes)
		}
		if _, err := m.aws(through, "get-parameter", "--name", "x"); err == nil || !strings.Contains(err.Error(), "UnknownOperationException") {
			t.Errorf("an operation that is not there: %v", err)
		}
		if _, err := m.aws(through, "send-command", "--document-name", "No-Such", "--instance-ids", m.nodes[0].id); err == nil || !strings.Contains(err.Error(), "InvalidDocument") {
			t.Errorf("an unknown document: %v", err)
		}
	}
}

// TestKilledLeader: SIGKILL; the others go on, what was acknowledged is there,
// and the dead one comes back by itself.
func TestKilledLeader(t *testing.T) {
	m := newMesh(t, 3, func(int) []string { return nil })
	s := m.awaitVoters(3)
	var acknowledged []string
	for round := range 3 {
		leader := m.byID(s.Leader)
		var sent struct{ Command struct{ CommandId string } }
		m.awsJSON(leader, &sent, "send-command", "--document-name", "AWS-RunShellScript", "--targets", "Key=tag:role,Values=web,db",
			"--parameters", `commands=["echo $AWS_SSM_INSTANCE_ID >> `+filepath.Join(m.dir, "runs"+string(rune('0'+round)))+`"]`)
		m.kill(leader)
		acknowledged = append(acknowledged, sent.Command.CommandId)
		var other *node
		for _, n := range m.nodes {
			if n != leader {
				other = n
			}
		}
		m.await("the next leader to accept a write", func() error {
			_, err := m.aws(other, "add-tags-to-resource", "--resource-type", "ManagedInstance", "--resource-id", other.id, "--tags", "Key=round,Value="+string(rune('0'+round)))
			return err
		})
		m.start(leader)
		m.awaitOnline(3)
		s = m.awaitVoters(3)
		for _, id := range acknowledged {
			m.await("command "+id+" to end", func() error {
				_, exit, err := m.run("meshctl", "--endpoint", "https://"+other.address+":7947", "command", "wait", id)
				if exit == 3 {
					return nil // it ended, not everywhere with success: the killed node may have been cut off in the middle
				}
				return err
			})
		}
		data, err := os.ReadFile(filepath.Join(m.dir, "runs"+string(rune('0'+round))))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range m.nodes {
			if strings.Count(string(data), n.id) > 1 {
				t.Errorf("round %d: ran %d times on %s", round, strings.Count(string(data), n.id), n.name)
			}
		}
	}
}

// TestKilledNodeKeepsItsScript: SIGKILL of meshd; the script goes on, once, and
// its true outcome is reported by the next meshd.
func TestKilledNodeKeepsItsScript(t *testing.T) {
	m := newMesh(t, 2, func(int) []string { return []string{"--member-only"} })
	target := m.nodes[1]
	script := `echo run >> ` + m.dir + `/runs; touch ` + m.dir + `/started; while [ ! -e ` + m.dir + `/go ]; do sleep 0.05; done; echo after; exit 7`
	out := m.meshctl("run", "--nodes", target.id, "--detach", "-o", "json", "--", script)
	id := between(t, out, `"CommandId"`)
	m.await("the script to start", func() error { _, err := os.Stat(m.dir + "/started"); return err })
	m.kill(target)
	if err := os.WriteFile(m.dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.start(target)
	m.await("the outcome", func() error {
		_, exit, err := m.run("meshctl", "command", "wait", id)
		if exit == 3 {
			return nil
		}
		return err
	})
	var got struct {
		Status, StandardOutputContent string
		ResponseCode                  int
	}
	m.awsJSON(m.nodes[0], &got, "get-command-invocation", "--command-id", id, "--instance-id", target.id)
	if got.Status != "Failed" || got.ResponseCode != 7 || got.StandardOutputContent != "after\n" {
		t.Errorf("%+v", got)
	}
	if data, _ := os.ReadFile(m.dir + "/runs"); string(data) != "run\n" {
		t.Errorf("ran %q", data)
	}
}

// TestDemoLeavesNothing: the README's first command, with an empty home.
func TestDemoLeavesNothing(t *testing.T) {
	home := t.TempDir()
	cmd := exec.Command("bash", "../demo/demo.sh")
	cmd.Env = append(os.Environ(), "HOME="+home, "MESHCTL_CONFIG=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(string(out), "Success"); n < 3 {
		t.Errorf("%d times Success, want at least 3\n%s", n, out)
	}
	if left, err := exec.Command("pgrep", "-f", "fleetmesh-demo").Output(); err == nil {
		t.Errorf("processes are left: %s", left)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "fleetmesh-demo.*")); len(left) > 0 {
		t.Errorf("directories are left: %v", left)
	}
}

// between returns the quoted value after a JSON key.
func between(t *testing.T, text, key string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, key)
	if ok {
		if parts := strings.SplitN(rest, `"`, 3); len(parts) == 3 {
			return parts[1]
		}
	}
	t.Fatalf("no %s in %s", key, text)
	return ""
}
