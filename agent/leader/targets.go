package leader

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

// target is a node that a command is for.
type target struct {
	nodeID string
	name   string
	// missing: no such node is enrolled (any more).
	missing bool
	// misfit: the document is not for the node's platform.
	misfit bool
	// platform is the node's, for the reason of a misfit.
	platform string
}

// named returns the input with the nodes in place of each target that means a
// command's unsuccessful ones.
func named(input *ssm.SendCommandInput, unsuccessful func(commandID string) ([]string, error)) (*ssm.SendCommandInput, error) {
	out := *input
	out.Targets = slices.Clone(input.Targets)
	for i, t := range out.Targets {
		if t.Key == nil || *t.Key != raftstore.TargetUnsuccessful || len(t.Values) != 1 {
			continue
		}
		nodes, err := unsuccessful(t.Values[0])
		if err != nil {
			return nil, err
		}
		out.Targets[i] = types.Target{Key: aws.String("InstanceIds"), Values: nodes}
	}
	return &out, nil
}

// byTags reports whether the input must be resolved against all enrolled nodes;
// else explicitIDs are the only ones that can match.
func byTags(input *ssm.SendCommandInput) bool {
	if len(input.InstanceIds) > 0 {
		return false
	}
	return !slices.ContainsFunc(input.Targets, func(t types.Target) bool { return isExplicit(t) && !slices.Contains(t.Values, "*") })
}

// explicitIDs are the nodes that the input names.
func explicitIDs(input *ssm.SendCommandInput) []string {
	ids := slices.Clone(input.InstanceIds)
	for _, t := range input.Targets {
		if isExplicit(t) {
			ids = append(ids, t.Values...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

func isExplicit(t types.Target) bool { return t.Key != nil && strings.EqualFold(*t.Key, "InstanceIds") }

// resolve returns the targets of an input among nodes, in order of ids. A node
// that is named and not enrolled is a target all the same: it was enrolled when
// the command was accepted, and its invocation must end in a state. platforms
// are those that the document is for; none is all.
func resolve(nodes []raftstore.Node, input *ssm.SendCommandInput, platforms []string) []target {
	var targets []target
	known := map[string]bool{}
	explicit := explicitIDs(input)
	for _, n := range nodes {
		known[n.ID] = true
		if !matches(n, input) {
			continue
		}
		targets = append(targets, target{
			nodeID: n.ID, name: n.Name, platform: n.PlatformType,
			misfit: len(platforms) > 0 && !slices.Contains(platforms, n.PlatformType),
		})
	}
	if !byTags(input) && len(input.Targets) <= 1 {
		for _, id := range explicit {
			if !known[id] {
				targets = append(targets, target{nodeID: id, missing: true})
			}
		}
	}
	slices.SortFunc(targets, func(a, b target) int { return strings.Compare(a.nodeID, b.nodeID) })
	return targets
}

// matches: keys are joined by and, the values of one key by or.
func matches(n raftstore.Node, input *ssm.SendCommandInput) bool {
	if len(input.InstanceIds) > 0 {
		return slices.Contains(input.InstanceIds, n.ID)
	}
	for _, t := range input.Targets {
		if !matchesTarget(n, t) {
			return false
		}
	}
	return len(input.Targets) > 0
}

func matchesTarget(n raftstore.Node, t types.Target) bool {
	if t.Key == nil {
		return false
	}
	switch key := *t.Key; {
	case isExplicit(t):
		return slices.Contains(t.Values, n.ID) || slices.Contains(t.Values, "*")
	case key == "tag-key":
		return slices.ContainsFunc(t.Values, func(k string) bool { _, ok := n.Tags[k]; return ok })
	case strings.HasPrefix(key, "tag:"):
		value, ok := n.Tags[strings.TrimPrefix(key, "tag:")]
		return ok && slices.Contains(t.Values, value)
	}
	return false
}
