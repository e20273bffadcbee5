//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// windowClient makes a window through a node with the stock client.
type windowClient struct {
	m       *mesh
	through *node
	window  string
}

// newWindow makes a window that does not open until open says when.
func (m *mesh) newWindow(through *node) *windowClient {
	m.t.Helper()
	var made struct{ WindowId string }
	m.awsJSON(through, &made, "create-maintenance-window", "--name", "nightly", "--schedule", "at(2099-01-01T00:00:00)",
		"--duration", "2", "--cutoff", "1", "--no-allow-unassociated-targets")
	return &windowClient{m, through, made.WindowId}
}

// open lets the window open after a while, and says when.
func (w *windowClient) open(after time.Duration) time.Time {
	w.m.t.Helper()
	opens := time.Now().Add(after).UTC().Truncate(time.Second)
	var made struct{ WindowId string }
	w.m.awsJSON(w.through, &made, "update-maintenance-window", "--window-id", w.window, "--schedule", "at("+opens.Format("2006-01-02T15:04:05")+")")
	return opens
}

func (w *windowClient) target(targets string) string {
	w.m.t.Helper()
	var made struct{ WindowTargetId string }
	w.m.awsJSON(w.through, &made, "register-target-with-maintenance-window", "--window-id", w.window, "--resource-type", "INSTANCE",
		"--targets", targets, "--owner-information", "the site")
	return made.WindowTargetId
}

func (w *windowClient) task(target, script string, priority int) string {
	w.m.t.Helper()
	var made struct{ WindowTaskId string }
	w.m.awsJSON(w.through, &made, "register-task-with-maintenance-window", "--window-id", w.window, "--task-type", "RUN_COMMAND",
		"--task-arn", "AWS-RunShellScript", "--targets", "Key=WindowTargetIds,Values="+target, "--max-concurrency", "10", "--max-errors", "0",
		"--priority", fmt.Sprint(priority), "--task-invocation-parameters", `{"RunCommand":{"Parameters":{"commands":["`+script+`"]}}}`)
	return made.WindowTaskId
}

type windowExecution struct{ WindowExecutionId, Status, StatusDetails string }

// execution waits for the only execution of the window to have one of the statuses.
func (w *windowClient) execution(statuses ...string) windowExecution {
	w.m.t.Helper()
	var got struct{ WindowExecutions []windowExecution }
	w.m.await("the window's execution to be "+strings.Join(statuses, " or "), func() error {
		out, err := w.m.aws(w.through, "describe-maintenance-window-executions", "--window-id", w.window)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return err
		}
		if len(got.WindowExecutions) > 1 {
			w.m.t.Fatalf("the opening was claimed twice: %+v", got)
		}
		for _, x := range got.WindowExecutions {
			for _, s := range statuses {
				if x.Status == s {
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", got)
	})
	return got.WindowExecutions[0]
}

// TestAWindowOpensOnce: the leader is killed just before the opening; each node runs
// each task once, and the execution tells all of it.
func TestAWindowOpensOnce(t *testing.T) {
	m := newMesh(t, 4, func(i int) []string {
		if i == 3 {
			return []string{"--member-only"}
		}
		return nil
	})
	s := m.awaitVoters(3)
	leader, through := m.byID(s.Leader), m.nodes[3]
	w := m.newWindow(through)
	target := w.target("Key=tag:role,Values=web,db")
	runs := filepath.Join(m.dir, "runs")
	first := w.task(target, `echo first {{WINDOW_ID}} $AWS_SSM_INSTANCE_ID >> `+runs, 1)
	second := w.task(target, `echo second {{ WINDOW_EXECUTION_ID }} $AWS_SSM_INSTANCE_ID >> `+runs, 2)
	opens := w.open(12 * time.Second)
	var foreseen struct {
		ScheduledWindowExecutions []struct{ WindowId, ExecutionTime string }
	}
	m.awsJSON(through, &foreseen, "describe-maintenance-window-schedule", "--window-id", w.window)
	if len(foreseen.ScheduledWindowExecutions) != 1 || foreseen.ScheduledWindowExecutions[0].ExecutionTime != opens.Format(time.RFC3339) {
		t.Errorf("foreseen %+v, want %s", foreseen, opens)
	}
	if left := time.Until(opens); left < 0 {
		t.Fatalf("the window opened %s before the leader could be killed", -left)
	}
	m.await("the last second before the opening", func() error {
		if left := time.Until(opens); left > time.Second {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
	m.kill(leader)
	m.start(leader)
	x := w.execution("SUCCESS", "FAILED", "TIMED_OUT")
	if x.Status != "SUCCESS" {
		t.Errorf("%+v", x)
	}
	data, err := os.ReadFile(runs)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	for _, n := range m.nodes {
		for _, want := range []string{"first " + w.window + " " + n.id, "second " + x.WindowExecutionId + " " + n.id} {
			if got := strings.Count(string(data), want+"\n"); got != 1 {
				t.Errorf("%q %d times on %s, want once", want, got, n.name)
			}
		}
	}
	for i, line := range lines {
		if want := []string{"first", "second"}[2*i/len(lines)]; !strings.HasPrefix(line, want) {
			t.Errorf("line %d is %q: priorities run one after another\n%s", i, line, data)
		}
	}
	var whole struct{ TaskIds []string }
	m.awsJSON(through, &whole, "get-maintenance-window-execution", "--window-execution-id", x.WindowExecutionId)
	if len(whole.TaskIds) != 2 {
		t.Fatalf("tasks %+v of %s and %s", whole, first, second)
	}
	for _, task := range whole.TaskIds {
		var invocations struct {
			WindowExecutionTaskInvocationIdentities []struct {
				InvocationId, ExecutionId, Status, OwnerInformation, WindowTargetId, TaskType string
			}
		}
		m.awsJSON(through, &invocations, "describe-maintenance-window-execution-task-invocations", "--window-execution-id", x.WindowExecutionId, "--task-id", task)
		all := invocations.WindowExecutionTaskInvocationIdentities
		if len(all) != 1 || all[0].Status != "SUCCESS" || all[0].OwnerInformation != "the site" || all[0].WindowTargetId != target || all[0].TaskType != "RUN_COMMAND" {
			t.Fatalf("invocations %+v", all)
		}
		var command struct {
			CommandInvocations []struct{ InstanceId, Status string }
		}
		m.awsJSON(through, &command, "list-command-invocations", "--command-id", all[0].ExecutionId)
		if len(command.CommandInvocations) != len(m.nodes) {
			t.Errorf("the command ran on %+v", command)
		}
	}
}

// TestAWindowIsCancelled: what has begun ends by itself, what has not does not begin.
func TestAWindowIsCancelled(t *testing.T) {
	m := newMesh(t, 1, nil)
	n := m.nodes[0]
	w := m.newWindow(n)
	target := w.target("Key=InstanceIds,Values=" + n.id)
	begun, release := filepath.Join(m.dir, "begun"), filepath.Join(m.dir, "release")
	w.task(target, `touch `+begun+`; while [ ! -e `+release+` ]; do sleep 0.05; done; echo ended >> `+begun, 1)
	w.task(target, `touch `+filepath.Join(m.dir, "never"), 2)
	w.open(5 * time.Second)
	m.await("the first task to begin", func() error { _, err := os.Stat(begun); return err })
	x := w.execution("IN_PROGRESS")
	if _, err := m.aws(n, "cancel-maintenance-window-execution", "--window-execution-id", x.WindowExecutionId); err != nil {
		t.Fatal(err)
	}
	w.execution("CANCELLING")
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.execution("CANCELLED")
	var tasks struct {
		WindowExecutionTaskIdentities []struct{ Status string }
	}
	m.awsJSON(n, &tasks, "describe-maintenance-window-execution-tasks", "--window-execution-id", x.WindowExecutionId)
	if all := tasks.WindowExecutionTaskIdentities; len(all) != 2 || all[0].Status != "SUCCESS" || all[1].Status != "CANCELLED" {
		t.Errorf("tasks %+v", all)
	}
	if data, _ := os.ReadFile(begun); string(data) != "ended\n" {
		t.Errorf("the task that ran did not end by itself: %q", data)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "never")); err == nil {
		t.Error("the cancelled task ran")
	}
}
