package api

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/raftstore"
)

func TestAComposedCommandIsTheOneThatSendCommandMakes(t *testing.T) {
	b := newBed(t)
	in := ssm.SendCommandInput{
		DocumentName: aws.String(shellDocument), InstanceIds: []string{memberID}, Comment: aws.String("why"), TimeoutSeconds: aws.Int32(60),
		Parameters: map[string][]string{"commands": {"echo hi"}, "executionTimeout": {"30"}}, MaxErrors: aws.String("2"),
	}
	sent := send(t, b.ssm(b.leaderURL), in)
	b.read(func(r raftstore.Reader) error {
		want, err := raftstore.GetCommand(r, *sent.CommandId)
		if err != nil {
			return err
		}
		got, state, refusal, err := ComposeCommand(r, &in, "11111111-2222-4333-8444-555555555555", want.Caller, want.RequestedAt)
		if err != nil || refusal != "" {
			t.Fatal(err, refusal)
		}
		if got.ID != "11111111-2222-4333-8444-555555555555" || state.ID != got.ID || state.Status != "Pending" {
			t.Errorf("composed %s with the state %+v", got.ID, state)
		}
		if got.DocumentName != want.DocumentName || got.DocumentVersion != want.DocumentVersion || string(got.Document) != string(want.Document) ||
			!got.DeliverUntil.Equal(want.DeliverUntil) || !got.ExpiresAt.Equal(want.ExpiresAt) || got.Epoch != want.Epoch || got.Caller != want.Caller {
			t.Errorf("composed\n%+v\nsent\n%+v", got, want)
		}
		shown, err := describeCommand(got, state)
		if err != nil {
			return err
		}
		if *shown.Comment != "why" || *shown.MaxErrors != "2" || shown.Parameters["commands"][0] != "echo hi" || shown.InstanceIds[0] != memberID {
			t.Errorf("shown %+v", shown)
		}
		return nil
	})
}

func TestComposeRefusesWhatSendCommandRefuses(t *testing.T) {
	b := newBed(t)
	for name, c := range map[string]struct {
		in   ssm.SendCommandInput
		want string
	}{
		"no document":      {ssm.SendCommandInput{DocumentName: aws.String("none"), InstanceIds: []string{memberID}}, "none"},
		"a stranger":       {ssm.SendCommandInput{DocumentName: aws.String(shellDocument), InstanceIds: []string{"mi-0000000000000000f"}, Parameters: shell("true")}, "Not enrolled"},
		"a bound":          {ssm.SendCommandInput{DocumentName: aws.String(shellDocument), InstanceIds: []string{memberID}, Parameters: shell("true"), TimeoutSeconds: aws.Int32(1)}, "timeoutSeconds"},
		"a parameter":      {ssm.SendCommandInput{DocumentName: aws.String(shellDocument), InstanceIds: []string{memberID}, Parameters: map[string][]string{"nonsense": {"x"}}}, "nonsense"},
		"nothing to do":    {ssm.SendCommandInput{DocumentName: aws.String(shellDocument), Parameters: shell("true")}, "no targets"},
		"an output bucket": {ssm.SendCommandInput{DocumentName: aws.String(shellDocument), InstanceIds: []string{memberID}, Parameters: shell("true"), OutputS3BucketName: aws.String("bucket")}, "S3"},
	} {
		b.read(func(r raftstore.Reader) error {
			command, _, refusal, err := ComposeCommand(r, &c.in, "11111111-2222-4333-8444-555555555555", "window", b.clock.now())
			if err != nil || !strings.Contains(refusal, c.want) || command.ID != "" {
				t.Errorf("%s: %q, %v, %q", name, refusal, err, command.ID)
			}
			return nil
		})
	}
}
