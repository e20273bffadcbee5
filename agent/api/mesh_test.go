package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/agent/meshapi"
	"fleetmesh/agent/peer"
	"fleetmesh/raftstore"
)

func TestStatusAndMembers(t *testing.T) {
	b := newBed(t)
	for _, url := range []string{b.leaderURL, b.memberURL} {
		status, err := b.mesh(url).Status(t.Context(), &meshapi.StatusInput{})
		if err != nil {
			t.Fatal(err)
		}
		if status.MeshId != b.meshID || status.Name != "test" || status.Leader != leaderID || status.Term == 0 || status.Source != "store" || status.AnsweredBy != leaderID ||
			!slices.Equal(status.Voters, []string{leaderID}) || len(status.StandBys) != 0 || status.FailureTolerance != 0 || status.Nodes.Online != 1 || status.Nodes.ConnectionLost != 1 ||
			len(status.Advice) == 0 {
			t.Errorf("status %+v", status)
		}
	}
	// Members are each node's own view; the leader only says who may ask.
	for url, id := range map[string]string{b.leaderURL: leaderID, b.memberURL: memberID} {
		for _, test := range []struct {
			in   meshapi.MembersInput
			want int
		}{
			{meshapi.MembersInput{}, 2}, {meshapi.MembersInput{TagKey: "role"}, 1}, {meshapi.MembersInput{TagKey: "role", TagValue: "web"}, 1}, {meshapi.MembersInput{TagKey: "role", TagValue: "db"}, 0},
		} {
			out, err := b.mesh(url).Members(t.Context(), &test.in)
			if err != nil || out.AnsweredBy != id || len(out.Members) != test.want {
				t.Errorf("%+v through %s: %+v, %v", test.in, id, out, err)
			}
		}
	}
	_, err := b.mesh(b.memberURL).Members(t.Context(), &meshapi.MembersInput{TagValue: "x"})
	wantCode(t, err, "ValidationException", "TagKey")
	r := b.request(b.memberURL, "Mesh.Members", `{}`, time.Now(), nil)
	r.Header.Del("Authorization")
	if got := b.do(r); got.Type != "MissingAuthenticationTokenException" {
		t.Errorf("unsigned: %s", got.Type)
	}
}

func TestAdvice(t *testing.T) {
	nodes := func(alive string) (out []nodeHealth) {
		for i, c := range alive {
			out = append(out, nodeHealth{name: fmt.Sprint("n", i), alive: c == '+'})
		}
		return out
	}
	for _, test := range []struct {
		name      string
		h         health
		tolerance int
		says      []string // one per piece of advice
	}{
		{"well", health{leading: true, voters: nodes("+++")}, 1, nil},
		{"well with five", health{leading: true, voters: nodes("+++++"), standBys: nodes("+"), others: 3}, 2, nil},
		{"alone", health{leading: true, voters: nodes("+")}, 0, []string{"this one node"}},
		{"two", health{leading: true, voters: nodes("+"), standBys: nodes("+")}, 0, []string{"another machine"}},
		{"growing", health{leading: true, voters: nodes("+"), standBys: nodes("+"), others: 1, eligible: 1}, 0, nil},
		{"members only", health{leading: true, voters: nodes("+"), others: 4}, 0, []string{"another machine"}},
		{"a voter is down", health{leading: true, voters: nodes("++-")}, 0, []string{"1 voter has ceased to answer: n2", "stops all writes"}},
		{"one of five is down", health{leading: true, voters: nodes("++++-")}, 1, []string{"n4"}},
		{"a stand-by is down", health{leading: true, voters: nodes("+++"), standBys: nodes("-")}, 1, []string{"1 stand-by does not answer: n0"}},
		{"members are lost", health{leading: true, voters: nodes("+++"), others: 5, lostMembers: 2}, 1, []string{"2 members do not answer"}},
		{"a clock is wrong", health{leading: true, voters: nodes("+++"), clocks: []wrongClock{{"n1", -time.Hour}}}, 1, []string{"1 clock is wrong, compared with the mesh's: n1 is 1h0m0s behind."}},
		{"the voters' clocks differ", health{leading: true, voters: nodes("+++"), undecided: true, clocks: make([]wrongClock, maxNamed+2)}, 1, []string{"no majority", "and 2 more"}},
		{"no majority", health{voters: nodes("+--")}, 0, []string{"1 of 3 voters answer and 2 are needed. Bring back n1, n2."}},
		{"no leader yet", health{voters: nodes("+++")}, 1, []string{"enough voters answer"}},
		{"nothing known", health{}, 0, []string{"knows no voter"}},
	} {
		got := test.h.advice()
		if test.h.leading && test.h.tolerance() != test.tolerance {
			t.Errorf("%s: tolerance %d, want %d", test.name, test.h.tolerance(), test.tolerance)
		}
		if len(got) != len(test.says) {
			t.Errorf("%s: %q", test.name, got)
			continue
		}
		for i, says := range test.says {
			if !strings.Contains(got[i], says) {
				t.Errorf("%s: %q does not say %q", test.name, got[i], says)
			}
		}
	}
}

func TestWatchCommand(t *testing.T) {
	b := newBed(t)
	id := *send(t, b.ssm(b.memberURL), ssm.SendCommandInput{InstanceIds: []string{memberID, leaderID}}).CommandId
	m := b.mesh(b.memberURL)
	first, err := m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id})
	if err != nil || first.Status != "Pending" || first.TargetCount != 2 || first.Done || first.Index == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	// Nothing new: it waits, and says so when the time is over.
	idle, err := m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id, AfterIndex: first.Index, WaitSeconds: 1})
	if err != nil || len(idle.Invocations) != 0 || idle.Index < first.Index {
		t.Errorf("idle: %+v, %v", idle, err)
	}
	type answer struct {
		out *meshapi.WatchCommandOutput
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id, AfterIndex: first.Index, WaitSeconds: 20})
		answers <- answer{out, err}
	}()
	b.finish(id, "InProgress", "InProgress", ended(memberID, "Failed", "Failed", "", "\noops\nmore", 5), raftstore.Invocation{NodeID: leaderID, Status: "InProgress", StatusDetails: "InProgress"})
	got := <-answers
	if got.err != nil || len(got.out.Invocations) != 2 || got.out.Done || got.out.More {
		t.Fatalf("%+v, %v", got.out, got.err)
	}
	for _, i := range got.out.Invocations {
		if i.InstanceId == memberID && (i.ResponseCode != 5 || i.FirstLine != "oops" || i.Status != "Failed" || i.FinishedAt == nil) || i.InstanceId == leaderID && i.ResponseCode != -1 {
			t.Errorf("invocation %+v", i)
		}
	}
	b.finish(id, "Failed", "Failed", ended(leaderID, "Success", "Success", "fine\r\n", "", 0), ended(memberID, "Failed", "Failed", "", "oops", 5))
	last, err := m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id, AfterIndex: got.out.Index, WaitSeconds: 20})
	if err != nil || !last.Done || len(last.Invocations) != 2 || last.Invocations[0].FirstLine != "fine" {
		t.Errorf("%+v, %v", last, err)
	}
	_, err = m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: "none"})
	wantCode(t, err, "InvalidCommandId", "")
	_, err = m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id, WaitSeconds: 21})
	wantCode(t, err, "ValidationException", "0 to 20")
}

// TestWatchTellsTheEndAtOnce: only what is not the end waits for more to come.
func TestWatchTellsTheEndAtOnce(t *testing.T) {
	b := newBed(t)
	b.leader.watchPause = time.Hour
	looked := make(chan struct{}, 100)
	b.wrap = func(s Store) Store { return lookedAt{s, looked} }
	id := *send(t, b.ssm(b.memberURL), ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId
	m := b.mesh(b.memberURL)
	first, err := m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id})
	if err != nil {
		t.Fatal(err)
	}
	for len(looked) > 0 {
		<-looked
	}
	done := make(chan error, 1)
	go func() {
		out, err := m.WatchCommand(t.Context(), &meshapi.WatchCommandInput{CommandId: id, AfterIndex: first.Index, WaitSeconds: 20})
		if err == nil && !out.Done {
			err = fmt.Errorf("the command is not done: %+v", out)
		}
		done <- err
	}()
	for range 2 { // the request is checked, then the command is looked at
		<-looked
	}
	b.finish(id, "InProgress", "InProgress", raftstore.Invocation{NodeID: memberID, Status: "InProgress", StatusDetails: "InProgress"})
	b.finish(id, "Success", "Success", ended(memberID, "Success", "Success", "fine", "", 0))
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lookedAt tells when a moment of the store has been looked at.
type lookedAt struct {
	Store
	looked chan<- struct{}
}

func (s lookedAt) ConfirmedView(ctx context.Context, fn func(raftstore.Reader) error) error {
	err := s.Store.ConfirmedView(ctx, fn)
	s.looked <- struct{}{}
	return err
}

func TestCutChanges(t *testing.T) {
	changes := func(indexes ...uint64) (out []changedKey) {
		for i, index := range indexes {
			out = append(out, changedKey{nodeID: nodeID(i), index: index})
		}
		return out
	}
	for _, test := range []struct {
		in   []changedKey
		size int
		upTo uint64
		more bool
	}{
		{nil, 0, 0, false}, {changes(3, 1, 2), 3, 0, false}, {changes(4, 3, 2, 1), 3, 3, true}, {changes(1, 5, 5, 5, 5), 5, 5, false}, {changes(1, 2, 3, 3, 4), 4, 3, true},
	} {
		page, upTo, more := cutChanges(test.in, 3)
		if len(page) != test.size || more != test.more || more && upTo != test.upTo || !slices.IsSortedFunc(page, func(a, b changedKey) int { return int(a.index) - int(b.index) }) {
			t.Errorf("%v: %v, %d, %v", test.in, page, upTo, more)
		}
	}
}

func TestReadOutput(t *testing.T) {
	b := newBed(t)
	id := *send(t, b.ssm(b.memberURL), ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId
	m := b.mesh(b.memberURL)
	read := func(in meshapi.ReadOutputInput) (*meshapi.ReadOutputOutput, error) {
		in.CommandId = id
		if in.InstanceId == "" {
			in.InstanceId = memberID
		}
		return m.ReadOutput(t.Context(), &in)
	}
	out, err := read(meshapi.ReadOutputInput{Offset: 7})
	if err != nil || len(out.Data) != 0 || out.NextOffset != 7 || out.Ended {
		t.Errorf("before it began: %+v, %v", out, err)
	}
	b.mu.Lock()
	b.output = func(to peer.Target, in *peer.OutputRequest) (*peer.OutputResponse, error) {
		if to.NodeID != memberID || to.Address != "127.0.0.2:7947" || in.CommandID != id || in.Plugin != "aws:runShellScript" || in.Term == 0 || in.Epoch != 1 || in.Limit != 256<<10 {
			t.Errorf("asked %+v for %+v", to, in)
		}
		return &peer.OutputResponse{Data: []byte("data"), Size: 100, Ended: in.Stderr}, nil
	}
	b.mu.Unlock()
	type answer struct {
		out *meshapi.ReadOutputOutput
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := read(meshapi.ReadOutputInput{Wait: true})
		answers <- answer{out, err}
	}()
	b.finish(id, "InProgress", "InProgress", raftstore.Invocation{NodeID: memberID, Status: "InProgress", StatusDetails: "InProgress", DispatchedAt: time.Now()})
	if got := <-answers; got.err != nil || string(got.out.Data) != "data" || got.out.NextOffset != 4 || got.out.Ended {
		t.Errorf("%+v, %v", got.out, got.err)
	}
	if out, err := read(meshapi.ReadOutputInput{Stderr: true, Offset: 96, PluginName: "aws:runShellScript"}); err != nil || out.NextOffset != 100 || !out.Ended {
		t.Errorf("%+v, %v", out, err)
	}
	for _, test := range []struct {
		in   meshapi.ReadOutputInput
		err  error
		code string
	}{
		{meshapi.ReadOutputInput{Offset: -1}, nil, "ValidationException"}, {meshapi.ReadOutputInput{PluginName: "x"}, nil, "InvalidPluginName"},
		{meshapi.ReadOutputInput{InstanceId: leaderID}, nil, "InvocationDoesNotExist"},
		{meshapi.ReadOutputInput{}, errors.New("no route"), "TargetNotConnected"},
		{meshapi.ReadOutputInput{}, &peer.Refusal{Kind: peer.RefusedInput, Message: "gone"}, "ValidationException"},
		{meshapi.ReadOutputInput{}, &peer.Refusal{Kind: peer.RefusedInternal, Message: "fault"}, "TargetNotConnected"},
		{meshapi.ReadOutputInput{}, &peer.Refusal{Kind: peer.RefusedStaleTerm, Message: "old"}, "ServiceUnavailable"},
	} {
		b.mu.Lock()
		b.output = func(peer.Target, *peer.OutputRequest) (*peer.OutputResponse, error) { return nil, test.err }
		b.mu.Unlock()
		_, err := read(test.in)
		wantCode(t, err, test.code, "")
	}
	// It ended without having begun: there is nothing, and nothing will come.
	never := *send(t, b.ssm(b.memberURL), ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId
	b.finish(never, "Failed", "Incomplete", raftstore.Invocation{NodeID: memberID, Status: "Failed", StatusDetails: "Terminated", FinishedAt: time.Now()})
	if out, err := m.ReadOutput(t.Context(), &meshapi.ReadOutputInput{CommandId: never, InstanceId: memberID, Wait: true}); err != nil || !out.Ended {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestKeyring(t *testing.T) {
	b := newBed(t)
	m := b.mesh(b.memberURL)
	act := func(action, id string) (string, error) {
		out, err := m.Keyring(t.Context(), &meshapi.KeyringInput{Action: action, KeyId: id})
		if err != nil {
			return "", err
		}
		var ids []string
		for i, k := range out.Keys {
			if k.Primary != (i == 0) {
				t.Errorf("keys %+v", out.Keys)
			}
			ids = append(ids, k.KeyId)
		}
		return fmt.Sprint(out.Version, " ", strings.Join(ids, " ")), nil
	}
	const old = "0123456789abcdef"
	if got, err := act("list", ""); err != nil || got != "1 "+old {
		t.Errorf("%q, %v", got, err)
	}
	added, err := act("add", "")
	if err != nil {
		t.Fatal(err)
	}
	fresh := strings.Fields(added)[2]
	for _, step := range []struct{ action, id, want string }{
		{"list", "", "2 " + old + " " + fresh}, {"use", fresh, "3 " + fresh + " " + old}, {"use", fresh, "3 " + fresh + " " + old}, {"remove", old, "4 " + fresh},
	} {
		if got, err := act(step.action, step.id); err != nil || got != step.want {
			t.Errorf("%s %s: %q, %v, want %q", step.action, step.id, got, err, step.want)
		}
	}
	for _, step := range []struct{ action, id string }{{"remove", fresh}, {"remove", "x"}, {"use", "x"}, {"add", "x"}, {"list", "x"}, {"rotate", ""}} {
		_, err := act(step.action, step.id)
		wantCode(t, err, "ValidationException", "")
	}
	for range maxGossipKeys - 1 {
		if _, err := act("add", ""); err != nil {
			t.Fatal(err)
		}
	}
	_, err = act("add", "")
	wantCode(t, err, "ValidationException", "at most 8")
}

// TestLocalSocketOfAMember: root of a member reads members, nodes and status, acts
// on its own node, and does nothing else, whatever it sends.
func TestLocalSocketOfAMember(t *testing.T) {
	b := newBed(t)
	c, m := b.socket(b.member)
	if _, err := m.Status(t.Context(), &meshapi.StatusInput{}); err != nil {
		t.Error(err)
	}
	if out, err := m.Members(t.Context(), &meshapi.MembersInput{}); err != nil || out.AnsweredBy != memberID {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := c.DescribeInstanceInformation(t.Context(), &ssm.DescribeInstanceInformationInput{}); err != nil || len(out.InstanceInformationList) != 2 {
		t.Errorf("%+v, %v", out, err)
	}
	own := *send(t, c, ssm.SendCommandInput{InstanceIds: []string{memberID}}).CommandId
	b.read(func(r raftstore.Reader) error {
		command, err := raftstore.GetCommand(r, own)
		if command.Caller != "root@"+memberID {
			t.Errorf("caller %q", command.Caller)
		}
		return err
	})
	admin := b.ssm(b.leaderURL)
	other := *send(t, admin, ssm.SendCommandInput{InstanceIds: []string{leaderID}}).CommandId
	both := *send(t, admin, ssm.SendCommandInput{InstanceIds: []string{leaderID, memberID}}).CommandId
	tagged := *send(t, admin, ssm.SendCommandInput{Targets: []types.Target{{Key: aws.String("tag:role"), Values: []string{"web"}}}}).CommandId
	me, leader := aws.String(memberID), aws.String(leaderID)
	ctx := t.Context()

	allowed := map[string]func() error{
		"list its commands":    func() error { _, err := c.ListCommands(ctx, &ssm.ListCommandsInput{InstanceId: me}); return err },
		"list its own command": func() error { _, err := c.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: &own}); return err },
		"list its part of a command": func() error {
			_, err := c.ListCommandInvocations(ctx, &ssm.ListCommandInvocationsInput{CommandId: &both, InstanceId: me})
			return err
		},
		"list its invocations": func() error {
			_, err := c.ListCommandInvocations(ctx, &ssm.ListCommandInvocationsInput{InstanceId: me})
			return err
		},
		"get its invocation": func() error {
			_, err := c.GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{CommandId: &both, InstanceId: me})
			return err
		},
		"watch its command": func() error {
			_, err := m.WatchCommand(ctx, &meshapi.WatchCommandInput{CommandId: own})
			return err
		},
		"read its output": func() error {
			_, err := m.ReadOutput(ctx, &meshapi.ReadOutputInput{CommandId: own, InstanceId: memberID})
			return err
		},
		"cancel its command": func() error { _, err := c.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: &own}); return err },
		"cancel its part of a command": func() error {
			_, err := c.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: &both, InstanceIds: []string{memberID}})
			return err
		},
	}
	denied := map[string]func() error{
		"run elsewhere": func() error {
			_, err := c.SendCommand(ctx, &ssm.SendCommandInput{DocumentName: aws.String(shellDocument), InstanceIds: []string{leaderID}, Parameters: shell("true")})
			return err
		},
		"run here and elsewhere": func() error {
			_, err := c.SendCommand(ctx, &ssm.SendCommandInput{DocumentName: aws.String(shellDocument), InstanceIds: []string{memberID, leaderID}, Parameters: shell("true")})
			return err
		},
		"run by tag": func() error {
			_, err := c.SendCommand(ctx, &ssm.SendCommandInput{DocumentName: aws.String(shellDocument), Targets: []types.Target{{Key: aws.String("InstanceIds"), Values: []string{memberID}}}, Parameters: shell("true")})
			return err
		},
		"list all commands":    func() error { _, err := c.ListCommands(ctx, &ssm.ListCommandsInput{}); return err },
		"list another command": func() error { _, err := c.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: &other}); return err },
		"list another's":       func() error { _, err := c.ListCommands(ctx, &ssm.ListCommandsInput{InstanceId: leader}); return err },
		"list a shared command": func() error {
			_, err := c.ListCommandInvocations(ctx, &ssm.ListCommandInvocationsInput{CommandId: &both})
			return err
		},
		"get another's invocation": func() error {
			_, err := c.GetCommandInvocation(ctx, &ssm.GetCommandInvocationInput{CommandId: &both, InstanceId: leader})
			return err
		},
		"watch a shared command": func() error { _, err := m.WatchCommand(ctx, &meshapi.WatchCommandInput{CommandId: both}); return err },
		"watch a command by tag": func() error { _, err := m.WatchCommand(ctx, &meshapi.WatchCommandInput{CommandId: tagged}); return err },
		"watch what is not":      func() error { _, err := m.WatchCommand(ctx, &meshapi.WatchCommandInput{CommandId: "none"}); return err },
		"read another's output": func() error {
			_, err := m.ReadOutput(ctx, &meshapi.ReadOutputInput{CommandId: both, InstanceId: leaderID})
			return err
		},
		"cancel a shared command": func() error { _, err := c.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: &both}); return err },
		"cancel elsewhere": func() error {
			_, err := c.CancelCommand(ctx, &ssm.CancelCommandInput{CommandId: &both, InstanceIds: []string{leaderID}})
			return err
		},
		"tag": func() error {
			_, err := c.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{ResourceType: "ManagedInstance", ResourceId: me, Tags: []types.Tag{{Key: aws.String("role"), Value: aws.String("db")}}})
			return err
		},
		"let in": func() error {
			_, err := c.CreateActivation(ctx, &ssm.CreateActivationInput{IamRole: aws.String("r")})
			return err
		},
		"let in by the mesh": func() error { _, err := m.CreateActivation(ctx, &meshapi.CreateActivationInput{}); return err },
		"remove": func() error {
			_, err := c.DeregisterManagedInstance(ctx, &ssm.DeregisterManagedInstanceInput{InstanceId: me})
			return err
		},
		"see keys": func() error { _, err := m.Keyring(ctx, &meshapi.KeyringInput{Action: "list"}); return err },
	}
	for name, do := range allowed {
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, do := range denied {
		t.Run(name, func(t *testing.T) { wantCode(t, do(), "AccessDeniedException", "") })
	}

	// On a voter, root is an administrator; and what a member's forwarded request
	// says of itself changes nothing.
	voter, voterMesh := b.socket(b.leader)
	if _, err := voter.ListCommands(ctx, &ssm.ListCommandsInput{}); err != nil {
		t.Error(err)
	}
	if _, err := voterMesh.CreateActivation(ctx, &meshapi.CreateActivationInput{}); err != nil {
		t.Error(err)
	}
	in := &peer.ForwardRequest{Method: "POST", Path: "/", Local: true, Body: []byte(`{"Action":"list"}`), Header: map[string][]string{
		targetHeader: {"Mesh.Keyring"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Mesh-Node": {leaderID},
	}}
	out, err := b.leader.ServeForwarded(ctx, peer.Caller{NodeID: memberID}, in)
	if err != nil || out.Status != 400 || !strings.Contains(string(out.Body), "AccessDenied") {
		t.Errorf("%+v, %v", out, err)
	}
	out, err = b.leader.ServeForwarded(ctx, peer.Caller{NodeID: nodeID(5), Voter: true}, in)
	if err != nil || out.Status != 200 {
		t.Errorf("a stand-by's root: %+v, %v", out, err)
	}
	// A request over TLS is never local, whatever its headers say.
	r := b.request(b.leaderURL, "Mesh.Keyring", `{"Action":"list"}`, time.Now(), map[string]string{"Local": "true"})
	r.Header.Del("Authorization")
	if got := b.do(r); got.Type != "MissingAuthenticationTokenException" {
		t.Errorf("%s", got.Type)
	}
}
