//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

var histories = flag.Int("histories", 1, "`how many` fault schedules TestLinearizable draws")

// TestLinearizable: clients write and read the tags of the nodes through all nodes,
// some with one attempt, some with the SDK's retries, while leaders are killed,
// stopped and cut off. One order, in which each request happened at one moment
// between question and answer, must explain all answers. A schedule is replayed by
// -seed.
func TestLinearizable(t *testing.T) {
	drawn := []uint64{*seed}
	if *seed == 0 {
		drawn = drawn[:0]
		for range *histories {
			drawn = append(drawn, 1+rand.Uint64N(1<<32))
		}
	}
	for _, s := range drawn {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) { readAndWrite(t, s) })
	}
}

// registers are three tags of one node; 0 is a tag that is not there. Every other
// value is written once only.
type registers [3]int

// tagging is what a client asked of a node's tags: to read all, to remove some, or
// to put some.
type tagging struct {
	node         string
	read, remove bool
	tags         registers // 0: left alone
}

// tagged is what it was told; nobody knows what became of a write that failed.
type tagged struct {
	unknown bool
	saw     registers
}

var taggingModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byNode := map[string]int{}
		for _, op := range history {
			node := op.Input.(tagging).node
			part, ok := byNode[node]
			if !ok {
				part = len(parts)
				byNode[node] = part
				parts = append(parts, nil)
			}
			parts[part] = append(parts[part], op)
		}
		return parts
	},
	Init: func() any { return registers{} },
	Step: func(state, input, output any) (bool, any) {
		now, op := state.(registers), input.(tagging)
		if op.read {
			return output.(tagged).saw == now, now
		}
		for i, value := range op.tags {
			switch {
			case value == 0:
			case op.remove:
				now[i] = 0
			default:
				now[i] = value
			}
		}
		return true, now
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

// tagHistory is what all clients did.
type tagHistory struct {
	*ledger
	began time.Time

	mu             sync.Mutex
	operations     []porcupine.Operation
	values         int
	reads, unknown int
}

func readAndWrite(t *testing.T, seed uint64) {
	m := newMeshOn(t, newNetwork(t), 5, func(i int) []string {
		if i == 4 {
			return []string{"--member-only"} // four may vote: three voters and a stand-by
		}
		return nil
	}, nil)
	m.awaitRest(3, 1)
	h := &tagHistory{ledger: newLedger(m), began: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for id := range 6 {
		rng := rand.New(rand.NewPCG(seed, uint64(1+id)))
		clients.Go(func() {
			for ctx.Err() == nil {
				h.act(id, rng)
				time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond) // two cores serve nodes and clients
			}
		})
	}
	for _, f := range drawFaults(seed, *faults) {
		m.inflict(f)
	}
	m.awaitOnline(len(m.nodes))
	stop()
	clients.Wait()
	for _, n := range m.nodes {
		h.perform(0, h.client, tagging{node: n.id, read: true})
	}
	result, info := porcupine.CheckOperationsVerbose(taggingModel, h.operations, 2*patience)
	t.Logf("%d requests, %d of them reads, %d of unknown outcome: %s", len(h.operations), h.reads, h.unknown, result)
	if result == porcupine.Ok {
		return
	}
	t.Errorf("%s: nothing orders what the clients saw", result)
	for _, part := range info.PartialLinearizationsOperations() {
		for _, longest := range part {
			t.Logf("an order of %d operations, and no further; the last: %+v", len(longest), longest[max(0, len(longest)-3):])
		}
	}
}

// act makes one request, through one node once or through any with retries.
func (h *tagHistory) act(id int, rng *rand.Rand) {
	client := h.client
	if rng.IntN(2) == 0 {
		client = h.through([]*node{h.nodes[rng.IntN(len(h.nodes))]})
	}
	op := tagging{node: h.nodes[rng.IntN(len(h.nodes))].id}
	if rng.IntN(2) == 0 {
		op.read = true
	} else {
		op.remove = rng.IntN(4) == 0
		first := rng.IntN(len(op.tags))
		for i := range op.tags {
			if i == first || rng.IntN(2) == 0 {
				op.tags[i] = h.value()
			}
		}
	}
	h.perform(id, client, op)
}

func (h *tagHistory) value() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.values++
	return h.values
}

func (h *tagHistory) perform(id int, client *ssm.Client, op tagging) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kind := types.ResourceTypeForTaggingManagedInstance
	var out tagged
	var err error
	call := time.Since(h.began)
	switch {
	case op.read:
		var list *ssm.ListTagsForResourceOutput
		if list, err = client.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: kind, ResourceId: &op.node}); err == nil {
			out.saw, err = registersOf(list.TagList)
		}
	case op.remove:
		var keys []string
		for i, value := range op.tags {
			if value != 0 {
				keys = append(keys, tagKey(i))
			}
		}
		_, err = client.RemoveTagsFromResource(ctx, &ssm.RemoveTagsFromResourceInput{ResourceType: kind, ResourceId: &op.node, TagKeys: keys})
	default:
		var tags []types.Tag
		for i, value := range op.tags {
			if value != 0 {
				tags = append(tags, types.Tag{Key: aws.String(tagKey(i)), Value: aws.String(strconv.Itoa(value))})
			}
		}
		_, err = client.AddTagsToResource(ctx, &ssm.AddTagsToResourceInput{ResourceType: kind, ResourceId: &op.node, Tags: tags})
	}
	end := time.Since(h.began)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil && op.read:
		return
	case err != nil:
		out.unknown, end = true, 1<<62
		h.unknown++
	case op.read:
		h.reads++
	}
	h.operations = append(h.operations, porcupine.Operation{ClientId: id, Input: op, Call: int64(call), Output: out, Return: int64(end)})
}

func tagKey(i int) string { return fmt.Sprint("register", i) }

func registersOf(tags []types.Tag) (registers, error) {
	var r registers
	for _, tag := range tags {
		for i := range r {
			if aws.ToString(tag.Key) != tagKey(i) {
				continue
			}
			value, err := strconv.Atoi(aws.ToString(tag.Value))
			if err != nil {
				return r, err
			}
			r[i] = value
		}
	}
	return r, nil
}
