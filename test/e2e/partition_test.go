//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
)

// TestCutOffLeader: a leader that reaches nobody refuses its clients and the others
// go on without it; healed, it is one of them again.
func TestCutOffLeader(t *testing.T) {
	w := newNetwork(t)
	m := newMeshOn(t, w, 3, anyNode, nil)
	m.awaitRest(3, 0)
	l := newLedger(m)
	leader := m.leader()
	rest := m.others(leader)
	w.loseOneWay(hosts(rest...), hosts(leader))
	w.loseOneWay(hosts(leader), hosts(rest...))
	m.await("a write without it", func() error { _, err := l.write(t.Context(), rest[0]); return err })
	m.await("its refusal", func() error {
		if _, err := l.write(t.Context(), leader); !refusedFor(err, "ServiceUnavailable") {
			return fmt.Errorf("answered with %v", err)
		}
		return nil
	})
	w.heal()
	m.awaitOnline(3)
	m.await("a write through it", func() error { _, err := l.write(t.Context(), leader); return err })
}

// TestNobodyLeads: every client is told so, soon and clearly, and nothing is done.
func TestNobodyLeads(t *testing.T) {
	m := newMesh(t, 3, anyNode)
	m.awaitRest(3, 0)
	l := newLedger(m)
	alive := m.others(m.leader())[0]
	for _, n := range m.others(alive) {
		m.kill(n)
	}
	endpoint := "https://" + alive.address + ":7947"
	m.env = append(m.env, "AWS_MAX_ATTEMPTS=2") // by itself it tries for a quarter of a minute
	for range 2 {                               // the first may still find a leader's traces
		took, err := l.write(t.Context(), alive)
		t.Logf("a request took %s", took)
		if !refusedFor(err, "ServiceUnavailable") {
			t.Errorf("a request: %v", err)
		}
	}
	for _, line := range [][]string{
		{"meshctl", "--endpoint", endpoint, "run", "--nodes", alive.id, "--", "touch " + m.dir + "/ran"},
		{"meshctl", "--endpoint", endpoint, "node", "list"},
		{"aws", "--endpoint-url", endpoint, "ssm", "send-command", "--document-name", "AWS-RunShellScript", "--instance-ids", alive.id, "--parameters", "commands=touch " + m.dir + "/ran"},
	} {
		from := time.Now()
		_, exit, err := m.run(line[0], line[1:]...)
		t.Logf("%s took %s: %d, %v", line[0], time.Since(from), exit, err)
		if exit == 0 || !strings.Contains(err.Error(), "ServiceUnavailable") || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("%v ended with %d: %v", line, exit, err)
		}
		if line[0] == "meshctl" && exit != 4 {
			t.Errorf("%v ended with %d, want 4", line, exit)
		}
	}
	for _, n := range m.nodes {
		if n.process == nil {
			m.start(n)
		}
	}
	m.awaitOnline(3)
	if _, err := l.send(t.Context(), 0, 3, m.nodes...); err != nil {
		t.Fatal(err)
	}
	l.prove()
	if _, err := os.Stat(m.dir + "/ran"); err == nil {
		t.Error("a refused command ran")
	}
}

// write changes something through one node, once.
func (l *ledger) write(ctx context.Context, through *node) (took time.Duration, err error) {
	from := time.Now()
	_, err = l.through([]*node{through}).AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{
		ResourceType: types.ResourceTypeForTaggingManagedInstance, ResourceId: &through.id,
		Tags: []types.Tag{{Key: aws.String("round"), Value: aws.String(strconv.Itoa(rand.Int()))}},
	})
	return time.Since(from), err
}

// refusedFor reports whether an error is the mesh's refusal with this code.
func refusedFor(err error, code string) bool {
	var refusal smithy.APIError
	return errors.As(err, &refusal) && refusal.ErrorCode() == code
}
