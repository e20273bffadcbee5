package api

import (
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

const (
	codeInvalidTarget = "InvalidTarget"

	// maxTagValues is how many values one tag of a target may have.
	maxTagValues = 5
	// allNodes as the only value of InstanceIds targets every enrolled node.
	allNodes = "*"

	targetInstanceIDs = "InstanceIds"
	targetTagPrefix   = "tag:"
	targetTagKey      = "tag-key"
	targetGroupPrefix = "resource-groups:"
)

// checkTargets refuses the targets that the mesh cannot resolve, with what it can.
// It returns the node ids that are named one by one.
func checkTargets(targets []types.Target) (nodeIDs []string, err error) {
	seen := map[string]bool{}
	for _, target := range targets {
		key := aws.ToString(target.Key)
		if strings.EqualFold(key, targetInstanceIDs) {
			key = targetInstanceIDs
		}
		if seen[key] {
			return nil, refuse(codeInvalidTarget, "The target key %q is given twice; the values of one key belong together.", key)
		}
		seen[key] = true
		tag, isTag := strings.CutPrefix(key, targetTagPrefix)
		switch {
		case len(target.Values) == 0:
			return nil, refuse(codeInvalidTarget, "The target %q has no values.", key)
		case key == targetInstanceIDs:
			if slices.Contains(target.Values, allNodes) {
				if len(target.Values) > 1 {
					return nil, refuse(codeInvalidTarget, "InstanceIds=* means all nodes and goes with no other value.")
				}
				break
			}
			if err := checkDistinct(target.Values); err != nil {
				return nil, err
			}
			nodeIDs = append(nodeIDs, target.Values...)
		case isTag && tag == "":
			return nil, refuse(codeInvalidTarget, "The target key tag: names no tag.")
		case isTag && len(target.Values) > maxTagValues:
			return nil, refuse(codeInvalidTarget, "The target %q has %d values; a tag has at most %d.", key, len(target.Values), maxTagValues)
		case key == raftstore.TargetUnsuccessful && len(target.Values) > 1:
			return nil, refuse(codeInvalidTarget, "The target %q has one value, the id of a command.", key)
		case isTag, key == targetTagKey, key == raftstore.TargetUnsuccessful:
		case strings.HasPrefix(key, targetGroupPrefix):
			return nil, refuse(codeInvalidTarget, "The target key %q is not supported, since a mesh has no resource groups: give the nodes of the group a tag and use tag:KEY.", key)
		default:
			return nil, refuse(codeInvalidTarget, "The target key %q is not supported: use InstanceIds, tag:KEY, tag-key or %s.", key, raftstore.TargetUnsuccessful)
		}
	}
	return nodeIDs, nil
}

// checkUnsuccessful refuses a target of what had no success, where that is not known
// yet or is nothing.
func (c *call) checkUnsuccessful(targets []types.Target) error {
	for _, target := range targets {
		if aws.ToString(target.Key) != raftstore.TargetUnsuccessful {
			continue
		}
		id := target.Values[0]
		state, err := raftstore.GetCommandState(c, id)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
			return refuse(codeInvalidTarget, "The target %q names a command, and there is no command %s, or no longer.", raftstore.TargetUnsuccessful, id)
		case err != nil:
			return err
		case state.FinishedAt.IsZero():
			return refuse(codeInvalidTarget, "The command %s has not ended, so it is not known where it has no success: wait for its end, or cancel it.", id)
		}
		nodes, err := raftstore.UnsuccessfulNodes(c, id)
		if err != nil {
			return err
		}
		if len(nodes) == 0 {
			return refuse(codeInvalidTarget, "The command %s had success on all its %d nodes: there is nothing to do again.", id, state.TargetCount)
		}
	}
	return nil
}

// checkDistinct refuses a list that names a node twice.
func checkDistinct(nodeIDs []string) error {
	seen := make(map[string]bool, len(nodeIDs))
	for _, id := range nodeIDs {
		if seen[id] {
			return refuse(codeDuplicateInstance, "You cannot specify a managed node ID in more than one parameter: %s is given twice.", id)
		}
		seen[id] = true
	}
	return nil
}
