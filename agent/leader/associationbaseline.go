package leader

import (
	"fmt"
	"slices"
	"strings"

	"fleetmesh/raftstore"
)

// associationPatchDocument finds its baseline by BaselineTags; patch groups do not
// count for it.
const associationPatchDocument = "AWS-RunPatchBaselineAssociation"

// baselineTag is the parameter BaselineTags: a tag and its values, which are
// alternatives.
type baselineTag struct {
	key    string
	values []string
}

// parseBaselineTag reads Key=KEY,Values=V1,V2; Value is taken too.
func parseBaselineTag(text string) (tag baselineTag, ok bool) {
	key, list, found := strings.Cut(text, ",")
	if tag.key, ok = strings.CutPrefix(key, "Key="); !ok || !found || tag.key == "" {
		return baselineTag{}, false
	}
	values, ok := strings.CutPrefix(list, "Values=")
	if !ok {
		values, ok = strings.CutPrefix(list, "Value=")
	}
	if !ok {
		return baselineTag{}, false
	}
	tag.values = strings.Split(values, ",")
	return tag, true
}

// taggedBaseline is the id of the one baseline of an operating system that has a tag,
// "" for none. problem says that there are several.
func taggedBaseline(r raftstore.Reader, os, text string) (id, problem string, err error) {
	if text == "" {
		return "", "", nil
	}
	tag, ok := parseBaselineTag(text)
	if !ok {
		return "", fmt.Sprintf("BaselineTags %q cannot be read: it is Key=KEY,Values=V1,V2", text), nil
	}
	var found []string
	err = raftstore.ScanPatchBaselines(r, "", func(b raftstore.PatchBaseline) bool {
		value, has := b.Tags[tag.key]
		if b.OperatingSystem == os && has && slices.Contains(tag.values, value) {
			found = append(found, b.ID)
		}
		return true
	})
	switch {
	case err != nil || len(found) == 0:
		return "", "", err
	case len(found) > 1:
		return "", fmt.Sprintf("%d patch baselines for %s have the tag %s: %s. Let one have it", len(found), os, text, strings.Join(found, ", ")), nil
	}
	return found[0], "", nil
}
