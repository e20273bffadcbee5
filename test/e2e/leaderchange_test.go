//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.yaml.in/yaml/v3"
)

// TestLeaderChanges: while clients of every sort work through all nodes, leaders
// are killed, stopped, cut off and healed by random schedules. Each ends in the
// same proof. A schedule is replayed by -seed.
func TestLeaderChanges(t *testing.T) {
	for _, s := range seeds() {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { underFaults(t, drawFaults(s, *faults)) })
	}
}

func underFaults(t *testing.T, schedule []fault) {
	m := newMeshOn(t, newNetwork(t), 6, func(i int) []string {
		if i == 5 {
			return []string{"--member-only"}
		}
		return nil
	}, nil)
	m.awaitRest(5, 0)
	l := newLedger(m)
	l.everyEndpoint()

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	waits := []func() int{l.pour(ctx, 100*time.Millisecond, 0.3, 2), l.pour(ctx, 100*time.Millisecond, 0.1, 3)}
	requests := &requests{ledger: l, answers: map[string][]string{}}
	limits := &limits{ledger: l, forbidden: map[string][]string{}}
	for _, client := range []func(context.Context){requests.repeatRaw, requests.useCLI, limits.watch} {
		clients.Go(func() {
			for ctx.Err() == nil {
				client(context.WithoutCancel(ctx))
			}
		})
	}
	for _, f := range schedule {
		clients.Go(func() { l.follow(m.nodes[f.other%len(m.nodes)]) })
		clients.Go(func() { l.runInForeground(m.nodes[f.other%len(m.nodes)]) })
		m.inflict(f)
	}
	m.awaitOnline(len(m.nodes))
	stop()
	clients.Wait()
	for _, wait := range waits {
		wait()
	}
	l.prove()
	requests.prove()
	limits.prove()
	m.awaitRest(5, 0)
	m.noLeaks()
	m.readLogs(100 + 30*len(schedule))
}

// limits watches the error threshold.
type limits struct {
	*ledger
	// forbidden are nodes by token on which the script must not have begun: they
	// were waiting when more errors than allowed had been committed.
	forbidden map[string][]string
}

// watch sends a command that fails everywhere, with one error allowed, and looks
// who still waits once there are two.
func (s *limits) watch(ctx context.Context) {
	const maxConcurrency, maxErrors = 2, 1
	c, in := s.draft(0.2, maxConcurrency, s.nodes...)
	in.MaxErrors = aws.String(fmt.Sprint(maxErrors))
	in.Parameters["commands"] = append(in.Parameters["commands"], "exit 1")
	out, err := s.client.SendCommand(ctx, in)
	if err != nil {
		s.t.Logf("not acknowledged: %v", err)
		return
	}
	id := *out.Command.CommandId
	s.enter(id, c)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		// The counters first: who waits later than that, waits for ever.
		now, err := s.command(ctx, id)
		switch {
		case ctx.Err() != nil:
			s.t.Errorf("command %s did not stop within %s: %v, %s", id, patience, err, open(now))
			return
		case err == nil && int(now.ErrorCount) > maxErrors:
			s.mu.Lock()
			s.forbidden[c.token] = []string{}
			for node, i := range now.invocations {
				if i.Status == types.CommandInvocationStatusPending || aws.ToString(i.StatusDetails) == "Terminated" {
					s.forbidden[c.token] = append(s.forbidden[c.token], node)
				}
			}
			s.mu.Unlock()
			if slices.Contains(terminal, now.Status) {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *limits) prove() {
	s.t.Helper()
	runs := s.runs()
	waited := 0
	for token, nodes := range s.forbidden {
		for _, node := range nodes {
			waited++
			if r := runs[token][node]; r != nil {
				s.t.Errorf("%s began on %s after the errors were over the threshold", token, node)
			}
		}
		// As many errors as are allowed, and then all that had begun.
		if began := len(runs[token]); began > 1+2 {
			s.t.Errorf("%s, which fails everywhere, began on %d nodes with 1 error allowed and 2 at once", token, began)
		}
	}
	s.t.Logf("%d commands went over their threshold; %d invocations waited and never began", len(s.forbidden), waited)
}

// everyEndpoint gives meshctl a configuration with all nodes.
func (l *ledger) everyEndpoint() {
	l.t.Helper()
	file := filepath.Join(l.nodes[0].dir, "admin.yaml")
	config := map[string]any{}
	data, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(data, &config)
	}
	var endpoints []string
	for _, n := range l.nodes {
		endpoints = append(endpoints, "https://"+n.address+":7947")
	}
	config["endpoints"] = endpoints
	if err == nil {
		data, err = yaml.Marshal(config)
	}
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// follow follows an output until its end: it is whole, with nothing twice.
func (l *ledger) follow(n *node) {
	const lines = 60
	c, in := l.draft(0, 1, n)
	in.Parameters["commands"] = append(in.Parameters["commands"], fmt.Sprintf("for i in $(seq 1 %d); do echo line $i; sleep 0.1; done", lines))
	out, err := l.client.SendCommand(context.WithoutCancel(l.t.Context()), in)
	if err != nil {
		l.t.Errorf("send a command to follow: %v", err)
		return
	}
	id := *out.Command.CommandId
	want := c.token + "\n"
	for i := range lines {
		want += fmt.Sprintf("line %d\n", i+1)
	}
	got, _, err := l.run("meshctl", "command", "output", id, "--node", n.id, "--follow")
	if err != nil || got != want {
		l.t.Errorf("following %s on %s: %v; %d bytes, want %d\n%s", id, n.name, err, len(got), len(want), got)
	}
}

// runInForeground: meshctl run ends with the exit code that the command deserves.
func (l *ledger) runInForeground(fails *node) {
	token := fmt.Sprintf("t%x", rand.Uint64())
	script, want := "sleep 2", 0
	if rand.IntN(2) == 0 {
		script, want = fmt.Sprintf(`sleep 1; [ $AWS_SSM_INSTANCE_ID != %s ]`, fails.id), 3
	}
	_, exit, err := l.run("meshctl", "run", "--targets", "all", "--max-errors", "100%", "--comment", token, "--", script)
	out, findErr := l.byComment(token)
	switch {
	case findErr != nil:
		l.t.Errorf("find the command of meshctl run: %v", findErr)
	case len(out) == 0 && exit == 4: // nobody took it, and it said so
	case len(out) != 1:
		l.t.Errorf("meshctl run made %d commands: %v", len(out), err)
	case want == 0 && out[0].Status != types.CommandStatusSuccess && exit == 3: // as it went; prove judges why
		l.t.Logf("meshctl run: the command is %s (%s), %v", out[0].Status, aws.ToString(out[0].StatusDetails), err)
	case exit != want:
		l.t.Errorf("meshctl run ended with %d, want %d: %v; the command is %s", exit, want, err, out[0].Status)
	}
}

// byComment lists the commands with a comment.
func (l *ledger) byComment(comment string) ([]types.Command, error) {
	all, err := l.allCommands()
	return slices.DeleteFunc(all, func(c types.Command) bool { return aws.ToString(c.Comment) != comment }), err
}

func (l *ledger) allCommands() ([]types.Command, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.t.Context()), patience)
	defer cancel()
	var all []types.Command
	pages := ssm.NewListCommandsPaginator(l.client, &ssm.ListCommandsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Commands...)
	}
	return all, nil
}
