//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/failpoint"
)

// deadly is a mesh whose processes die at named points.
type deadly struct {
	*ledger
	// members are the nodes that never vote; workers' points are tried on them.
	members []*node
	// tried are the points that a process has died at.
	tried map[failpoint.Point]bool
	// unlisted are the commands that are not in the ledger.
	unlisted int
}

// newDeadly makes three voters and three members, all of the build with failpoints.
func newDeadly(t *testing.T) *deadly {
	t.Helper()
	memberOnly := func(i int) []string {
		if i >= 3 {
			return []string{"--member-only"}
		}
		return nil
	}
	m := newOutfittedMesh(t, 6, memberOnly, func(n *node) {
		n.program = filepath.Join(filepath.Dir(n.program), "failpoint", "meshd")
		machines(n)
		points := n.dir + ".points"
		if err := os.Mkdir(points, 0o700); err != nil {
			t.Fatal(err)
		}
		n.env = append(n.env, failpoint.Env+"="+points)
	})
	m.awaitRest(3, 0)
	return &deadly{ledger: newLedger(m), members: m.nodes[3:], tried: map[failpoint.Point]bool{}}
}

func (n *node) points() string { return n.dir + ".points" }

// arm makes a point deadly for the node; what is as package failpoint has it.
func (d *deadly) arm(n *node, p failpoint.Point, what string) {
	d.t.Helper()
	draft := n.points() + ".draft"
	err := os.WriteFile(draft, []byte(what), 0o600)
	if err == nil {
		err = os.Rename(draft, filepath.Join(n.points(), string(p)))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *deadly) hit(n *node, p failpoint.Point) bool {
	_, err := os.Stat(filepath.Join(n.points(), string(p)+".hit"))
	return err == nil
}

// dead notes that a process has died at a point. The daemon's death is awaited and
// must be that of SIGKILL.
func (d *deadly) dead(n *node, p failpoint.Point, daemon bool) {
	d.t.Helper()
	d.await("the death of "+n.name+" at "+string(p), func() error {
		if !d.hit(n, p) {
			return errors.New("it lives")
		}
		return nil
	})
	os.Remove(filepath.Join(n.points(), string(p)+".hit"))
	d.tried[p] = true
	if !daemon {
		return
	}
	process := n.process
	d.awaitEnd(n)
	if status := process.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		d.t.Errorf("%s at %s: %s, not SIGKILL", n.name, p, process.ProcessState)
	}
}

// settled waits until a command has ended.
func (d *deadly) settled(id string) command {
	d.t.Helper()
	var c command
	d.await("the end of command "+id, func() (err error) {
		if c, err = d.command(d.t.Context(), id); err == nil && !slices.Contains(terminal, c.Status) {
			err = fmt.Errorf("it is %s: %s", c.Status, open(c))
		}
		return err
	})
	return c
}

// Outcomes of an invocation.
const (
	ranWhole    = "Success"
	wasCancel   = "Cancelled"
	neverRan    = "Failed: it did not run"
	interrupted = "Failed: its end is not known"
)

// outcome says how an invocation ended, by what the mesh tells.
func outcome(i types.CommandInvocation) string {
	trace := aws.ToString(i.TraceOutput)
	switch {
	case i.Status == types.CommandInvocationStatusFailed && strings.HasPrefix(trace, "interrupted: ") && strings.Contains(trace, "it did not run"):
		return neverRan
	case i.Status == types.CommandInvocationStatusFailed && strings.HasPrefix(trace, "interrupted: "):
		return interrupted
	case i.Status == types.CommandInvocationStatusSuccess, i.Status == types.CommandInvocationStatusCancelled:
		return string(i.Status)
	}
	return fmt.Sprintf("%s/%s: %s", i.Status, aws.ToString(i.StatusDetails), trace)
}

// expect checks how a command ended on one node, against the lines that its script
// has written there.
func (d *deadly) expect(why string, id string, n *node, outcomes ...string) {
	d.t.Helper()
	got := outcome(d.settled(id).invocations[n.id])
	r := d.runs()[d.sent[id].token][n.id]
	if r == nil {
		r = &run{}
	}
	honest := r.starts <= 1
	switch got {
	case ranWhole:
		honest = r.starts == 1 && r.ends == 1
	case neverRan:
		honest = r.starts == 0
	}
	if !honest || !slices.Contains(outcomes, got) {
		d.t.Errorf("%s: command %s on %s ended as %q with %d starts and %d ends, want one of %q", why, id, n.name, got, r.starts, r.ends, outcomes)
	}
}

// sendScript is send with other lines between begin and end.
func (d *deadly) sendScript(ctx context.Context, lines []string, maxConcurrency int, nodes ...*node) (string, error) {
	c, in := d.draft(0, maxConcurrency, nodes...)
	commands := in.Parameters["commands"] // begin, sleep, end, output
	in.Parameters["commands"] = slices.Concat(commands[:1], lines, commands[2:])
	out, err := d.client.SendCommand(ctx, in)
	if err != nil {
		return "", err
	}
	d.enter(*out.Command.CommandId, c)
	return *out.Command.CommandId, nil
}

// mustSend is sendScript on all nodes at once, for what has to be acknowledged.
func (d *deadly) mustSend(lines []string, nodes ...*node) string {
	d.t.Helper()
	id, err := d.sendScript(d.t.Context(), lines, len(nodes), nodes...)
	if err != nil {
		d.t.Fatal(err)
	}
	return id
}

// begun waits until a command's script has begun on the nodes.
func (d *deadly) begun(id string, nodes ...*node) {
	d.t.Helper()
	d.await("the begin of "+id, func() error {
		runs := d.runs()[d.sent[id].token]
		for _, n := range nodes {
			if runs[n.id] == nil {
				return errors.New("it has not begun on " + n.name)
			}
		}
		return nil
	})
}

// TestEveryFailpoint: a process dies at every named point of a job's life, one
// after another, and is started again. No script runs twice, each that the mesh
// says ran whole did, all ends, and a request that was cut off is one command.
func TestEveryFailpoint(t *testing.T) {
	d := newDeadly(t)
	special := map[failpoint.Point]bool{
		failpoint.ExitUnsynced: true, failpoint.ExitSynced: true,
	}
	for _, kind := range []string{"starting", "step", "rebooting", "cancelling"} {
		for _, stage := range []failpoint.Stage{failpoint.Unwritten, failpoint.Unsynced, failpoint.Synced} {
			special[failpoint.Journal(kind, stage)] = true
		}
	}
	var leaders, workers []failpoint.Row
	for _, row := range failpoint.Table() {
		switch {
		case row.Process == failpoint.Leader:
			leaders = append(leaders, row)
		case row.Process != failpoint.Recovery && !special[row.Point]:
			workers = append(workers, row)
		}
	}
	for _, row := range leaders {
		d.atLeader(row)
	}
	for rows := range slices.Chunk(workers, len(d.members)) {
		d.atWorkers(rows)
	}
	d.atStart()
	d.atStep()
	d.atReboot()
	d.atCancel()
	d.atExitAlone()
	d.atRecovery()

	for _, row := range failpoint.Table() {
		if !d.tried[row.Point] {
			t.Errorf("nothing died at %s", row.Point)
		}
	}
	d.prove()
	d.oneCommandEach()
	d.noLeaks()
}

// oneCommandEach: what the clients had to send again is not a second command.
func (d *deadly) oneCommandEach() {
	d.t.Helper()
	known := 0
	pages := ssm.NewListCommandsPaginator(d.client, &ssm.ListCommandsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		known += len(page.Commands)
	}
	if sent := len(d.sent) + d.unlisted; known != sent {
		d.t.Errorf("the mesh has %d commands, %d were sent", known, sent)
	}
}

// atLeader: the leader dies, at whatever its own job is then.
func (d *deadly) atLeader(row failpoint.Row) {
	d.t.Helper()
	leader := d.leader()
	d.arm(leader, row.Point, "")
	id, err := d.sendScript(d.t.Context(), []string{"sleep 0.2"}, 3, d.nodes...)
	if err != nil {
		d.t.Fatalf("%s: %v", row.Point, err)
	}
	d.dead(leader, row.Point, true)
	d.start(leader)
	for _, n := range d.nodes {
		d.expect(string(row.Point), id, n, ranWhole)
	}
}

// atWorkers: a point for each member. Commands come until all have died.
func (d *deadly) atWorkers(rows []failpoint.Row) {
	d.t.Helper()
	victims := map[*node]failpoint.Row{}
	for i, row := range rows {
		victims[d.members[i]] = row
		d.arm(d.members[i], row.Point, "")
	}
	// Enough of it makes the journal long.
	padding := ": " + strings.Repeat("x", 20<<10)
	for attempt := 0; len(victims) > 0; attempt++ {
		if attempt == 20 {
			d.t.Fatalf("nobody dies any more: %v are left", victims)
		}
		id := d.mustSend([]string{padding, "sleep 0.2"}, d.nodes...)
		dead := map[*node]failpoint.Row{}
		d.await("the end of "+id, func() error {
			for n, row := range victims {
				if d.hit(n, row.Point) {
					d.dead(n, row.Point, row.Process == failpoint.Daemon)
					if row.Process == failpoint.Daemon {
						d.start(n)
					}
					delete(victims, n)
					dead[n] = row
				}
			}
			c, err := d.command(d.t.Context(), id)
			if err == nil && !slices.Contains(terminal, c.Status) {
				err = fmt.Errorf("it is %s: %s", c.Status, open(c))
			}
			return err
		})
		for _, n := range d.nodes {
			if row, died := dead[n]; died {
				d.expect(string(row.Point), id, n, workerOutcome(row))
				continue
			}
			d.expect("alive", id, n, ranWhole)
		}
	}
}

// workerOutcome is that of a job whose node's process dies at a point.
func workerOutcome(row failpoint.Row) string {
	switch row.Point {
	case failpoint.ShimUnclaimed:
		return neverRan
	case failpoint.ShimClaimed, failpoint.ScriptUnstarted, failpoint.ScriptStarted, failpoint.ScriptNoted,
		failpoint.ScriptExited, failpoint.ScriptReaped:
		return interrupted
	}
	return ranWhole
}

// stages are the points of a record for each of the members.
func (d *deadly) stages(kind, what string) map[*node]failpoint.Point {
	d.t.Helper()
	points := map[*node]failpoint.Point{}
	for i, stage := range []failpoint.Stage{failpoint.Unwritten, failpoint.Unsynced, failpoint.Synced} {
		p := failpoint.Journal(kind, stage)
		points[d.members[i]] = p
		d.arm(d.members[i], p, what)
	}
	return points
}

// atStart: a job waits, so that its start is journaled alone.
func (d *deadly) atStart() {
	d.t.Helper()
	gate := filepath.Join(d.dir, "start")
	var before []string
	for range 5 { // as many as run at once
		before = append(before, d.mustSend([]string{until(gate)}, d.members...))
	}
	for _, id := range before {
		d.begun(id, d.members...)
	}
	points := d.stages("starting", "")
	id := d.mustSend(nil, d.members...)
	d.await("its acceptance", func() error {
		out, err := d.command(d.t.Context(), id)
		if err == nil && len(out.invocations) != len(d.members) {
			err = fmt.Errorf("%d invocations", len(out.invocations))
		}
		return err
	})
	d.touch(gate)
	for n, p := range points {
		d.dead(n, p, true)
		d.start(n)
	}
	for n, p := range points {
		d.expect(string(p), id, n, ranWhole)
		for _, other := range before {
			d.expect(string(p), other, n, ranWhole)
		}
	}
}

func until(file string) string {
	return "until [ -e " + file + " ]; do sleep 0.05; done"
}

func (d *deadly) touch(file string) {
	d.t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// document makes a document of steps, which leave lines in a file: the node's id and
// the step's name. It returns how often a step has run on a node.
func (d *deadly) document(name string, steps map[string]string, order ...string) (runs func(n *node, step string) int) {
	d.t.Helper()
	marks := filepath.Join(d.dir, name)
	var mainSteps []map[string]any
	for _, step := range order {
		mainSteps = append(mainSteps, map[string]any{"name": step, "action": "aws:runShellScript", "inputs": map[string]any{
			"runCommand": []string{fmt.Sprintf("echo $AWS_SSM_INSTANCE_ID %s >> %s", step, marks), steps[step]},
		}})
	}
	content, err := json.Marshal(map[string]any{"schemaVersion": "2.2", "description": name, "mainSteps": mainSteps})
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = d.client.CreateDocument(d.t.Context(), &ssm.CreateDocumentInput{
		Name: &name, DocumentType: types.DocumentTypeCommand, DocumentFormat: types.DocumentFormatJson, Content: aws.String(string(content)),
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return func(n *node, step string) int {
		data, _ := os.ReadFile(marks)
		return strings.Count(string(data), n.id+" "+step+"\n")
	}
}

// sendDocument runs a document on all members.
func (d *deadly) sendDocument(name string) (id string) {
	d.t.Helper()
	in := &ssm.SendCommandInput{DocumentName: &name}
	for _, n := range d.members {
		in.InstanceIds = append(in.InstanceIds, n.id)
	}
	out, err := d.client.SendCommand(d.t.Context(), in)
	if err != nil {
		d.t.Fatal(err)
	}
	d.unlisted++
	return *out.Command.CommandId
}

// atStep: the result of a step and the start of the next are one frame.
func (d *deadly) atStep() {
	d.t.Helper()
	runs := d.document("two-steps", nil, "first", "second")
	points := d.stages("step", "")
	id := d.sendDocument("two-steps")
	for n, p := range points {
		d.dead(n, p, true)
		d.start(n)
	}
	c := d.settled(id)
	for n, p := range points {
		if got := outcome(c.invocations[n.id]); got != ranWhole || runs(n, "first") != 1 || runs(n, "second") != 1 {
			d.t.Errorf("%s: %q, the steps ran %d and %d times", p, got, runs(n, "first"), runs(n, "second"))
		}
	}
}

// atReboot: the node dies while it notes that a step asks for a boot of its machine;
// then, of another command, while it notes that it tries to have one.
func (d *deadly) atReboot() {
	d.t.Helper()
	for round, what := range []string{"", "2"} {
		name := fmt.Sprintf("reboots-%d", round+1)
		runs := d.document(name, map[string]string{"kernel": "[ $MESHD_REBOOTS = 1 ] || exit 194"}, "before", "kernel", "after")
		points := d.stages("rebooting", what)
		id := d.sendDocument(name)
		for n, p := range points {
			d.dead(n, p, true)
			d.start(n)
		}
		for n := range points {
			d.comesBack(n, round+1)
		}
		c := d.settled(id)
		for n, p := range points {
			if got := outcome(c.invocations[n.id]); got != ranWhole || runs(n, "before") != 1 || runs(n, "kernel") != 2 || runs(n, "after") != 1 {
				d.t.Errorf("%s, %q: %q, the steps ran %d, %d and %d times", p, what, got, runs(n, "before"), runs(n, "kernel"), runs(n, "after"))
			}
			if got := boots(n); got != round+1 {
				d.t.Errorf("%s, %q: %d boots", p, what, got)
			}
		}
	}
}

// atCancel: the node dies while it notes the wish to cancel.
func (d *deadly) atCancel() {
	d.t.Helper()
	id := d.mustSend([]string{"sleep 600"}, d.members...)
	d.begun(id, d.members...)
	points := d.stages("cancelling", "")
	if _, err := d.client.CancelCommand(d.t.Context(), &ssm.CancelCommandInput{CommandId: &id}); err != nil {
		d.t.Fatal(err)
	}
	for n, p := range points {
		d.dead(n, p, true)
		d.start(n)
	}
	for n, p := range points {
		d.expect(string(p), id, n, wasCancel)
	}
}

// atExitAlone: the shim dies where it makes the end durable because no meshd does.
func (d *deadly) atExitAlone() {
	d.t.Helper()
	gate := filepath.Join(d.dir, "exit")
	points := map[*node]failpoint.Point{d.members[0]: failpoint.ExitUnsynced, d.members[1]: failpoint.ExitSynced}
	id := d.mustSend([]string{until(gate)}, d.members...)
	d.begun(id, d.members...)
	for n, p := range points {
		d.kill(n)
		d.arm(n, p, "")
	}
	d.touch(gate)
	for n, p := range points {
		d.dead(n, p, false)
		d.start(n)
	}
	for n, p := range points {
		d.expect(string(p), id, n, ranWhole)
	}
}

// atRecovery: the daemon dies a second time, where it goes on after its first
// death: with scripts that run, and with one that never started.
func (d *deadly) atRecovery() {
	d.t.Helper()
	again := func(id string, points map[*node]failpoint.Point) {
		for n, p := range points {
			d.arm(n, p, "")
			d.start(n)
		}
		for n, p := range points {
			d.dead(n, p, true)
			d.start(n)
		}
	}
	gate := filepath.Join(d.dir, "recovery")
	points := map[*node]failpoint.Point{d.members[0]: failpoint.WorkerOpened, d.members[1]: failpoint.WorkerRecovered, d.members[2]: failpoint.ResumeBegun}
	id := d.mustSend([]string{until(gate)}, d.members...)
	d.begun(id, d.members...)
	for n := range points {
		d.kill(n)
	}
	again(id, points)
	d.touch(gate)
	for n, p := range points {
		d.expect(string(p), id, n, ranWhole)
	}

	// What did not start is started at the second time, or the third.
	points = map[*node]failpoint.Point{d.members[0]: failpoint.ShimUnspawned, d.members[1]: failpoint.ShimSpawned, d.members[2]: failpoint.ShimOrdered}
	for n := range points {
		d.arm(n, failpoint.ShimSpawned, "")
	}
	id = d.mustSend(nil, d.members...)
	for n := range points {
		d.dead(n, failpoint.ShimSpawned, true)
	}
	again(id, points)
	for n, p := range points {
		d.expect(string(p)+", again", id, n, ranWhole)
	}

	victim := d.members[0]
	d.arm(victim, failpoint.ShimClaimed, "")
	d.arm(victim, failpoint.ResumeAbandoned, "")
	id = d.mustSend(nil, victim)
	d.dead(victim, failpoint.ShimClaimed, false)
	d.dead(victim, failpoint.ResumeAbandoned, true)
	d.start(victim)
	d.expect(string(failpoint.ResumeAbandoned), id, victim, interrupted)
}

// TestSlowShims: the daemon is killed and started again while its shims stand
// still. The shim that had not claimed its step finds it claimed by the next meshd's
// and starts nothing; one that had is waited for, and runs its script, once; and the
// third is told to cancel what it has not started yet.
func TestSlowShims(t *testing.T) {
	d := newDeadly(t)
	points := map[*node]failpoint.Point{
		d.members[0]: failpoint.ShimUnclaimed,
		d.members[1]: failpoint.ShimClaimed,
		d.members[2]: failpoint.ScriptUnstarted,
	}
	for n, p := range points {
		d.arm(n, p, "pause")
	}
	id := d.mustSend([]string{until(filepath.Join(d.dir, "gate.$AWS_SSM_INSTANCE_ID"))}, d.members...)
	d.touch(filepath.Join(d.dir, "gate."+d.members[1].id))
	for n, p := range points {
		d.await(n.name+" to stand still", func() error {
			if !d.hit(n, p) {
				return errors.New("it does not")
			}
			return nil
		})
		d.kill(n)
		d.start(n)
	}
	if _, err := d.client.CancelCommand(t.Context(), &ssm.CancelCommandInput{CommandId: &id, InstanceIds: []string{d.members[2].id}}); err != nil {
		t.Fatal(err)
	}
	d.begun(id, d.members[0])
	d.await("the last to be cancelled", func() error {
		data, err := os.ReadFile(filepath.Join(d.members[2].dir, "jobs", "journal"))
		if err == nil && !strings.Contains(string(data), `"k":"cancelling"`) {
			err = errors.New("the wish to cancel is not in the journal")
		}
		return err
	})
	for n, p := range points {
		os.Remove(filepath.Join(n.points(), string(p)+".hit"))
	}
	d.touch(filepath.Join(d.dir, "gate."+d.members[0].id))
	d.expect("claimed", id, d.members[1], ranWhole)
	d.expect("cancelled", id, d.members[2], wasCancel)
	d.expect("unclaimed", id, d.members[0], ranWhole)
	d.noLeaks()
	d.expect("unclaimed", id, d.members[0], ranWhole)
	d.prove()
}

// TestRandomFailpoints: leader and workers die at the same time, at points drawn
// at random, again while they recover, and while commands overlap.
func TestRandomFailpoints(t *testing.T) {
	d := newDeadly(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	byProcess := map[failpoint.Process][]failpoint.Point{}
	process := map[failpoint.Point]failpoint.Process{}
	for _, row := range failpoint.Table() {
		byProcess[row.Process] = append(byProcess[row.Process], row.Point)
		process[row.Point] = row.Process
	}
	draw := func(n *node, from ...failpoint.Process) {
		points := byProcess[from[random.IntN(len(from))]]
		d.arm(n, points[random.IntN(len(points))], "")
	}
	deaths := map[failpoint.Point]int{}
	for range 6 {
		draw(d.leader(), failpoint.Leader)
		for _, i := range random.Perm(len(d.members))[:2] {
			draw(d.members[i], failpoint.Daemon, failpoint.Shim)
		}
		sent := make(chan error, 3)
		ids := make(chan string, cap(sent))
		for range cap(sent) {
			go func() {
				id, err := d.sendScript(t.Context(), []string{"sleep 0.3"}, 3, d.nodes...)
				ids <- id
				sent <- err
			}()
		}
		shims := map[*node]bool{}
		// revive starts the dead, some of them to die at once.
		revive := func() {
			for _, n := range d.nodes {
				hits, _ := filepath.Glob(filepath.Join(n.points(), "*.hit"))
				for _, hit := range hits {
					p := failpoint.Point(strings.TrimSuffix(filepath.Base(hit), ".hit"))
					d.dead(n, p, process[p] != failpoint.Shim)
					deaths[p]++
					if process[p] == failpoint.Shim {
						shims[n] = true
						continue
					}
					if random.IntN(2) == 0 {
						draw(n, failpoint.Recovery)
					}
					d.start(n)
				}
			}
		}
		for open := cap(sent); open > 0; {
			select {
			case err := <-sent:
				if open--; err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			case <-time.After(20 * time.Millisecond):
				revive()
			}
		}
		for range cap(sent) {
			id := <-ids
			d.await("the end of "+id, func() error {
				revive()
				c, err := d.command(t.Context(), id)
				if err == nil && !slices.Contains(terminal, c.Status) {
					err = fmt.Errorf("it is %s: %s", c.Status, open(c))
				}
				return err
			})
			for _, n := range d.nodes {
				outcomes := []string{ranWhole}
				if shims[n] {
					outcomes = append(outcomes, neverRan, interrupted)
				}
				d.expect(fmt.Sprintf("seed %d", seed), id, n, outcomes...)
			}
		}
		for _, n := range d.nodes { // what nobody came by
			points, _ := filepath.Glob(filepath.Join(n.points(), "*"))
			for _, p := range points {
				if !strings.HasSuffix(p, ".hit") {
					os.Remove(p)
				}
			}
		}
		revive()
	}
	t.Logf("seed %d: died at %v", seed, deaths)
	if len(deaths) == 0 {
		t.Error("nothing died")
	}
	d.prove()
	d.oneCommandEach()
	d.noLeaks()
}
