//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/test/powerloss"
)

// answer is one that a client got from the traced node. at is taken when it had
// come: whatever the node did before it answered, the trace has earlier.
type answer struct {
	at    time.Time
	check func(ctx context.Context, l *ledger) error // that it still holds
}

// otherBoot runs what follows as on another boot of the machine: a power cut ends
// a boot, and the id of the boot tells meshd that none of its scripts lives.
func otherBoot(t *testing.T) []string {
	id := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(id, []byte("5ca1ab1e-0000-4000-8000-00000000b007\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, id}
}

// TestPowerLossOfANode: a node under load is traced; whenever its power goes, it
// starts again, what it had answered holds, and no script runs twice.
func TestPowerLossOfANode(t *testing.T) {
	m := newMesh(t, 1, anyNode)
	n := m.nodes[0]
	m.stop(n)
	before, err := powerloss.New(n.dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{root: n.dir, before: before.Cut(rand.New(rand.NewPCG(0, 0)))}
	trace := filepath.Join(m.dir, "trace")
	n.wrapper = straceOf(trace)
	m.start(n)
	l := newLedger(m)
	r.notes = l.file
	answers, last := l.load(n)
	pid, err := tracedChildOf(n.process)
	if err != nil {
		t.Fatal(err)
	}
	// At its busiest; strace ends with it.
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.process.Wait() // for the shim of the last script, too
	n.process, n.wrapper = nil, otherBoot(t)
	if r.events, err = powerloss.ParseFile(trace); err != nil {
		t.Fatal(err)
	}
	disk := before
	for _, e := range r.events {
		disk.Play(e)
	}
	for _, path := range disk.Strange() {
		if !strings.Contains(path, ".sock") {
			t.Errorf("the model knows nothing of %s", path)
		}
	}
	for _, a := range answers {
		later := slices.IndexFunc(r.events, func(e powerloss.Event) bool { return e.At.After(a.at) })
		if later >= 0 {
			r.stages = append(r.stages, later-1)
		}
	}
	number := max(1, *cuts/20)
	if *cutSeed != 0 {
		number = 1
	}
	r.try(t, number, func(ctx context.Context, c cut, dir string) error {
		return l.afterCut(ctx, r, c, dir, answers)
	})
	// At the very end the last script's shim was alone, and has kept what it saw.
	answers = append(answers, answer{check: func(ctx context.Context, l *ledger) error {
		c, err := l.command(ctx, last)
		if err != nil {
			return err
		}
		i := c.invocations[n.id]
		if i.Status != types.CommandInvocationStatusSuccess || len(i.CommandPlugins) != 1 || strings.TrimSpace(aws.ToString(i.CommandPlugins[0].Output)) != l.sent[last].token {
			return fmt.Errorf("the last command is %s (%s), with %+v", i.Status, aws.ToString(i.StatusDetails), i.CommandPlugins)
		}
		return nil
	}})
	for range 3 {
		seed := rand.Uint64()
		c := cut{seed: seed, at: len(r.events), image: disk.Cut(rand.New(rand.NewPCG(seed, 1))), notes: r.notesBefore(len(r.events))}
		if err := r.check(t.Context(), c, func(ctx context.Context, c cut, dir string) error {
			return l.afterCut(ctx, r, c, dir, answers)
		}); err != nil {
			t.Errorf("a power cut at the end: %v", err)
		}
	}
}

// stop ends a node in good order.
func (m *mesh) stop(n *node) {
	m.t.Helper()
	n.process.Process.Signal(syscall.SIGTERM)
	if err := n.process.Wait(); err != nil {
		m.t.Fatal(err)
	}
	n.process = nil
}

// load tags the node and runs scripts on it, one after another and several at
// once, and keeps the answers. The last command's script is running when it returns.
func (l *ledger) load(n *node) (answers []answer, last string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	keep := func(check func(context.Context, *ledger) error) {
		at := time.Now()
		mu.Lock()
		defer mu.Unlock()
		answers = append(answers, answer{at, check})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 12 {
			key, value := fmt.Sprintf("cut%d", i), fmt.Sprint(i)
			if _, err := l.client.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{
				ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &n.id, Tags: []types.Tag{{Key: &key, Value: &value}},
			}); err != nil {
				l.t.Error(err)
				return
			}
			keep(func(ctx context.Context, l *ledger) error {
				out, err := l.client.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &n.id})
				if err != nil {
					return err
				}
				if !slices.ContainsFunc(out.TagList, func(tag types.Tag) bool { return *tag.Key == key && *tag.Value == value }) {
					return fmt.Errorf("tag %s is lost", key)
				}
				return nil
			})
		}
	})
	for worker := range 2 {
		wg.Go(func() {
			for range 6 {
				id, err := l.send(ctx, 0.1*float64(worker), 1, n)
				if err != nil {
					l.t.Error(err)
					return
				}
				keep(func(ctx context.Context, l *ledger) error {
					_, err := l.command(ctx, id)
					return err
				})
				for {
					c, err := l.command(ctx, id)
					if err != nil {
						l.t.Error(err)
						return
					}
					if slices.Contains(terminal, c.Status) {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				keep(func(ctx context.Context, l *ledger) error {
					c, err := l.command(ctx, id)
					if err == nil && c.Status != types.CommandStatusSuccess {
						err = fmt.Errorf("command %s was Success and is %s", id, c.Status)
					}
					return err
				})
			}
		})
	}
	wg.Wait()
	last, err := l.send(ctx, 1, 1, n)
	if err != nil {
		l.t.Fatal(err)
	}
	l.await("the last script", func() error {
		if r := l.runs()[l.sent[last].token][n.id]; r == nil || r.starts == 0 {
			return errors.New("it has not begun")
		}
		return nil
	})
	return answers, last
}

// one makes the cuts of a node take turns: it has one address.
var one = make(chan struct{}, 1)

// afterCut starts the node on what a cut left, in the node's own place.
func (l *ledger) afterCut(ctx context.Context, r *recording, c cut, dir string, answers []answer) (err error) {
	one <- struct{}{}
	defer func() { <-one }()
	n := l.nodes[0]
	if err := os.RemoveAll(n.dir); err != nil {
		return err
	}
	if err := exec.Command("cp", "-a", dir, n.dir).Run(); err != nil {
		return err
	}
	// The scripts that had begun by then, and no others.
	begun := map[string]bool{}
	if err := os.WriteFile(l.file, []byte(strings.Join(append(c.notes, ""), "\n")), 0o600); err != nil {
		return err
	}
	for _, note := range c.notes {
		if f := strings.Fields(note); len(f) == 4 && f[0] == "start" {
			begun[f[1]] = true
		}
	}
	l.start(n)
	defer func() {
		n.process.Process.Signal(syscall.SIGTERM)
		err = errors.Join(err, n.process.Wait())
		n.process = nil
		if err != nil {
			log, _ := os.ReadFile(n.dir + ".log")
			err = fmt.Errorf("%w\n%s", err, log[max(0, len(log)-3000):])
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	// Whatever the mesh knows of comes to an end.
	var all []types.Command
	for {
		all = nil
		pages := ssm.NewListCommandsPaginator(l.client, &ssm.ListCommandsInput{})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			all = append(all, page.Commands...)
		}
		if !slices.ContainsFunc(all, func(c types.Command) bool { return !slices.Contains(terminal, c.Status) }) {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("commands do not end: %w", ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
	var errs []error
	for _, a := range answers {
		// The moment of the cut is that of the event that did not happen.
		if c.at < len(r.events) && a.at.Before(r.events[c.at].At) || c.at >= len(r.events) {
			errs = append(errs, a.check(ctx, l))
		}
	}
	states := map[string]types.Command{}
	for _, command := range all {
		states[aws.ToString(command.Comment)] = command
	}
	for token, nodes := range l.runs() {
		for _, run := range nodes {
			if run.starts > 1 {
				errs = append(errs, fmt.Errorf("the script %s ran %d times", token, run.starts))
			}
			if command, known := states[token]; known && run.ends == 0 && command.Status == types.CommandStatusSuccess {
				errs = append(errs, fmt.Errorf("the script %s did not end, and is Success", token))
			}
		}
	}
	for token := range begun {
		if _, known := states[token]; !known {
			errs = append(errs, fmt.Errorf("the script %s ran, and no command is known", token))
		}
	}
	return errors.Join(errs...)
}
