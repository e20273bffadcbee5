//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
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
