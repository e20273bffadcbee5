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
	"github.com/aws/smithy-go"

	"fleetmesh/executor/document"
	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

const (
	codeTooManyTags     = "TooManyTagsError"
	codeInvalidResource = "InvalidResourceId"

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
	if err := checkTagKeys(tags, "node"); err != nil {
		return err
	}
	size := 0
	for key, value := range tags {
		size += len(key) + len(value) + tagOverhead
	}
	if size > maxTagBytes {
		return refuse(codeTooManyTags, "The tags of a node have at most 4 KiB together, because every node learns them; these have %d bytes.", size)
	}
	return nil
}

// checkTagKeys refuses tags that no resource can have.
func checkTagKeys(tags map[string]string, resource string) error {
	for key := range tags {
		if strings.HasPrefix(strings.ToLower(key), reservedTag) {
			return refuse(codeValidation, "The tag key %q is not allowed: keys that begin with %s are reserved.", key, reservedTag)
		}
	}
	if len(tags) > maxTags {
		return refuse(codeTooManyTags, "A %s has at most %d tags, not %d.", resource, maxTags, len(tags))
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

// tagged is a resource that has tags.
type tagged struct {
	id    string
	tags  map[string]string
	check func(tags map[string]string) error
	// put writes the resource with other tags.
	put func(tags map[string]string)
}

// taggedResource returns what a request for tags is about.
func (c *call) taggedResource(kind types.ResourceTypeForTagging, id string) (*tagged, error) {
	switch kind {
	case types.ResourceTypeForTaggingManagedInstance:
		node, err := raftstore.GetNode(c, id)
		if errors.Is(err, raftstore.ErrNotFound) {
			return nil, refuse(codeInvalidResource, "The resource ID isn't valid: %s is not enrolled in this mesh.", id)
		}
		return &tagged{id: node.ID, tags: node.Tags, check: checkTags, put: func(tags map[string]string) {
			node.Tags = tags
			c.txn.PutNode(node)
		}}, err
	case types.ResourceTypeForTaggingDocument:
		return c.taggedDocument(id)
	case types.ResourceTypeForTaggingPatchBaseline:
		return c.taggedBaseline(id)
	case types.ResourceTypeForTaggingAssociation:
		return c.taggedAssociation(id)
	case types.ResourceTypeForTaggingMaintenanceWindow:
		return c.taggedWindow(id)
	}
	return nil, refuse("InvalidResourceType", "The resource type isn't valid: this version of the mesh tags nodes (ManagedInstance), documents (Document), associations (Association), patch baselines (PatchBaseline) and maintenance windows (MaintenanceWindow), not %s.", kind)
}

// taggedDocument returns a document, by name or ARN.
func (c *call) taggedDocument(nameOrARN string) (*tagged, error) {
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(nameOrARN, mesh.AccountID)
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return nil, refuse(codeInvalidResource, "The resource ID isn't valid: %s", refused.ErrorMessage())
	}
	check := func(tags map[string]string) error { return checkTagKeys(tags, "document") }
	return &tagged{id: head.Name, tags: head.Tags, check: check, put: func(tags map[string]string) {
		head.Tags = tags
		c.txn.PutDocument(head)
	}}, err
}

// taggedBaseline returns a patch baseline, by id or ARN.
func (c *call) taggedBaseline(idOrARN string) (*tagged, error) {
	b, err := c.changeBaseline(idOrARN)
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return nil, refuse(codeInvalidResource, "The resource ID isn't valid: %s", refused.ErrorMessage())
	}
	if err != nil {
		return nil, err
	}
	check := func(tags map[string]string) error { return checkTagKeys(tags, "patch baseline") }
	return &tagged{id: b.BaselineId, tags: b.record.Tags, check: check, put: func(tags map[string]string) {
		b.record.Tags = tags
		c.txn.PutPatchBaseline(b.record)
	}}, nil
}

func (c *call) addTagsToResource(in *ssm.AddTagsToResourceInput) (*ssm.AddTagsToResourceOutput, error) {
	resource, err := c.taggedResource(in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	added, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(resource.tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, added)
	if err := resource.check(tags); err != nil {
		return nil, err
	}
	c.putTags(resource, tags)
	return &ssm.AddTagsToResourceOutput{}, nil
}

func (c *call) removeTagsFromResource(in *ssm.RemoveTagsFromResourceInput) (*ssm.RemoveTagsFromResourceOutput, error) {
	resource, err := c.taggedResource(in.ResourceType, aws.ToString(in.ResourceId))
	if err != nil {
		return nil, err
	}
	tags := maps.Clone(resource.tags)
	maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
	c.putTags(resource, tags)
	return &ssm.RemoveTagsFromResourceOutput{}, nil
}

// putTags writes a resource's tags if they change.
func (c *call) putTags(resource *tagged, tags map[string]string) {
	if maps.Equal(resource.tags, tags) {
		return
	}
	resource.put(tags)
	c.resource = resource.id
}

func (c *call) listTagsForResource(in *ssm.ListTagsForResourceInput) (*ssm.ListTagsForResourceOutput, error) {
	kind, id := in.ResourceType, aws.ToString(in.ResourceId)
	if kind == types.ResourceTypeForTaggingDocument {
		if _, builtIn := document.BuiltInByName(documentNameOf(id)); builtIn {
			return &ssm.ListTagsForResourceOutput{TagList: []types.Tag{}}, nil
		}
	}
	if kind == types.ResourceTypeForTaggingPatchBaseline {
		if _, predefined := patcher.PredefinedByID(id); predefined {
			return &ssm.ListTagsForResourceOutput{TagList: []types.Tag{}}, nil
		}
	}
	resource, err := c.taggedResource(kind, id)
	if err != nil {
		return nil, err
	}
	return &ssm.ListTagsForResourceOutput{TagList: tagList(resource.tags)}, nil
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
