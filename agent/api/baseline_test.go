package api

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

const debianDefault = "arn:aws:ssm:us-east-1:075727635805:patchbaseline/pb-09a5f8eb62bde80b1"

func newBaseline(t *testing.T, c *ssm.Client, in ssm.CreatePatchBaselineInput) string {
	t.Helper()
	out, err := c.CreatePatchBaseline(t.Context(), &in)
	if err != nil {
		t.Fatalf("create %+v: %v", in, err)
	}
	return *out.BaselineId
}

func TestPatchBaselines(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	rule := func(days int32) *types.PatchRuleGroup {
		return &types.PatchRuleGroup{PatchRules: []types.PatchRule{{
			PatchFilterGroup: &types.PatchFilterGroup{PatchFilters: []types.PatchFilter{{Key: types.PatchFilterKeyPriority, Values: []string{"Required"}}}},
			ApproveAfterDays: &days,
		}}}
	}
	in := ssm.CreatePatchBaselineInput{
		Name: aws.String("site"), OperatingSystem: types.OperatingSystemDebian, ApprovalRules: rule(0), ApprovedPatches: []string{"vim"},
		Description: aws.String("of the site"), ClientToken: aws.String("once"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}},
	}
	id := newBaseline(t, c, in)
	if again := newBaseline(t, c, in); again != id {
		t.Errorf("the same token made %s and %s", id, again)
	}
	other := in
	other.Name = aws.String("other")
	_, err := c.CreatePatchBaseline(t.Context(), &other)
	wantCode(t, err, "IdempotentParameterMismatch", id)

	got, err := c.GetPatchBaseline(t.Context(), &ssm.GetPatchBaselineInput{BaselineId: aws.String("arn:aws:ssm:eu-central-1:123456789012:patchbaseline/" + id)})
	if err != nil {
		t.Fatal(err)
	}
	r := got.ApprovalRules.PatchRules[0]
	if *got.BaselineId != id || *got.Name != "site" || got.OperatingSystem != "DEBIAN" || *got.Description != "of the site" || got.CreatedDate == nil ||
		*r.ApproveAfterDays != 0 || r.ComplianceLevel != "UNSPECIFIED" || *r.EnableNonSecurity || got.GlobalFilters == nil || len(got.GlobalFilters.PatchFilters) != 0 ||
		!slices.Equal(got.ApprovedPatches, []string{"vim"}) || got.ApprovedPatchesComplianceLevel != "UNSPECIFIED" || got.RejectedPatchesAction != "ALLOW_AS_DEPENDENCY" {
		t.Errorf("got %+v", got)
	}
	for code, in := range map[string]ssm.GetPatchBaselineInput{
		"InvalidResourceId":     {BaselineId: aws.String("pb-0123456789abcdefg0")},
		"DoesNotExistException": {BaselineId: aws.String("arn:aws:ssm:eu-central-1:999999999999:patchbaseline/" + id)},
	} {
		_, err := c.GetPatchBaseline(t.Context(), &in)
		wantCode(t, err, code, "")
	}
	_, err = c.CreatePatchBaseline(t.Context(), &ssm.CreatePatchBaselineInput{Name: aws.String("bad"), OperatingSystem: types.OperatingSystemDebian, ApprovalRules: rule(361)})
	wantCode(t, err, "ValidationException", "360")

	changed, err := c.UpdatePatchBaseline(t.Context(), &ssm.UpdatePatchBaselineInput{BaselineId: &id, RejectedPatches: []string{"nano"}, RejectedPatchesAction: types.PatchActionBlock})
	if err != nil || changed.RejectedPatchesAction != "BLOCK" || !slices.Equal(changed.ApprovedPatches, []string{"vim"}) || len(changed.ApprovalRules.PatchRules) != 1 {
		t.Errorf("an update of one member: %+v, %v", changed, err)
	}
	_, err = c.UpdatePatchBaseline(t.Context(), &ssm.UpdatePatchBaselineInput{BaselineId: &id, Replace: aws.Bool(true)})
	wantCode(t, err, "ValidationException", "name")
	changed, err = c.UpdatePatchBaseline(t.Context(), &ssm.UpdatePatchBaselineInput{BaselineId: &id, Replace: aws.Bool(true), Name: aws.String("anew")})
	if err != nil || *changed.Name != "anew" || changed.OperatingSystem != "DEBIAN" || len(changed.ApprovedPatches)+len(changed.RejectedPatches)+len(changed.ApprovalRules.PatchRules) != 0 ||
		changed.RejectedPatchesAction != "ALLOW_AS_DEPENDENCY" || changed.Description != nil {
		t.Errorf("replaced: %+v, %v", changed, err)
	}
	_, err = c.UpdatePatchBaseline(t.Context(), &ssm.UpdatePatchBaselineInput{BaselineId: aws.String(debianDefault), Name: aws.String("mine")})
	wantCode(t, err, "ValidationException", "predefined")

	tags, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: types.ResourceTypeForTaggingPatchBaseline, ResourceId: &id})
	if err != nil || len(tags.TagList) != 1 || *tags.TagList[0].Value != "b" {
		t.Errorf("tags %+v, %v", tags, err)
	}
	_, err = c.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceType: types.ResourceTypeForTaggingPatchBaseline, ResourceId: aws.String(debianDefault), Tags: tags.TagList})
	wantCode(t, err, "InvalidResourceId", "")

	// A default and a registered one stay.
	deleteIt := func() error {
		_, err := c.DeletePatchBaseline(t.Context(), &ssm.DeletePatchBaselineInput{BaselineId: &id})
		return err
	}
	setDefault := func(id string) {
		t.Helper()
		if _, err := c.RegisterDefaultPatchBaseline(t.Context(), &ssm.RegisterDefaultPatchBaselineInput{BaselineId: &id}); err != nil {
			t.Fatal(err)
		}
		out, err := c.GetDefaultPatchBaseline(t.Context(), &ssm.GetDefaultPatchBaselineInput{OperatingSystem: types.OperatingSystemDebian})
		if err != nil || *out.BaselineId != id {
			t.Errorf("the default is %+v, %v", out, err)
		}
	}
	setDefault(id)
	wantCode(t, deleteIt(), "ResourceInUseException", "default")
	setDefault(debianDefault)
	register := func(baseline, group string) error {
		_, err := c.RegisterPatchBaselineForPatchGroup(t.Context(), &ssm.RegisterPatchBaselineForPatchGroupInput{BaselineId: &baseline, PatchGroup: &group})
		return err
	}
	for _, group := range []string{"web", "a/b c", "web"} { // the same again is no error
		if err := register(id, group); err != nil {
			t.Error(err)
		}
	}
	wantCode(t, register(debianDefault, "web"), "AlreadyExistsException", id)
	wantCode(t, deleteIt(), "ResourceInUseException", "a/b c, web")
	for os, want := range map[types.OperatingSystem]string{"DEBIAN": id, "SUSE": "arn:aws:ssm:us-east-1:075727635805:patchbaseline/pb-07d8884178197b66b"} {
		out, err := c.GetPatchBaselineForPatchGroup(t.Context(), &ssm.GetPatchBaselineForPatchGroupInput{PatchGroup: aws.String("web"), OperatingSystem: os})
		if err != nil || *out.BaselineId != want {
			t.Errorf("web of %s has %+v, %v", os, out, err)
		}
	}
	groups := 0
	pages := ssm.NewDescribePatchGroupsPaginator(c, &ssm.DescribePatchGroupsInput{MaxResults: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil || len(page.Mappings) != 1 || *page.Mappings[0].BaselineIdentity.BaselineId != id {
			t.Fatalf("%+v, %v", page, err)
		}
		groups++
	}
	if groups != 2 {
		t.Errorf("%d groups", groups)
	}
	for _, group := range []string{"web", "a/b c", "never"} {
		if _, err := c.DeregisterPatchBaselineForPatchGroup(t.Context(), &ssm.DeregisterPatchBaselineForPatchGroupInput{BaselineId: &id, PatchGroup: &group}); err != nil {
			t.Error(err)
		}
	}
	if err := deleteIt(); err != nil {
		t.Error(err)
	}
	if err := deleteIt(); err != nil {
		t.Errorf("once more: %v", err)
	}
	b.read(func(r raftstore.Reader) error {
		r.Scan("patch-", "", func(key string, _ []byte, _ uint64) bool {
			if key != "patch-baseline-default/DEBIAN" {
				t.Errorf("%s is left", key)
			}
			return true
		})
		return nil
	})
}

func TestDescribePatchBaselines(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.memberURL)
	for i := range 5 {
		newBaseline(t, c, ssm.CreatePatchBaselineInput{Name: aws.String(fmt.Sprintf("My-%d", i)), OperatingSystem: types.OperatingSystemSuse})
	}
	for _, test := range []struct {
		filters [][]string
		want    int
	}{
		{nil, 22}, {[][]string{{"OWNER", "AWS"}}, 17}, {[][]string{{"OWNER", "Self"}}, 5}, {[][]string{{"NAME_PREFIX", "AWS-", "My-1"}}, 18},
		{[][]string{{"OPERATING_SYSTEM", "SUSE"}}, 6}, {[][]string{{"OPERATING_SYSTEM", "SUSE"}, {"OWNER", "Self"}, {"NAME_PREFIX", "My-3"}}, 1},
		{[][]string{{"OPERATING_SYSTEM", "WINDOWS"}}, 3},
	} {
		in := ssm.DescribePatchBaselinesInput{MaxResults: aws.Int32(4)}
		for _, f := range test.filters {
			in.Filters = append(in.Filters, types.PatchOrchestratorFilter{Key: &f[0], Values: f[1:]})
		}
		seen := map[string]bool{}
		defaults := map[types.OperatingSystem]int{}
		pages := ssm.NewDescribePatchBaselinesPaginator(c, &in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, identity := range page.BaselineIdentities {
				seen[*identity.BaselineId] = true
				if identity.DefaultBaseline {
					defaults[identity.OperatingSystem]++
				}
			}
		}
		if len(seen) != test.want {
			t.Errorf("%v: %d baselines, want %d", test.filters, len(seen), test.want)
		}
		if test.filters == nil {
			for _, os := range types.OperatingSystem("").Values() {
				if defaults[os] != 1 {
					t.Errorf("%s has %d defaults", os, defaults[os])
				}
			}
		}
	}
	_, err := c.DescribePatchBaselines(t.Context(), &ssm.DescribePatchBaselinesInput{Filters: []types.PatchOrchestratorFilter{{Key: aws.String("COLOUR"), Values: []string{"red"}}}})
	wantCode(t, err, "ValidationException", "COLOUR")
	properties, err := c.DescribePatchProperties(t.Context(), &ssm.DescribePatchPropertiesInput{OperatingSystem: types.OperatingSystemDebian, Property: types.PatchPropertyPatchPriority, MaxResults: aws.Int32(3)})
	if err != nil || len(properties.Properties) != 3 || properties.Properties[0]["Name"] != "Required" || properties.NextToken == nil {
		t.Errorf("%+v, %v", properties, err)
	}
}
