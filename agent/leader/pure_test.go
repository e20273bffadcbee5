package leader

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func TestNamed(t *testing.T) {
	unsuccessful := func(id string) ([]string, error) {
		if id != "c-1" {
			return nil, errors.New("no such command")
		}
		return []string{"mi-1", "mi-3"}, nil
	}
	tags := types.Target{Key: aws.String("tag:role"), Values: []string{"web"}}
	again := types.Target{Key: aws.String(raftstore.TargetUnsuccessful), Values: []string{"c-1"}}
	input := &ssm.SendCommandInput{Targets: []types.Target{tags, again}}
	got, err := named(input, unsuccessful)
	if err != nil || *got.Targets[0].Key != "tag:role" || *got.Targets[1].Key != "InstanceIds" || !slices.Equal(got.Targets[1].Values, []string{"mi-1", "mi-3"}) {
		t.Errorf("%+v, %v", got.Targets, err)
	}
	if *input.Targets[1].Key != raftstore.TargetUnsuccessful {
		t.Error("the command's own input was changed")
	}
	again.Values = []string{"c-2"}
	if _, err := named(&ssm.SendCommandInput{Targets: []types.Target{again}}, unsuccessful); err == nil {
		t.Error("a command that cannot be read is no reason to run nowhere in silence")
	}
}

func TestResolve(t *testing.T) {
	nodes := []raftstore.Node{
		{ID: "mi-3", Name: "c", PlatformType: "Linux", Tags: map[string]string{"role": "db", "zone": "a"}},
		{ID: "mi-1", Name: "a", PlatformType: "Linux", Tags: map[string]string{"role": "web", "zone": "a"}},
		{ID: "mi-2", Name: "b", PlatformType: "Windows", Tags: map[string]string{"role": "web", "zone": "b"}},
	}
	target := func(key string, values ...string) types.Target { return types.Target{Key: &key, Values: values} }
	for _, c := range []struct {
		name      string
		input     ssm.SendCommandInput
		platforms []string
		want      string
	}{
		{"explicit", ssm.SendCommandInput{InstanceIds: []string{"mi-2", "mi-1"}}, nil, "mi-1 mi-2"},
		{"explicit, one removed since", ssm.SendCommandInput{InstanceIds: []string{"mi-9", "mi-1"}}, nil, "mi-1 mi-9(missing)"},
		{"explicit as a target, any case", ssm.SendCommandInput{Targets: []types.Target{target("instanceids", "mi-1", "mi-8")}}, nil, "mi-1 mi-8(missing)"},
		{"all", ssm.SendCommandInput{Targets: []types.Target{target("InstanceIds", "*")}}, nil, "mi-1 mi-2 mi-3"},
		{"values of a key by or", ssm.SendCommandInput{Targets: []types.Target{target("tag:role", "web", "db")}}, nil, "mi-1 mi-2 mi-3"},
		{"keys by and", ssm.SendCommandInput{Targets: []types.Target{target("tag:role", "web"), target("tag:zone", "a")}}, nil, "mi-1"},
		{"a tag and an id", ssm.SendCommandInput{Targets: []types.Target{target("tag:role", "web"), target("InstanceIds", "mi-1", "mi-3")}}, nil, "mi-1"},
		{"tag key", ssm.SendCommandInput{Targets: []types.Target{target("tag-key", "zone")}}, nil, "mi-1 mi-2 mi-3"},
		{"values keep their case", ssm.SendCommandInput{Targets: []types.Target{target("tag:role", "WEB")}}, nil, ""},
		{"no match", ssm.SendCommandInput{Targets: []types.Target{target("tag:none", "x")}}, nil, ""},
		{"unknown kind", ssm.SendCommandInput{Targets: []types.Target{target("resource-groups:Name", "x")}}, nil, ""},
		{"no targets", ssm.SendCommandInput{}, nil, ""},
		{"platform", ssm.SendCommandInput{Targets: []types.Target{target("tag:role", "web")}}, []string{"Linux", "MacOS"}, "mi-1 mi-2(misfit)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			input := c.input
			known := nodes
			if !byTags(&input) {
				known = slices.DeleteFunc(slices.Clone(nodes), func(n raftstore.Node) bool {
					return !slices.Contains(explicitIDs(&input), n.ID)
				})
			}
			var got []string
			for _, r := range resolve(known, &input, c.platforms) {
				s := r.nodeID
				if r.missing {
					s += "(missing)"
				}
				if r.misfit {
					s += "(misfit)"
				}
				got = append(got, s)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		spec                string
		total, conc, errors int
	}{
		{"", 10, 50, 0},
		{"1", 10, 1, 1},
		{"7", 10, 7, 7},
		{"0", 10, 1, 0},
		{"10%", 50, 5, 5},
		{"10%", 15, 1, 1},
		{"10%", 5, 1, 0}, // rounded down, and at least one runs
		{"0%", 50, 1, 0},
		{"100%", 7, 7, 7},
		{"50%", 0, 1, 0},
		{"101%", 7, 1, 0},
		{"-1", 7, 1, 0},
		{"x", 7, 1, 0},
		{"%", 7, 1, 0},
	} {
		spec := aws.String(c.spec)
		if got := maxConcurrency(spec, c.total); got != c.conc {
			t.Errorf("MaxConcurrency %q of %d is %d, want %d", c.spec, c.total, got, c.conc)
		}
		if got := maxErrors(spec, c.total); got != c.errors {
			t.Errorf("MaxErrors %q of %d is %d, want %d", c.spec, c.total, got, c.errors)
		}
	}
	if maxConcurrency(nil, 10) != 50 || maxErrors(nil, 10) != 0 {
		t.Error("the defaults are 50 and 0")
	}
}

func TestNextBatch(t *testing.T) {
	pending := []string{"a", "b", "c", "d"}
	for _, c := range []struct {
		name  string
		state raftstore.CommandState
		away  string
		want  string
	}{
		{"first batch", raftstore.CommandState{MaxConcurrency: 2}, "", "a b"},
		{"all", raftstore.CommandState{MaxConcurrency: 50}, "", "a b c d"},
		{"one place left", raftstore.CommandState{MaxConcurrency: 3, InFlight: 2}, "", "a"},
		{"full", raftstore.CommandState{MaxConcurrency: 2, InFlight: 2}, "", ""},
		{"more in flight than allowed", raftstore.CommandState{MaxConcurrency: 1, InFlight: 3}, "", ""},
		{"those away are passed over", raftstore.CommandState{MaxConcurrency: 2}, "a c", "b d"},
		{"as many errors as tolerated", raftstore.CommandState{MaxConcurrency: 2, MaxErrors: 3, ErrorCount: 3}, "", "a b"},
		{"one error more", raftstore.CommandState{MaxConcurrency: 2, MaxErrors: 3, ErrorCount: 4}, "", ""},
		{"stopped", raftstore.CommandState{MaxConcurrency: 2, MaxErrors: 3, Stopped: true}, "", ""},
		{"cancelling", raftstore.CommandState{MaxConcurrency: 2, Cancelling: true}, "", ""},
	} {
		got := strings.Join(nextBatch(c.state, pending, 4, func(id string) bool { return !strings.Contains(c.away, id) }), " ")
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRampUp(t *testing.T) {
	// Rounds in which each that is started reports before the next round.
	var rounds []int
	for started := 0; started < 100; {
		n := rampUp(started, started)
		rounds, started = append(rounds, n), started+n
	}
	if !slices.Equal(rounds, []int{1, 2, 4, 8, 16, 32, 64}) {
		t.Errorf("it grows by %v", rounds)
	}
	for _, c := range []struct{ started, heard, want int }{
		{0, 0, 1}, {1, 0, 0}, {1, 1, 2}, {3, 1, 0}, {3, 2, 2}, {7, 3, 0},
	} {
		if got := rampUp(c.started, c.heard); got != c.want {
			t.Errorf("%d started and %d heard of: %d more, want %d", c.started, c.heard, got, c.want)
		}
	}
	state := raftstore.CommandState{MaxConcurrency: 3, InFlight: 1}
	if got := nextBatch(state, []string{"a", "b", "c"}, 1, func(string) bool { return true }); len(got) != 1 {
		t.Errorf("started %v, at most 1 may", got)
	}
	if got := nextBatch(state, []string{"a", "b", "c"}, 9, func(string) bool { return true }); len(got) != 2 {
		t.Errorf("started %v, MaxConcurrency leaves room for 2", got)
	}
}

func TestFinalStatus(t *testing.T) {
	for _, c := range []struct {
		name            string
		endings         string
		maxErrors       int
		cancelling      bool
		status, details string
	}{
		{"nobody has the tag", "", 0, false, "Success", "NoInstancesInTag"},
		{"all well", "Success:3", 0, false, "Success", "Success"},
		{"one failure too many", "Success:2 Failed:1", 0, false, "Failed", "Failed"},
		{"stopped", "Success:2 Failed:2 Terminated:6", 1, false, "Failed", "Failed"},
		{"time-outs dominate", "Success:2 Failed:1 ExecutionTimedOut:2", 1, false, "TimedOut", "ExecutionTimedOut"},
		{"failures as many as time-outs", "Failed:2 ExecutionTimedOut:2", 1, false, "Failed", "Failed"},
		{"failures under the limit", "Success:8 Failed:2", 2, false, "Failed", "Incomplete"},
		{"not delivered, no error tolerated", "Success:8 DeliveryTimedOut:1", 0, false, "TimedOut", "DeliveryTimedOut"},
		{"as many not delivered as MaxErrors", "Success:8 DeliveryTimedOut:2", 2, false, "TimedOut", "DeliveryTimedOut"},
		{"fewer not delivered", "Success:8 DeliveryTimedOut:1", 2, false, "Failed", "Incomplete"},
		{"none could be reached", "Undeliverable:1 InvalidPlatform:2", 0, false, "Failed", "Failed"},
		{"four bad and one good", "Undeliverable:1 InvalidPlatform:2 AccessDenied:1 Success:1", 0, false, "Success", "Success"},
		{"cancelled", "Success:1 Cancelled:2", 0, true, "Cancelled", "Cancelled"},
		{"cancelled too late", "Success:3", 0, true, "Success", "Success"},
		{"each was cancelled", "Cancelled:3", 0, false, "Cancelled", "Cancelled"},
		{"some were cancelled", "Success:1 Cancelled:2", 0, false, "Failed", "Incomplete"},
		{"restored", "Terminated:2", 0, false, "Failed", "Incomplete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			state := raftstore.CommandState{MaxErrors: c.maxErrors, Cancelling: c.cancelling}
			endings := map[string]int{}
			for _, e := range strings.Fields(c.endings) {
				details, count, _ := strings.Cut(e, ":")
				n := int(count[0] - '0')
				endings[details] = n
				for range n {
					state.TargetCount++
					recount(&state, tally{}, tallyOf(&raftstore.Invocation{StatusDetails: details, FinishedAt: noon}))
				}
			}
			if status, details := finalStatus(state, endings); status != c.status || details != c.details {
				t.Errorf("got %s/%s, want %s/%s", status, details, c.status, c.details)
			}
		})
	}
}

func TestRunningStatus(t *testing.T) {
	for _, c := range []struct {
		state raftstore.CommandState
		want  string
	}{
		{raftstore.CommandState{TargetCount: 3}, "Pending"},
		{raftstore.CommandState{TargetCount: 3, InFlight: 1}, "InProgress"},
		{raftstore.CommandState{TargetCount: 3, CompletedCount: 1}, "InProgress"},
		{raftstore.CommandState{TargetCount: 3, InFlight: 1, Cancelling: true}, "Cancelling"},
		{raftstore.CommandState{TargetCount: 3, InFlight: 1, DelayedCount: 1}, "InProgress"},
		{raftstore.CommandState{TargetCount: 3, DelayedCount: 1}, "InProgress Delayed"},
		{raftstore.CommandState{TargetCount: 3, CompletedCount: 2, DelayedCount: 1}, "InProgress Delayed"},
		{raftstore.CommandState{TargetCount: 3, DelayedCount: 1, Cancelling: true}, "Cancelling"},
	} {
		status, details := runningStatus(c.state)
		want, wantDetails, _ := strings.Cut(c.want, " ")
		if wantDetails == "" {
			wantDetails = want
		}
		if status != want || details != wantDetails {
			t.Errorf("%+v is %s/%s, want %s/%s", c.state, status, details, want, wantDetails)
		}
	}
}

func TestApplyReport(t *testing.T) {
	flying := raftstore.Invocation{Status: "InProgress", StatusDetails: "InProgress", DispatchedAt: noon, Sequence: 3}
	cancelling := cancelledInFlight(flying)
	over := ended(flying, "TimedOut", "DeliveryTimedOut", "silence", noon)
	end := func(status, details string) peer.JobReport {
		return peer.JobReport{Sequence: 4, Status: status, StatusDetails: details, FinishedAt: noon}
	}
	for _, c := range []struct {
		name    string
		was     raftstore.Invocation
		report  peer.JobReport
		changed bool
		want    string // status/details
		reason  string // contained in Reason
	}{
		{"progress", flying, peer.JobReport{Sequence: 4, Status: "InProgress", StatusDetails: "InProgress"}, true, "InProgress/InProgress", ""},
		{"repeated", flying, peer.JobReport{Sequence: 3, Status: "Success", FinishedAt: noon}, false, "InProgress/InProgress", ""},
		{"older", flying, peer.JobReport{Sequence: 1, Status: "Success", FinishedAt: noon}, false, "InProgress/InProgress", ""},
		{"success", flying, end("Success", "Success"), true, "Success/Success", ""},
		{"a word of its own", flying, end("Success", "Splendid"), true, "Success/Success", ""},
		{"not a status", flying, end("Sleeping", "Success"), true, "Failed/Failed", ""},
		{"ended while in progress", flying, end("InProgress", "InProgress"), true, "Failed/Failed", ""},
		{"success without an end", flying, peer.JobReport{Sequence: 4, Status: "Success", StatusDetails: "Success"}, true, "InProgress/InProgress", ""},
		{"execution timed out", flying, end("TimedOut", "ExecutionTimedOut"), true, "TimedOut/ExecutionTimedOut", ""},
		{"not started in time", flying, end("TimedOut", "DeliveryTimedOut"), true, "TimedOut/DeliveryTimedOut", ""},
		{"a failure cannot hide", flying, end("Failed", "Undeliverable"), true, "Failed/Failed", ""},
		{"progress while cancelling", cancelling, peer.JobReport{Sequence: 4, Status: "InProgress"}, true, "Cancelling/Cancelling", ""},
		{"cancelled", cancelling, end("Cancelled", "Cancelled"), true, "Cancelled/Cancelled", ""},
		{"succeeded before the cancel came", cancelling, end("Success", "Success"), true, "Success/Success", ""},
		{"too late", over, end("Success", "Success"), true, "TimedOut/DeliveryTimedOut", "silence; the node reported later: Success"},
		{"late progress", over, peer.JobReport{Sequence: 4, Status: "InProgress"}, false, "TimedOut/DeliveryTimedOut", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			is, changed := applyReport(c.was, c.report, noon)
			if got := is.Status + "/" + is.StatusDetails; got != c.want || changed != c.changed || !strings.Contains(is.Reason, c.reason) {
				t.Errorf("got %s, changed %t, reason %q", got, changed, is.Reason)
			}
			if c.was.Terminal() && !is.FinishedAt.Equal(c.was.FinishedAt) {
				t.Error("the time of the end changed")
			}
			if again, changed := applyReport(is, c.report, noon); changed {
				t.Errorf("the same report again changes %+v", again)
			}
		})
	}
}

func cancelledInFlight(i raftstore.Invocation) raftstore.Invocation {
	is, _ := cancel(i, noon)
	return is
}

func TestReportsAreBounded(t *testing.T) {
	report := peer.JobReport{Sequence: 1, Status: "Success", Reason: strings.Repeat("r", 100_000), FinishedAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)}
	for n := range 1000 {
		report.Plugins = append(report.Plugins, raftstore.PluginResult{
			Name: fmt.Sprint(n), Stdout: strings.Repeat("ü", 30_000), Stderr: strings.Repeat("\x01", 30_000),
			StartedAt: time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
		})
	}
	is, _ := applyReport(raftstore.Invocation{CommandID: "c", NodeID: "n", DispatchedAt: noon}, report, noon)
	if !is.FinishedAt.Equal(noon) {
		t.Errorf("an impossible time was kept: %v", is.FinishedAt)
	}
	if out := is.Plugins[0].Stdout; len([]rune(out)) != maxStdout || !strings.HasSuffix(out, "ü--output truncated--") {
		t.Errorf("stdout has %d characters and ends %q", len([]rune(out)), out[len(out)-30:])
	}
	if out := fit(raftstore.Invocation{Plugins: is.Plugins[:10]}).Plugins[9].Stdout; !strings.HasSuffix(out, "ü--output truncated--") || len(out) >= len(is.Plugins[9].Stdout) {
		t.Errorf("stdout of one of ten steps has %d bytes and ends %q", len(out), out[len(out)-30:])
	}
	txn := invocationTxn(is)
	if size := sizeOf(txn); size > maxRecord+4096 {
		t.Errorf("the record takes %d bytes", size)
	}
	one := is
	one.Plugins = is.Plugins[:1]
	one.Plugins[0].Stderr = strings.Repeat("e", maxStderr)
	if got := fit(one); got.Plugins[0].Stdout != one.Plugins[0].Stdout {
		t.Error("the output of a single step was shortened")
	}
}

func TestCancel(t *testing.T) {
	pending := raftstore.Invocation{Status: "Pending", StatusDetails: "Pending"}
	flying := raftstore.Invocation{Status: "InProgress", StatusDetails: "InProgress", DispatchedAt: noon}
	over := ended(flying, "Success", "Success", "", noon)
	for _, c := range []struct {
		name    string
		was     raftstore.Invocation
		changed bool
		want    string
		over    bool
	}{
		{"not started", pending, true, "Cancelled", true},
		{"in flight", flying, true, "Cancelling", false},
		{"again", cancelledInFlight(flying), false, "Cancelling", false},
		{"ended", over, false, "Success", true},
	} {
		is, changed := cancel(c.was, noon)
		if is.Status != c.want || changed != c.changed || is.Terminal() != c.over {
			t.Errorf("%s: %+v, changed %t", c.name, is, changed)
		}
	}
	request := raftstore.CommandCancel{CommandID: "c", NodeIDs: []string{"a"}}
	if !wantsCancel(request, "a") || wantsCancel(request, "b") || wantsCancel(raftstore.CommandCancel{}, "a") {
		t.Error("a request names its nodes")
	}
	request.All = true
	if !wantsCancel(request, "b") {
		t.Error("all are all")
	}
}

func TestSettle(t *testing.T) {
	command := raftstore.Command{DeliverUntil: noon.Add(time.Minute), ExpiresAt: noon.Add(time.Hour), Epoch: 2}
	pending := raftstore.Invocation{Status: "Pending", StatusDetails: "Pending"}
	flying := raftstore.Invocation{Status: "InProgress", StatusDetails: "InProgress", DispatchedAt: noon}
	cancelling := cancelledInFlight(flying)
	stopped := raftstore.CommandState{Stopped: true}
	for _, c := range []struct {
		name  string
		was   raftstore.Invocation
		state raftstore.CommandState
		epoch uint64
		s     situation
		after time.Duration
		want  string // details, or "-" for unchanged
	}{
		{"waits", pending, raftstore.CommandState{}, 2, situation{}, 0, "-"},
		{"runs", flying, raftstore.CommandState{}, 2, situation{}, 0, "-"},
		{"restored, pending", pending, raftstore.CommandState{}, 3, situation{}, 0, "Terminated"},
		{"restored, running", flying, raftstore.CommandState{}, 3, situation{}, 0, "Terminated"},
		{"removed, pending", pending, raftstore.CommandState{}, 2, situation{removed: true}, 0, "Undeliverable"},
		{"removed, running", flying, raftstore.CommandState{}, 2, situation{removed: true}, 0, "Failed"},
		{"removed, not sent yet", flying, raftstore.CommandState{}, 2, situation{removed: true, unsent: true}, 0, "Undeliverable"},
		{"refused", flying, raftstore.CommandState{}, 2, situation{refused: "no"}, 0, "Failed"},
		{"refused as too late", flying, raftstore.CommandState{}, 2, situation{refused: "no", tooLate: true}, 0, "DeliveryTimedOut"},
		{"never started in time", pending, raftstore.CommandState{}, 2, situation{}, time.Minute, "DeliveryTimedOut"},
		{"just in time", pending, raftstore.CommandState{}, 2, situation{}, time.Minute - 1, "-"},
		{"running past the delivery deadline", flying, raftstore.CommandState{}, 2, situation{}, time.Minute, "-"},
		{"silent past the end", flying, raftstore.CommandState{}, 2, situation{}, time.Hour, "DeliveryTimedOut"},
		{"cancelling past the end", cancelling, raftstore.CommandState{}, 2, situation{}, time.Hour, "DeliveryTimedOut"},
		{"too many errors, pending", pending, stopped, 2, situation{}, 0, "Terminated"},
		{"too many errors, running", flying, stopped, 2, situation{}, 0, "-"},
		{"too many errors, not sent", flying, stopped, 2, situation{unsent: true}, 0, "Terminated"},
		{"cancelled, not sent", cancelling, raftstore.CommandState{}, 2, situation{unsent: true}, 0, "Cancelled"},
		{"cancelled, perhaps sent", cancelling, raftstore.CommandState{}, 2, situation{}, 0, "-"},
		{"not sent in time", flying, raftstore.CommandState{}, 2, situation{unsent: true}, time.Minute, "DeliveryTimedOut"},
		{"not sent, node gone", flying, raftstore.CommandState{}, 2, situation{unsent: true, tried: true}, 0, "Delayed"},
		{"not sent, node there", flying, raftstore.CommandState{}, 2, situation{unsent: true, tried: true, alive: true}, 0, "-"},
		{"not tried yet", flying, raftstore.CommandState{}, 2, situation{unsent: true}, 0, "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			is, changed := settle(c.was, command, c.state, c.epoch, c.s, noon.Add(c.after))
			if want := c.want; want == "-" && changed || want != "-" && (!changed || is.StatusDetails != want) {
				t.Errorf("got %s, changed %t, want %s", is.StatusDetails, changed, want)
			}
			if changed && c.want != "Delayed" && (!is.Terminal() || is.Reason == "") {
				t.Errorf("it ended without a reason: %+v", is)
			}
			if c.want == "Delayed" && is.InFlight() {
				t.Error("a recalled invocation still counts as in flight")
			}
		})
	}
}

func TestNextDeadline(t *testing.T) {
	command := raftstore.Command{DeliverUntil: noon.Add(time.Minute), ExpiresAt: noon.Add(time.Hour)}
	if got := nextDeadline(command, noon); !got.Equal(command.DeliverUntil) {
		t.Errorf("before the delivery deadline: %v", got)
	}
	if got := nextDeadline(command, noon.Add(time.Minute)); !got.Equal(command.ExpiresAt) {
		t.Errorf("after it: %v", got)
	}
}

func TestNextRotation(t *testing.T) {
	ring := raftstore.Keyring{Version: 1, Keys: []raftstore.GossipKey{{ID: "old"}, {ID: "spare"}}}
	phases := []rotation{}
	removed := 1
	for confirmed := false; ; confirmed = !confirmed {
		phase := nextRotation(ring, removed, confirmed)
		if !confirmed && phase != rotationNone && phase != rotationIntroduce {
			t.Fatalf("phase %d although not all have version %d", phase, ring.Version)
		}
		if phase == rotationNone {
			if confirmed {
				break
			}
			continue
		}
		before := ring
		ring = rotate(ring, phase, removed, raftstore.GossipKey{ID: "new"})
		phases = append(phases, phase)
		if ring.Version != before.Version+1 {
			t.Fatalf("version %d after %d", ring.Version, before.Version)
		}
		// Whoever still has the ring before must understand whoever has this one.
		if !slices.ContainsFunc(before.Keys, func(k raftstore.GossipKey) bool { return k.ID == ring.Keys[0].ID }) {
			t.Fatalf("phase %d encrypts with a key that the ring before lacks", phase)
		}
		if !slices.ContainsFunc(ring.Keys, func(k raftstore.GossipKey) bool { return k.ID == before.Keys[0].ID }) {
			t.Fatalf("phase %d cannot read the ring before", phase)
		}
	}
	if !slices.Equal(phases, []rotation{rotationIntroduce, rotationUse, rotationFinish}) {
		t.Errorf("phases %v", phases)
	}
	if len(ring.Keys) != 1 || ring.Keys[0].ID != "new" || ring.Rotating != "" || ring.CoversRemoved != 1 {
		t.Errorf("at rest: %+v", ring)
	}
	if nextRotation(raftstore.Keyring{}, 1, true) != rotationNone {
		t.Error("no keyring, no rotation")
	}
}

func TestBackoff(t *testing.T) {
	s := Settings{}.withDefaults()
	for tries := range 100 {
		for _, jitter := range []float64{0, 0.999} {
			if d := backoff(s, tries, jitter); d < s.RetryFirst/2 || d > s.RetryMost {
				t.Errorf("pause %v after %d failures", d, tries)
			}
		}
	}
}
