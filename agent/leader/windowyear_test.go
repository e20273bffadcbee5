package leader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

// windowYear is a year of maintenance windows on the model's store: leaders come and
// go, with clocks that differ by minutes, writes get lost or are done and not
// confirmed, and time jumps from event to event.
type windowYear struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	memory *memory

	leader *windows // nil while nobody leads
	skew   time.Duration
	// revive is when the next leader comes.
	revive time.Time
	// dieAfterClaim: the leader is killed when its next claim is committed.
	dieAfterClaim bool
	// deaths counts the leaders that were killed between a claim and what follows.
	deaths int
	// rivals counts the leaders that came between a decision and its commit.
	rivals int
	// ends is when commands end.
	ends map[string]time.Time
	// written counts how often claims and commands were written.
	written map[string]int
}

var errKilled = errors.New("killed")

// killable is a leader's store that can end with a commit.
type killable struct {
	*replica
	year *windowYear
}

func (k killable) Apply(ctx context.Context, t raftstore.Txn) (uint64, error) {
	if k.year.rng.IntN(100) < 5 {
		// Another leads for a moment and works, and this one leads again before it has
		// noticed: what it decided comes late.
		k.year.rivals++
		rival := k.year.newLeader(&replica{memory: k.memory, term: k.memory.term}, 0)
		if _, err := rival.work(ctx); err != nil {
			k.year.t.Fatal(err)
		}
	}
	index, err := k.replica.Apply(ctx, t)
	if k.year.dieAfterClaim && err == nil && slices.ContainsFunc(t.Ops, func(op raftstore.Op) bool { return strings.HasPrefix(op.Key, "window-claim/") }) {
		k.year.dieAfterClaim = false
		k.year.deaths++
		return 0, errKilled
	}
	return index, err
}

// lead begins a term.
func (y *windowYear) lead() {
	y.memory.term++
	if y.rng.IntN(2) == 0 {
		y.memory.settleLate()
	} else {
		y.memory.late = nil
	}
	y.skew = time.Duration(y.rng.Int64N(int64(4*time.Minute))) - 2*time.Minute
	r := &replica{memory: y.memory, term: y.memory.term, depose: func() { y.memory.term++ }, fault: func() writeFault {
		if y.rng.IntN(100) < 5 {
			return writeFault(1 + y.rng.IntN(int(writeLostRegained)-1))
		}
		return writeFine
	}}
	y.leader = y.newLeader(killable{r, y}, y.skew)
}

// newLeader is a leader whose clock is wrong by skew.
func (y *windowYear) newLeader(store Records, skew time.Duration) *windows {
	w := newWindows(Config{
		Store: recordsOnly{Records: store}, Now: func() time.Time { return y.now.Add(skew) }, Log: slog.New(slog.DiscardHandler),
		Compose: func(_ raftstore.Reader, in *ssm.SendCommandInput, id, caller string, now time.Time) (raftstore.Command, raftstore.CommandState, string, error) {
			body, err := awsjson.Marshal(in)
			return raftstore.Command{ID: id, Input: body, Caller: caller, RequestedAt: now}, raftstore.CommandState{ID: id, Status: "Pending"}, "", err
		},
	})
	w.unknownPause = 0
	return w
}

// turn lets the leader work, and returns when something happens next.
func (y *windowYear) turn() time.Time {
	next := y.now.Add(24 * time.Hour)
	soon := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if y.leader == nil && !y.now.Before(y.revive) {
		y.lead()
	}
	if y.leader != nil {
		at, err := y.leader.work(context.Background())
		switch {
		case err == nil:
			if !at.IsZero() {
				soon(at.Add(-y.skew))
			}
		case errors.Is(err, raftstore.ErrNotLeader), errors.Is(err, errKilled), errors.Is(err, raftstore.ErrUnknownOutcome):
			y.kill(time.Duration(1+y.rng.IntN(20)) * time.Second)
		default:
			y.t.Fatal(err)
		}
	}
	if y.leader == nil {
		soon(y.revive)
	}
	for _, id := range raftstore.ActiveCommands(y.memory) {
		if y.ends[id].IsZero() {
			y.ends[id] = y.now.Add(time.Second + time.Duration(y.rng.Int64N(int64(10*time.Minute))))
		}
		soon(y.ends[id])
	}
	return next
}

func (y *windowYear) kill(absence time.Duration) {
	y.leader, y.revive = nil, y.now.Add(absence)
}

// endCommands ends those whose time has come, as the dispatcher would.
func (y *windowYear) endCommands() {
	for _, id := range raftstore.ActiveCommands(y.memory) {
		if y.ends[id].IsZero() || y.ends[id].After(y.now) {
			continue
		}
		state, err := raftstore.GetCommandState(y.memory, id)
		if err != nil {
			y.t.Fatal(err)
		}
		state.Status, state.StatusDetails, state.FinishedAt = "Success", "Success", y.now
		var txn raftstore.Txn
		txn.PutCommandState(state)
		y.memory.must(txn)
	}
}

func putWindow(txn *raftstore.Txn, w raftstore.Window, tasks ...string) {
	txn.PutWindow(w)
	txn.PutWindowState(raftstore.WindowState{WindowID: w.ID, HandledUntil: w.CreatedAt, Epoch: 1})
	txn.PutWindowTarget(raftstore.WindowTarget{WindowID: w.ID, ID: "t-" + w.ID, Definition: json.RawMessage(`{"ResourceType":"INSTANCE","Targets":[{"Key":"tag:role","Values":["web"]}]}`)})
	for n, task := range tasks {
		txn.PutWindowTask(raftstore.WindowTask{WindowID: w.ID, ID: fmt.Sprintf("task-%d-%s", n, w.ID), Definition: json.RawMessage(task)})
	}
}

const (
	firstTask  = `{"TaskArn":"AWS-RunShellScript","TaskType":"RUN_COMMAND","Priority":1,"MaxConcurrency":"1","MaxErrors":"0","Targets":[{"Key":"WindowTargetIds","Values":["t-%s"]}]}`
	secondTask = `{"TaskArn":"AWS-RunShellScript","TaskType":"RUN_COMMAND","Priority":2,"MaxConcurrency":"1","MaxErrors":"0","Targets":[{"Key":"WindowTargetIds","Values":["t-%s"]}]}`
)

// TestAYearOfWindows: the leader is killed before every tenth opening and, at others,
// between claim and start. Each opening is executed, once and wholly, and nothing else
// is.
func TestAYearOfWindows(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	end := began.AddDate(1, 0, 0)
	y := &windowYear{t: t, rng: rand.New(rand.NewPCG(6, 9)), now: began, memory: newMemory(), ends: map[string]time.Time{}, written: map[string]int{}}
	y.memory.changed = func(keys []string) {
		for _, key := range keys {
			if strings.HasPrefix(key, "window-claim/") || strings.HasPrefix(key, "command/") {
				if y.written[key]++; y.written[key] == 2 {
					t.Errorf("%s: %s was written twice", y.now, key)
				}
			}
		}
	}
	var birth raftstore.Txn
	birth.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	expected := map[string]map[int64]bool{}
	var openings []time.Time
	for n, s := range []struct{ schedule, zone string }{
		{"cron(30 2 * * ? *)", "Europe/Berlin"}, {"cron(0 2 ? * * *)", "America/New_York"}, {"cron(15 1 ? * SUN *)", "Australia/Lord_Howe"},
		{"cron(0 4 ? * SUN#1 *)", ""}, {"cron(0 23 ? * MON,THU *)", "Asia/Kolkata"}, {"rate(29 hours)", ""}, {"cron(0 0 L * ? *)", "Pacific/Apia"}, {"at(2027-05-05T05:05:05)", ""},
	} {
		w := raftstore.Window{
			ID: fmt.Sprintf("mw-%017d", n), Name: "w", Schedule: s.schedule, ScheduleTimezone: s.zone, Duration: 3, Cutoff: 1, Enabled: true,
			CreatedAt: began, ScheduledAt: began, OpensAfter: began,
		}
		putWindow(&birth, w, fmt.Sprintf(firstTask, w.ID), fmt.Sprintf(secondTask, w.ID))
		timetable, err := w.Timetable()
		if err != nil {
			t.Fatal(err)
		}
		expected[w.ID] = map[int64]bool{}
		for at := range timetable.Between(began.Add(time.Second), end) {
			expected[w.ID][at.Unix()] = true
			openings = append(openings, at)
		}
	}
	y.memory.must(birth)
	slices.SortFunc(openings, time.Time.Compare)
	y.lead()
	n := 0
	for y.now.Before(end.Add(6 * time.Hour)) {
		y.endCommands()
		next := y.turn()
		if n < len(openings) {
			switch moment := openings[n].Add(-time.Second); {
			case n%10 == 9 && !y.now.Before(moment):
				y.kill(time.Duration(1+y.rng.IntN(90)) * time.Second)
				n++
			case !y.now.Before(moment):
				y.dieAfterClaim = y.dieAfterClaim || n%10 == 4
				n++
			case moment.Before(next):
				next = moment
			}
		}
		y.now = later(next, y.now.Add(time.Millisecond))
		if y.now.After(end.Add(-4*time.Minute)) && y.now.Before(end.Add(3*time.Hour)) {
			// What is expected ends here, and the clocks of leaders differ.
			y.leader, y.revive = nil, end.Add(6*time.Hour)
			y.now = end.Add(3 * time.Hour)
			break
		}
	}
	y.prove(expected, end)
	t.Logf("%d openings, %d terms, %d leaders killed between claim and start, %d decisions that came late, %d commits", len(openings), y.memory.term, y.deaths, y.rivals, y.memory.index)
	if y.deaths < len(openings)/20 {
		t.Errorf("only %d leaders died between claim and start", y.deaths)
	}
}

// prove compares what was executed with what was expected, but for the last minutes.
func (y *windowYear) prove(expected map[string]map[int64]bool, end time.Time) {
	horizon := end.Add(-30 * time.Minute).Unix()
	commands := map[string]int{}
	raftstore.ScanCommands(y.memory, "", func(_, id string) bool {
		command, err := raftstore.GetCommand(y.memory, id)
		if err != nil {
			y.t.Fatal(err)
		}
		commands[command.Caller]++
		return true
	})
	for window, want := range expected {
		fired := map[int64]bool{}
		invocations := 0
		err := raftstore.ScanWindowExecutions(y.memory, window, "", func(_, id string) bool {
			x, err := raftstore.GetWindowExecution(y.memory, id)
			if err != nil {
				y.t.Fatal(err)
			}
			at := x.ScheduledAt.Unix()
			if fired[at] || !want[at] {
				y.t.Errorf("%s: %s was executed and not expected, or twice: %+v", window, x.ScheduledAt, x)
			}
			fired[at] = true
			if at < horizon && (x.Status != windowSuccess || x.Missed) {
				y.t.Errorf("%s: %+v", window, x)
			}
			v, err := lookAtExecution(y.memory, id)
			if err != nil {
				y.t.Fatal(err)
			}
			for n, task := range v.plan.Tasks {
				invocations += len(v.invocations[task.ID])
				if at < horizon && (len(v.invocations[task.ID]) != 1 || v.tasks[task.ID].Status != windowSuccess) {
					y.t.Errorf("%s: task %d of %+v: %+v", window, n, x, v.tasks[task.ID])
				}
			}
			return true
		})
		if err != nil {
			y.t.Fatal(err)
		}
		for at := range want {
			if !fired[at] && at < horizon {
				y.t.Errorf("%s: %s was missed", window, time.Unix(at, 0).UTC())
			}
		}
		if n := commands["maintenance-window/"+window]; n != invocations {
			y.t.Errorf("%s: %d commands for %d invocations", window, n, invocations)
		}
	}
}

// An execution that cannot be read, such as one that a newer version wrote, keeps no
// other from going on.
func TestAnUnreadableExecutionIsLeftAlone(t *testing.T) {
	began := windowDay.Add(-time.Hour)
	y := &windowYear{t: t, rng: rand.New(rand.NewPCG(1, 1)), now: windowDay, memory: newMemory(), ends: map[string]time.Time{}}
	w := raftstore.Window{ID: "mw-1", Schedule: "cron(0 2 * * ? *)", Duration: 3, Enabled: true, CreatedAt: began, ScheduledAt: began, OpensAfter: began}
	var birth raftstore.Txn
	birth.PutMesh(raftstore.Mesh{ID: "mesh", Epoch: 1})
	putWindow(&birth, w, fmt.Sprintf(firstTask, w.ID))
	birth.ClaimOpening(raftstore.WindowExecution{ID: "0", WindowID: "mw-0", Status: windowInProgress, Epoch: 1}) // without its plan
	y.memory.must(birth)
	leader := y.newLeader(&replica{memory: y.memory}, 0)
	if _, err := leader.work(t.Context()); err != nil {
		t.Fatal(err)
	}
	if commands := raftstore.ActiveCommands(y.memory); len(commands) != 1 {
		t.Errorf("%d commands of the other window, want 1", len(commands))
	}
}
