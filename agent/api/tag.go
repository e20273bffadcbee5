package api

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

const (
	codeTooManyTags = "TooManyTagsError"

	// maxTags is how many tags a resource has at most.
	maxTags = 50
	// maxTagBytes bounds a node's tags together: gossip carries them to every
	// node. Each costs up to tagOverhead bytes beside its text.
	maxTagBytes = 4096 - 1
	tagOverhead = 4
	// reservedTag keys are AWS's.
	reservedTag = "aws:"
)

// tagMap makes a map of a request's tags.
func tagMap(tags []types.Tag) (map[string]string, error) {
	out := make(map[string]string, len(tags))
	for _, tag := range tags {
		key := aws.ToString(tag.Key)
		if _, twice := out[key]; twice {
			return nil, refuse(codeValidation, "The tag key %q is given twice.", key)
		}
		out[key] = aws.ToString(tag.Value)
	}
	return out, nil
}

// checkTags refuses tags that a node cannot have.
func checkTags(tags map[string]string) error {
	size := 0
	for key, value := range tags {
		if strings.HasPrefix(strings.ToLower(key), reservedTag) {
			return refuse(codeValidation, "The tag key %q is not allowed: keys that begin with %s are reserved.", key, reservedTag)
		}
		size += len(key) + len(value) + tagOverhead
	}
	if len(tags) > maxTags {
		return refuse(codeTooManyTags, "A node has at most %d tags, not %d.", maxTags, len(tags))
	}
	if size > maxTagBytes {
		return refuse(codeTooManyTags, "The tags of a node have at most 4 KiB together, because every node learns them; these have %d bytes.", size)
	}
	return nil
}

// tagList is how tags are answered, in order of keys.
func tagList(tags map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

// taggedNode returns the node that a request for tags is about.
func (c *call) taggedNode(kind types.ResourceTypeForTagging, id string) (raftstore.Node, error) {
	if kind != types.ResourceTypeForTaggingManagedInstance {
		return raftstore.Node{}, refuse("InvalidResourceType", "The resource type isn't valid: this version of the mesh tags nodes (ManagedInstance), not %s.", kind)
	}
	node, err := raftstore.GetNode(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return node, refuse("InvalidResourceId", "The resource ID isn't valid: %s is not enrolled in this mesh.", id)
	}
	return node, err
}

func (c *call) addTagsToResource(in *ssm.AddTagsToResourceInput) (*ssm.AddTagsToResourceOutput, error) {
	node, err := c.taggedNode(in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	added, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(node.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, added)
	if err := checkTags(tags); err != nil {
		return nil, err
	}
	c.putTags(node, tags)
	return &ssm.AddTagsToResourceOutput{}, nil
}

func (c *call) removeTagsFromResource(in *ssm.RemoveTagsFromResourceInput) (*ssm.RemoveTagsFromResourceOutput, error) {
	node, err := c.taggedNode(in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(node.Tags)
	maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
	c.putTags(node, tags)
	return &ssm.RemoveTagsFromResourceOutput{}, nil
}

// putTags writes a node's tags if they change.
func (c *call) putTags(node raftstore.Node, tags map[string]string) {
	if maps.Equal(node.Tags, tags) {
		return
	}
	node.Tags = tags
	c.txn.PutNode(node)
	c.resource = node.ID
}

func (c *call) listTagsForResource(in *ssm.ListTagsForResourceInput) (*ssm.ListTagsForResourceOutput, error) {
	node, err := c.taggedNode(in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	return &ssm.ListTagsForResourceOutput{TagList: tagList(node.Tags)}, nil
}

// tagText reports whether a tag may have this text; it is the model's pattern,
// ^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$.
func tagText(s string) bool {
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r) {
			return false
		}
	}
	return true
}
