package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/patcher"
	"fleetmesh/raftstore"
)

const (
	codeDoesNotExist  = "DoesNotExistException"
	codeAlreadyExists = "AlreadyExistsException"
	codeResourceInUse = "ResourceInUseException"
	codeResourceLimit = "ResourceLimitExceededException"
	codeIdempotency   = "IdempotentParameterMismatch"
	codeUnsupportedOS = "UnsupportedOperatingSystem"
	codeInvalidFilter = "InvalidFilter"

	// maxPatchBaselines is how many baselines of its own a mesh has; each is a record
	// of up to some 60 KiB on every voter.
	maxPatchBaselines = 1000

	baselineARN = ":patchbaseline/"
	baselineID  = "pb-"
)

// oneBaseline is a patch baseline as operations show it: one of the mesh's own or a
// predefined one, which is not to be changed.
type oneBaseline struct {
	patcher.Baseline
	description         string
	createdAt, modified time.Time
	record              raftstore.PatchBaseline
	predefined          bool
}

func (b *oneBaseline) os() string { return string(b.OperatingSystem) }

// definitionMembers are those of CreatePatchBaseline and UpdatePatchBaseline that a
// record keeps as they came.
var definitionMembers = []string{
	"GlobalFilters", "ApprovalRules", "ApprovedPatches", "ApprovedPatchesComplianceLevel", "ApprovedPatchesEnableNonSecurity",
	"RejectedPatches", "RejectedPatchesAction", "Sources", "AvailableSecurityUpdatesComplianceStatus",
}

// mergeDefinition puts the members of a request into a definition.
func mergeDefinition(definition, body []byte) (json.RawMessage, error) {
	return mergeMembers(definitionMembers, definition, body)
}

// mergeMembers is an object with the named members of the last part that has them.
func mergeMembers(names []string, parts ...[]byte) (json.RawMessage, error) {
	merged := map[string]json.RawMessage{}
	for _, part := range parts {
		members := map[string]json.RawMessage{}
		if len(part) == 0 {
			continue
		}
		if err := json.Unmarshal(part, &members); err != nil {
			return nil, fmt.Errorf("read the members of a definition: %w", err)
		}
		for _, name := range names {
			if value, there := members[name]; there && string(value) != "null" {
				merged[name] = value
			}
		}
	}
	return json.Marshal(merged)
}

// checkBaseline reads and checks a definition.
func checkBaseline(record raftstore.PatchBaseline) error {
	b, err := patcher.ParseDefinition(record.Definition)
	if err != nil {
		return err
	}
	b.Name, b.OperatingSystem = record.Name, types.OperatingSystem(record.OperatingSystem)
	if err := patcher.Validate(&b); err != nil {
		return refuse(codeValidation, "%s", err)
	}
	return nil
}

func ownBaseline(record raftstore.PatchBaseline) (*oneBaseline, error) {
	b, err := patcher.ParseDefinition(record.Definition)
	if err != nil {
		return nil, fmt.Errorf("read the patch baseline %s: %w", record.ID, storeFault(err))
	}
	b.BaselineId, b.Name, b.OperatingSystem = record.ID, record.Name, types.OperatingSystem(record.OperatingSystem)
	return &oneBaseline{
		Baseline: b.WithDefaults(), description: record.Description, createdAt: record.CreatedAt, modified: record.ModifiedAt, record: record,
	}, nil
}

func predefinedBaseline(p patcher.PredefinedBaseline) *oneBaseline {
	return &oneBaseline{Baseline: p.Baseline.WithDefaults(), description: p.Description, predefined: true}
}

// parseBaselineID takes an ARN apart: arn:aws:ssm:<region>:<account>:patchbaseline/<id>.
func parseBaselineID(idOrARN string) (id, account string, ok bool) {
	id = idOrARN
	if strings.HasPrefix(idOrARN, "arn:") {
		head, tail, found := strings.Cut(idOrARN, baselineARN)
		parts := strings.Split(head, ":")
		if !found || len(parts) != 5 || parts[2] != "ssm" {
			return "", "", false
		}
		id, account = tail, parts[4]
	}
	digits, is := strings.CutPrefix(id, baselineID)
	if !is || len(digits) != 17 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", "", false
	}
	return id, account, true
}

func noBaseline(id string) error {
	return refuse(codeDoesNotExist, "Patch baseline %s doesn't exist. DescribePatchBaselines shows those that there are.", id)
}

// findBaseline returns a baseline by id or ARN.
func (c *call) findBaseline(idOrARN string) (*oneBaseline, error) {
	if p, ok := patcher.PredefinedByID(idOrARN); ok {
		return predefinedBaseline(p), nil
	}
	id, account, ok := parseBaselineID(idOrARN)
	if !ok {
		return nil, refuse(codeInvalidResource, "%q is no id of a patch baseline: it is %s and 17 hexadecimal digits, or the ARN of a baseline.", idOrARN, baselineID)
	}
	if account != "" {
		mesh, err := c.readMesh()
		if err != nil {
			return nil, err
		}
		if account != mesh.AccountID {
			return nil, noBaseline(idOrARN)
		}
	}
	record, err := raftstore.GetPatchBaseline(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, noBaseline(idOrARN)
	}
	if err != nil {
		return nil, err
	}
	return ownBaseline(record)
}

// changeBaseline is findBaseline of one that is to be changed.
func (c *call) changeBaseline(idOrARN string) (*oneBaseline, error) {
	b, err := c.findBaseline(idOrARN)
	if err == nil && b.predefined {
		return nil, refuse(codeValidation, "The patch baseline %s is predefined and cannot be changed, deleted or tagged: create one of your own from it (GetPatchBaseline).", b.Name)
	}
	return b, err
}

// touch writes a baseline as it is, so that nobody deletes it at the same time.
func (c *call) touch(b *oneBaseline) {
	if !b.predefined {
		c.txn.PutPatchBaseline(b.record)
	}
}

func (c *call) createPatchBaseline(in *ssm.CreatePatchBaselineInput) (*ssm.CreatePatchBaselineOutput, error) {
	asked := *in
	asked.ClientToken = nil
	request, err := requestHash(&asked)
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientToken)
	if token != "" {
		made, err := raftstore.GetPatchBaselineByToken(c, token)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
		case err != nil:
			return nil, err
		case made.Request != request:
			return nil, refuse(codeIdempotency, "The ClientToken was used for the patch baseline %s with other parameters.", made.ID)
		default:
			return &ssm.CreatePatchBaselineOutput{BaselineId: &made.ID}, nil
		}
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := checkTagKeys(tags, "patch baseline"); err != nil {
		return nil, err
	}
	definition, err := mergeDefinition(nil, c.in.Body)
	if err != nil {
		return nil, err
	}
	id, err := newHexID(baselineID)
	if err != nil {
		return nil, err
	}
	record := raftstore.PatchBaseline{
		ID: id, Name: aws.ToString(in.Name), OperatingSystem: string(windowsUnless(in.OperatingSystem)), Description: aws.ToString(in.Description),
		Definition: definition, CreatedAt: c.now, ModifiedAt: c.now, Caller: c.who.name, Tags: tags, ClientToken: token, Request: request,
	}
	if err := checkBaseline(record); err != nil {
		return nil, err
	}
	if raftstore.CountPatchBaselines(c) >= maxPatchBaselines {
		return nil, refuse(codeResourceLimit, "The mesh keeps at most %d patch baselines of its own: delete one that is not in use.", maxPatchBaselines)
	}
	c.txn.PutPatchBaseline(record)
	c.resource = id
	return &ssm.CreatePatchBaselineOutput{BaselineId: &id}, nil
}

// windowsUnless is Systems Manager's default.
func windowsUnless(os types.OperatingSystem) types.OperatingSystem {
	if os == "" {
		return types.OperatingSystemWindows
	}
	return os
}

func (c *call) updatePatchBaseline(in *ssm.UpdatePatchBaselineInput) (*ssm.UpdatePatchBaselineOutput, error) {
	b, err := c.changeBaseline(aws.ToString(in.BaselineId))
	if err != nil {
		return nil, err
	}
	record := b.record
	definition := record.Definition
	if aws.ToBool(in.Replace) {
		if in.Name == nil {
			return nil, refuse(codeValidation, "1 validation error detected: Value null at 'name' failed to satisfy constraint: Member must not be null; with Replace all that CreatePatchBaseline requires is required.")
		}
		definition, record.Description = nil, ""
	}
	if record.Definition, err = mergeDefinition(definition, c.in.Body); err != nil {
		return nil, err
	}
	if in.Name != nil {
		record.Name = *in.Name
	}
	if in.Description != nil {
		record.Description = *in.Description
	}
	if err := checkBaseline(record); err != nil {
		return nil, err
	}
	record.ModifiedAt = c.now
	if b, err = ownBaseline(record); err != nil {
		return nil, err
	}
	c.txn.PutPatchBaseline(record)
	c.resource = record.ID
	out := b.describe()
	return &ssm.UpdatePatchBaselineOutput{
		BaselineId: out.BaselineId, Name: out.Name, OperatingSystem: out.OperatingSystem, GlobalFilters: out.GlobalFilters, ApprovalRules: out.ApprovalRules,
		ApprovedPatches: out.ApprovedPatches, ApprovedPatchesComplianceLevel: out.ApprovedPatchesComplianceLevel,
		ApprovedPatchesEnableNonSecurity: out.ApprovedPatchesEnableNonSecurity, RejectedPatches: out.RejectedPatches,
		RejectedPatchesAction: out.RejectedPatchesAction, CreatedDate: out.CreatedDate, ModifiedDate: out.ModifiedDate, Description: out.Description,
		Sources: out.Sources, AvailableSecurityUpdatesComplianceStatus: out.AvailableSecurityUpdatesComplianceStatus,
	}, nil
}

func (c *call) deletePatchBaseline(in *ssm.DeletePatchBaselineInput) (*ssm.DeletePatchBaselineOutput, error) {
	given := aws.ToString(in.BaselineId)
	b, err := c.findBaseline(given)
	if isCode(err, codeDoesNotExist) {
		return &ssm.DeletePatchBaselineOutput{BaselineId: &given}, nil // as in Systems Manager
	}
	if err != nil {
		return nil, err
	}
	use, err := raftstore.UseOfPatchBaseline(c, b.os(), b.BaselineId)
	switch {
	case err != nil:
		return nil, err
	case use.Default:
		return nil, refuse(codeResourceInUse, "The patch baseline %s is the default for %s: register another one first.", given, b.OperatingSystem)
	case len(use.Groups) > 0:
		return nil, refuse(codeResourceInUse, "The patch baseline %s is registered for patch groups: %s. Deregister them first.", given, strings.Join(use.Groups, ", "))
	}
	if b, err = c.changeBaseline(given); err != nil {
		return nil, err
	}
	c.txn.DeletePatchBaseline(b.record)
	c.resource = b.BaselineId
	return &ssm.DeletePatchBaselineOutput{BaselineId: aws.String(b.BaselineId)}, nil
}

func (c *call) getPatchBaseline(in *ssm.GetPatchBaselineInput) (*ssm.GetPatchBaselineOutput, error) {
	b, err := c.findBaseline(aws.ToString(in.BaselineId))
	if err != nil {
		return nil, err
	}
	out := b.describe()
	groups, err := raftstore.PatchGroupsOf(c, b.os(), b.BaselineId)
	out.PatchGroups = list(groups)
	return out, err
}

// describe shows a baseline as GetPatchBaseline does, without its groups.
func (b *oneBaseline) describe() *ssm.GetPatchBaselineOutput {
	out := &ssm.GetPatchBaselineOutput{
		BaselineId: aws.String(b.BaselineId), Name: aws.String(b.Name), OperatingSystem: b.OperatingSystem,
		GlobalFilters: &types.PatchFilterGroup{PatchFilters: []types.PatchFilter{}}, ApprovalRules: &types.PatchRuleGroup{PatchRules: []types.PatchRule{}},
		ApprovedPatches: list(b.ApprovedPatches), ApprovedPatchesComplianceLevel: b.ApprovedPatchesComplianceLevel,
		ApprovedPatchesEnableNonSecurity: aws.Bool(b.ApprovedPatchesEnableNonSecurity),
		RejectedPatches:                  list(b.RejectedPatches), RejectedPatchesAction: b.RejectedPatchesAction,
		CreatedDate: optionalTime(b.createdAt), ModifiedDate: optionalTime(b.modified), Description: optional(b.description), Sources: list(b.Sources),
		AvailableSecurityUpdatesComplianceStatus: b.AvailableSecurityUpdatesComplianceStatus,
	}
	if b.GlobalFilters != nil {
		out.GlobalFilters = b.GlobalFilters
	}
	if b.ApprovalRules != nil {
		out.ApprovalRules = b.ApprovalRules
	}
	return out
}

// defaultBaseline is the id of the default of an operating system, "" for none.
func (c *call) defaultBaseline(os types.OperatingSystem) (string, error) {
	id, err := raftstore.PatchBaselineFor(c, string(os), "")
	if err != nil || id != "" {
		return id, err
	}
	if p, ok := patcher.PredefinedDefault(os); ok {
		id = p.BaselineId
	}
	return id, nil
}

func (c *call) getDefaultPatchBaseline(in *ssm.GetDefaultPatchBaselineInput) (*ssm.GetDefaultPatchBaselineOutput, error) {
	os := windowsUnless(in.OperatingSystem)
	id, err := c.defaultBaseline(os)
	if err != nil {
		return nil, err
	}
	if id == "" {
		return nil, refuse(codeDoesNotExist, "There is no default patch baseline for %s: register one.", os)
	}
	return &ssm.GetDefaultPatchBaselineOutput{BaselineId: &id, OperatingSystem: os}, nil
}

func (c *call) registerDefaultPatchBaseline(in *ssm.RegisterDefaultPatchBaselineInput) (*ssm.RegisterDefaultPatchBaselineOutput, error) {
	b, err := c.findBaseline(aws.ToString(in.BaselineId))
	if err != nil {
		return nil, err
	}
	current, err := raftstore.GetDefaultPatchBaseline(c, b.os())
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	if current.BaselineID != b.BaselineId {
		current.OperatingSystem, current.BaselineID = b.os(), b.BaselineId
		c.touch(b)
		c.txn.PutDefaultPatchBaseline(current)
		c.resource = b.BaselineId
	}
	return &ssm.RegisterDefaultPatchBaselineOutput{BaselineId: aws.String(b.BaselineId)}, nil
}

func (c *call) describePatchBaselines(in *ssm.DescribePatchBaselinesInput) (*ssm.DescribePatchBaselinesOutput, error) {
	filters, err := orchestratorFilters(in.Filters, "NAME_PREFIX", "OWNER", "OPERATING_SYSTEM")
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(filters["OWNER"], func(owner string) bool { return owner != ownerAWS && owner != ownerSelf }); i >= 0 {
		return nil, refuse(codeValidation, "The filter OWNER has the values %s and %s, not %q.", ownerAWS, ownerSelf, filters["OWNER"][i])
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribePatchBaselinesOutput{BaselineIdentities: []types.PatchBaselineIdentity{}}
	next := ""
	defaults := map[types.OperatingSystem]string{}
	show := func(position string, b *oneBaseline) (more bool, err error) {
		if position < start || !b.matches(filters) {
			return true, nil
		}
		if len(out.BaselineIdentities) == pageSize(in.MaxResults) {
			next = position
			return false, nil
		}
		identity, err := c.identify(b, defaults)
		out.BaselineIdentities = append(out.BaselineIdentities, identity)
		return err == nil, err
	}
	more := true
	for _, p := range patcher.Predefined() {
		if more, err = show("0/"+p.Name+"/"+p.BaselineId, predefinedBaseline(p)); !more || err != nil {
			break
		}
	}
	if more && err == nil {
		failed := raftstore.ScanPatchBaselines(c, strings.TrimPrefix(max(start, "1/"), "1/"), func(record raftstore.PatchBaseline) bool {
			b := &oneBaseline{description: record.Description}
			b.BaselineId, b.Name, b.OperatingSystem = record.ID, record.Name, types.OperatingSystem(record.OperatingSystem)
			more, err = show("1/"+record.ID, b)
			return more && err == nil
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

const (
	ownerAWS  = "AWS"
	ownerSelf = "Self"
)

func (b *oneBaseline) matches(filters map[string][]string) bool {
	owner := ownerSelf
	if b.predefined {
		owner = ownerAWS
	}
	return fits(filters["NAME_PREFIX"], func(v string) bool { return strings.HasPrefix(b.Name, v) }) &&
		fits(filters["OWNER"], func(v string) bool { return v == owner }) &&
		fits(filters["OPERATING_SYSTEM"], func(v string) bool { return v == b.os() })
}

// fits reports whether a value passes; a filter that is not given passes all.
func fits(values []string, equal func(string) bool) bool {
	return len(values) == 0 || slices.ContainsFunc(values, equal)
}

// orchestratorFilters reads filters by key; a key that is given twice has the values
// of both.
func orchestratorFilters(filters []types.PatchOrchestratorFilter, keys ...string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, f := range filters {
		key := aws.ToString(f.Key)
		if !slices.Contains(keys, key) {
			return nil, refuse(codeValidation, "The filter key %q isn't valid: use %s.", key, strings.Join(keys, ", "))
		}
		if len(f.Values) == 0 {
			return nil, refuse(codeValidation, "The filter %s has no values.", key)
		}
		out[key] = append(out[key], f.Values...)
	}
	return out, nil
}

// identify shows a baseline as lists do. defaults are those already found.
func (c *call) identify(b *oneBaseline, defaults map[types.OperatingSystem]string) (types.PatchBaselineIdentity, error) {
	id, known := defaults[b.OperatingSystem]
	if !known {
		var err error
		if id, err = c.defaultBaseline(b.OperatingSystem); err != nil {
			return types.PatchBaselineIdentity{}, err
		}
		defaults[b.OperatingSystem] = id
	}
	return types.PatchBaselineIdentity{
		BaselineId: aws.String(b.BaselineId), BaselineName: aws.String(b.Name), OperatingSystem: b.OperatingSystem,
		BaselineDescription: optional(b.description), DefaultBaseline: id == b.BaselineId,
	}, nil
}
