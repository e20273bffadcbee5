package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

const (
	codeNoAssociation             = "AssociationDoesNotExist"
	codeAssociationExists         = "AssociationAlreadyExists"
	codeAssociationLimit          = "AssociationLimitExceeded"
	codeAssociationVersionLimit   = "AssociationVersionLimitExceeded"
	codeInvalidAssociation        = "InvalidAssociation"
	codeInvalidAssociationVersion = "InvalidAssociationVersion"
	codeStatusUnchanged           = "StatusUnchanged"

	// maxAssociations and maxAssociationVersions are Systems Manager's quotas.
	maxAssociations        = 2000
	maxAssociationVersions = 1000
	// maxAssociationInput bounds an association's members, in bytes of JSON: each
	// version is a record, and its commands carry them again.
	maxAssociationInput = 96 << 10
)

// associationMembers are those of CreateAssociation that a record keeps as they came.
var associationMembers = []string{
	"Name", "DocumentVersion", "InstanceId", "Parameters", "Targets", "ScheduleExpression", "AssociationName", "MaxErrors", "MaxConcurrency",
	"ComplianceSeverity", "SyncCompliance", "ApplyOnlyAtCronInterval", "ScheduleOffset", "Duration",
}

// keepMembers is a JSON object with those members of body that a record keeps, and
// with those of earlier that are named in kept and not in body.
func keepMembers(body, earlier []byte, kept ...string) (json.RawMessage, error) {
	members, before, out := map[string]json.RawMessage{}, map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, fmt.Errorf("read the members of an association: %w", err)
	}
	if earlier != nil {
		if err := json.Unmarshal(earlier, &before); err != nil {
			return nil, fmt.Errorf("read the members of an association: %w", err)
		}
	}
	given := func(m map[string]json.RawMessage, name string) bool {
		return m[name] != nil && string(m[name]) != "null"
	}
	for _, name := range associationMembers {
		switch {
		case given(members, name):
			out[name] = members[name]
		case slices.Contains(kept, name) && given(before, name):
			out[name] = before[name]
		}
	}
	return json.Marshal(out)
}

// associationInput decodes what a record has of the request.
func associationInput(input json.RawMessage) (*ssm.CreateAssociationInput, error) {
	in := &ssm.CreateAssociationInput{}
	if err := awsjson.Unmarshal(input, in); err != nil {
		return nil, fmt.Errorf("read an association: %w", storeFault(err))
	}
	return in, nil
}

func noAssociation(id string) error {
	return refuse(codeNoAssociation, "The specified association doesn't exist: there is no association %s. ListAssociations shows those that there are.", id)
}

// getAssociation returns an association by id.
func (c *call) getAssociation(id string) (raftstore.Association, error) {
	a, err := raftstore.GetAssociation(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return a, noAssociation(id)
	}
	return a, err
}

// namedAssociation finds an association by its id, or one that was made with
// InstanceId by its document and node.
func (c *call) namedAssociation(id, name, nodeID *string) (raftstore.Association, error) {
	switch {
	case id != nil && (name != nil || nodeID != nil):
		return raftstore.Association{}, refuse(codeValidation, "Give AssociationId, or Name and InstanceId, not both.")
	case id != nil:
		return c.getAssociation(*id)
	case name == nil || nodeID == nil:
		return raftstore.Association{}, refuse(codeValidation, "Give AssociationId, or Name and InstanceId.")
	}
	found, err := c.associationOn(*name, *nodeID)
	if err == nil && found == nil {
		return raftstore.Association{}, refuse(codeNoAssociation, "The specified association doesn't exist: none was made with the document %s and InstanceId %s. An association with Targets is named by its AssociationId.", *name, *nodeID)
	}
	if err != nil {
		return raftstore.Association{}, err
	}
	return *found, nil
}

// associationOn is the association that was made with InstanceId, nil for none.
func (c *call) associationOn(document, nodeID string) (found *raftstore.Association, err error) {
	name := documentNameOf(document)
	var failed error
	err = raftstore.ScanAssociations(c, "", func(a raftstore.Association) bool {
		if a.DocumentName != name {
			return true
		}
		var in *ssm.CreateAssociationInput
		if in, failed = associationInput(a.Input); failed != nil {
			return false
		}
		if aws.ToString(in.InstanceId) == nodeID {
			found = &a
		}
		return found == nil
	})
	return found, errors.Join(err, failed)
}

func (c *call) createAssociation(in *ssm.CreateAssociationInput) (*ssm.CreateAssociationOutput, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := checkTagKeys(tags, "association"); err != nil {
		return nil, err
	}
	count, err := raftstore.CountAssociations(c)
	if err != nil {
		return nil, err
	}
	a, state, err := c.makeAssociation(in, c.in.Body, tags, count.Associations)
	if err != nil {
		return nil, err
	}
	c.txn.PutAssociationCount(count)
	c.putNewAssociation(a, state)
	c.resource = a.ID
	described, err := c.describeNewAssociation(a, state)
	if err != nil {
		return nil, err
	}
	return &ssm.CreateAssociationOutput{AssociationDescription: described}, nil
}

// makeAssociation checks all that an association must be and makes its first records.
// have is how many there are.
func (c *call) makeAssociation(in *ssm.CreateAssociationInput, body []byte, tags map[string]string, have int) (a raftstore.Association, state raftstore.AssociationState, err error) {
	input, err := keepMembers(body, nil)
	if err != nil {
		return a, state, err
	}
	document, err := c.checkAssociation(in, input)
	if err != nil {
		return a, state, err
	}
	if node := aws.ToString(in.InstanceId); node != "" {
		other, err := c.associationOn(document, node)
		if err != nil {
			return a, state, err
		}
		if other != nil {
			return a, state, refuse(codeAssociationExists, "The specified association already exists: %s has the document %s on %s.", other.ID, document, node)
		}
	}
	if have >= maxAssociations {
		return a, state, refuse(codeAssociationLimit, "You can have at most %d active associations: delete one that is not needed.", maxAssociations)
	}
	a = raftstore.Association{
		ID: uuid.NewString(), Version: 1, Input: input, DocumentName: document,
		CreatedAt: c.now, UpdatedAt: c.now, ScheduledSince: c.now, Caller: c.who.name, Tags: tags,
	}
	state = raftstore.AssociationState{ID: a.ID}
	state.NextDue, err = firstDue(in, a.ScheduledSince, c.now)
	return a, state, err
}

// putNewAssociation writes a new association and what is due of it.
func (c *call) putNewAssociation(a raftstore.Association, state raftstore.AssociationState) {
	c.txn.PutAssociation(a)
	c.txn.PutAssociationState(state)
	c.putVersion(a, state)
}

// putVersion writes the version that an association has now, and what is due of it.
// The same transaction writes association and state.
func (c *call) putVersion(a raftstore.Association, state raftstore.AssociationState) {
	c.txn.PutNewAssociationVersion(raftstore.AssociationVersion{
		AssociationID: a.ID, Number: a.Version, Input: a.Input, CreatedAt: c.now, Caller: c.who.name,
	})
	// It is due at once; whether that is a run is the leader's to decide.
	c.txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: a.ID, At: c.now, Cause: raftstore.AssociationChanged + strconv.Itoa(a.Version)})
	if a.Version > 1 {
		c.txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: a.ID, At: c.now, Cause: raftstore.AssociationTargets + strconv.Itoa(a.Version)})
	}
	if !state.NextDue.IsZero() {
		c.txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: a.ID, At: state.NextDue, Cause: raftstore.AssociationScheduled})
	}
}

func (c *call) updateAssociation(in *ssm.UpdateAssociationInput) (*ssm.UpdateAssociationOutput, error) {
	a, err := c.getAssociation(*in.AssociationId)
	if err != nil {
		return nil, err
	}
	if v := aws.ToString(in.AssociationVersion); v != "" && v != versionLatest && v != strconv.Itoa(a.Version) {
		return nil, refuse(codeInvalidAssociationVersion, "The version %s isn't the latest: the association %s is at version %d, and only that can be updated.", v, a.ID, a.Version)
	}
	if a.Version >= maxAssociationVersions {
		return nil, refuse(codeAssociationVersionLimit, "You have reached the maximum number of versions allowed for an association: %d. Create a new one.", maxAssociationVersions)
	}
	state, err := raftstore.GetAssociationState(c, a.ID)
	if err != nil {
		return nil, fmt.Errorf("read the state of association %s: %w", a.ID, err)
	}
	before, err := associationInput(a.Input)
	if err != nil {
		return nil, err
	}
	// All is replaced, but for what no association can be without.
	if a.Input, err = keepMembers(c.in.Body, a.Input, "Name", "Targets", "InstanceId"); err != nil {
		return nil, err
	}
	merged, err := associationInput(a.Input)
	if err != nil {
		return nil, err
	}
	if len(in.Targets) > 0 && merged.InstanceId != nil {
		return nil, refuse("InvalidUpdate", "The update isn't valid: the association was made with InstanceId %s and cannot get Targets. Create a new one.", *merged.InstanceId)
	}
	unsupported := *merged
	unsupported.OutputLocation, unsupported.CalendarNames, unsupported.TargetLocations, unsupported.TargetMaps = in.OutputLocation, in.CalendarNames, in.TargetLocations, in.TargetMaps
	unsupported.AlarmConfiguration, unsupported.AssociationDispatchAssumeRole, unsupported.AutomationTargetParameterName = in.AlarmConfiguration, in.AssociationDispatchAssumeRole, in.AutomationTargetParameterName
	if a.DocumentName, err = c.checkAssociation(&unsupported, a.Input); err != nil {
		return nil, err
	}
	a.Version++
	a.UpdatedAt = c.now
	if aws.ToString(before.ScheduleExpression) != aws.ToString(merged.ScheduleExpression) || aws.ToInt32(before.ScheduleOffset) != aws.ToInt32(merged.ScheduleOffset) {
		a.ScheduledSince = c.now
	}
	if !state.NextDue.IsZero() {
		c.txn.DeleteAssociationDue(raftstore.AssociationDue{AssociationID: a.ID, At: state.NextDue, Cause: raftstore.AssociationScheduled})
	}
	if state.NextDue, err = firstDue(merged, a.ScheduledSince, c.now); err != nil {
		return nil, err
	}
	c.txn.PutAssociation(a)
	c.txn.PutAssociationState(state)
	c.putVersion(a, state)
	c.resource = a.ID
	described, err := c.describeNewAssociation(a, state)
	if err != nil {
		return nil, err
	}
	return &ssm.UpdateAssociationOutput{AssociationDescription: described}, nil
}

func (c *call) updateAssociationStatus(in *ssm.UpdateAssociationStatusInput) (*ssm.UpdateAssociationStatusOutput, error) {
	if err := c.checkKnownNode(*in.InstanceId); err != nil {
		return nil, err
	}
	a, err := c.namedAssociation(nil, in.Name, in.InstanceId)
	if err != nil {
		return nil, err
	}
	s := in.AssociationStatus
	report := &raftstore.AssociationReport{
		Name: string(s.Name), Message: aws.ToString(s.Message), AdditionalInfo: aws.ToString(s.AdditionalInfo), Date: aws.ToTime(s.Date).UTC(),
	}
	if a.Reported != nil && a.Reported.Name == report.Name && a.Reported.Message == report.Message && a.Reported.AdditionalInfo == report.AdditionalInfo {
		return nil, refuse(codeStatusUnchanged, "The updated status is the same as the current status: %s, %q.", report.Name, report.Message)
	}
	a.Reported = report
	c.txn.PutAssociation(a)
	c.resource = a.ID
	described, err := c.describeAssociationNow(a)
	if err != nil {
		return nil, err
	}
	return &ssm.UpdateAssociationStatusOutput{AssociationDescription: described}, nil
}

func (c *call) deleteAssociation(in *ssm.DeleteAssociationInput) (*ssm.DeleteAssociationOutput, error) {
	a, err := c.namedAssociation(in.AssociationId, in.Name, in.InstanceId)
	if err != nil {
		return nil, err
	}
	state, err := raftstore.GetAssociationState(c, a.ID)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return nil, err
	}
	if !state.NextDue.IsZero() {
		c.txn.DeleteAssociationDue(raftstore.AssociationDue{AssociationID: a.ID, At: state.NextDue, Cause: raftstore.AssociationScheduled})
	}
	// Where it runs it may end; where it waits it does not begin.
	for _, id := range raftstore.ActiveAssociationExecutions(c, a.ID) {
		if err := c.cancelWaiting(id); err != nil {
			return nil, err
		}
	}
	c.txn.DeleteAssociation(a)
	c.txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: a.ID, At: c.now, Cause: raftstore.AssociationTargets + strconv.Itoa(a.Version)})
	c.resource = a.ID
	return &ssm.DeleteAssociationOutput{}, nil
}

// cancelWaiting asks to end a command where it has not started.
func (c *call) cancelWaiting(id string) error {
	_, activeIndex, active := c.Get(raftstore.ActiveCommandPrefix + id)
	if !active {
		return nil
	}
	request, err := raftstore.GetCommandCancel(c, id)
	if err != nil && !errors.Is(err, raftstore.ErrNotFound) {
		return err
	}
	request.CommandID, request.RequestedAt, request.Caller, request.Waiting = id, c.now, c.who.name, true
	c.txn.Require(raftstore.ActiveCommandPrefix+id, activeIndex)
	c.txn.PutCommandCancel(request)
	return nil
}

func (c *call) startAssociationsOnce(in *ssm.StartAssociationsOnceInput) (*ssm.StartAssociationsOnceOutput, error) {
	seen := map[string]bool{}
	for _, id := range in.AssociationIds {
		if seen[id] {
			return nil, refuse(codeInvalidAssociation, "The association isn't valid: %s is given twice.", id)
		}
		seen[id] = true
		a, err := c.getAssociation(id)
		if err != nil {
			return nil, err
		}
		c.txn.RequireAssociation(a)
		c.txn.PutAssociationDue(raftstore.AssociationDue{AssociationID: id, At: c.now, Cause: raftstore.AssociationOnce + uuid.NewString()})
	}
	return &ssm.StartAssociationsOnceOutput{}, nil
}

func (c *call) createAssociationBatch(in *ssm.CreateAssociationBatchInput) (*ssm.CreateAssociationBatchOutput, error) {
	if in.AssociationDispatchAssumeRole != nil {
		return nil, refuse(codeValidation, "The mesh has no roles. Leave out AssociationDispatchAssumeRole.")
	}
	var bodies struct{ Entries []json.RawMessage }
	if err := json.Unmarshal(c.in.Body, &bodies); err != nil {
		return nil, fmt.Errorf("read the entries: %w", err)
	}
	count, err := raftstore.CountAssociations(c)
	if err != nil {
		return nil, err
	}
	out := &ssm.CreateAssociationBatchOutput{Successful: []types.AssociationDescription{}, Failed: []types.FailedCreateAssociation{}}
	made := map[string]bool{}
	for i, body := range bodies.Entries {
		entry := &ssm.CreateAssociationInput{}
		if err := awsjson.Unmarshal(body, entry); err != nil {
			return nil, err
		}
		if node := aws.ToString(entry.InstanceId); node != "" {
			both := documentNameOf(*entry.Name) + " " + node
			if made[both] {
				return nil, refuse(codeDuplicateInstance, "You cannot specify a managed node ID in more than one entry of a document: %s is given twice.", node)
			}
			made[both] = true
		}
		a, state, err := c.makeAssociation(entry, body, nil, count.Associations+len(out.Successful))
		if refused := refusal(err); refused != nil {
			out.Failed = append(out.Failed, types.FailedCreateAssociation{
				Entry: &in.Entries[i], Fault: types.FaultClient, Message: aws.String(refused.ErrorCode() + ": " + refused.ErrorMessage()),
			})
			continue
		}
		if err != nil {
			return nil, err
		}
		c.putNewAssociation(a, state)
		described, err := c.describeNewAssociation(a, state)
		if err != nil {
			return nil, err
		}
		out.Successful = append(out.Successful, *described)
	}
	if len(out.Successful) > 0 {
		c.txn.PutAssociationCount(count)
	}
	if len(out.Successful) == 1 {
		c.resource = *out.Successful[0].AssociationId
	}
	return out, nil
}

func (c *call) describeAssociation(in *ssm.DescribeAssociationInput) (*ssm.DescribeAssociationOutput, error) {
	a, err := c.namedAssociation(in.AssociationId, in.Name, in.InstanceId)
	if err != nil {
		return nil, err
	}
	described, err := c.describeAssociationNow(a)
	if err != nil {
		return nil, err
	}
	wanted := aws.ToString(in.AssociationVersion)
	if wanted == "" || wanted == versionLatest || wanted == strconv.Itoa(a.Version) {
		return &ssm.DescribeAssociationOutput{AssociationDescription: described}, nil
	}
	number, err := strconv.Atoi(wanted)
	if err != nil {
		return nil, refuse(codeInvalidAssociationVersion, "The version %q isn't valid: give $LATEST or a number.", wanted)
	}
	version, err := raftstore.GetAssociationVersion(c, a.ID, number)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidAssociationVersion, "The association %s has no version %d: it is at version %d.", a.ID, number, a.Version)
	}
	if err != nil {
		return nil, err
	}
	a.Version, a.Input, a.UpdatedAt = version.Number, version.Input, version.CreatedAt
	state, err := raftstore.GetAssociationState(c, a.ID)
	if err != nil {
		return nil, err
	}
	if described, err = c.describe(a, state); err != nil {
		return nil, err
	}
	return &ssm.DescribeAssociationOutput{AssociationDescription: described}, nil
}

func (c *call) listAssociationVersions(in *ssm.ListAssociationVersionsInput) (*ssm.ListAssociationVersionsOutput, error) {
	a, err := c.getAssociation(*in.AssociationId)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	number := a.Version // the newest first
	if start != "" {
		if number, err = strconv.Atoi(start); err != nil {
			return nil, fmt.Errorf("read a page's position: %w", err)
		}
	}
	out := &ssm.ListAssociationVersionsOutput{AssociationVersions: []types.AssociationVersionInfo{}}
	next := ""
	for ; number > 0; number-- {
		if len(out.AssociationVersions) == pageSize(in.MaxResults) {
			next = strconv.Itoa(number)
			break
		}
		v, err := raftstore.GetAssociationVersion(c, a.ID, number)
		if err != nil {
			return nil, fmt.Errorf("read version %d of association %s: %w", number, a.ID, err)
		}
		in, err := associationInput(v.Input)
		if err != nil {
			return nil, err
		}
		out.AssociationVersions = append(out.AssociationVersions, types.AssociationVersionInfo{
			AssociationId: &a.ID, AssociationVersion: aws.String(strconv.Itoa(v.Number)), AssociationName: in.AssociationName, CreatedDate: &v.CreatedAt,
			Name: in.Name, DocumentVersion: shownVersion(in), Parameters: in.Parameters, Targets: in.Targets, ScheduleExpression: in.ScheduleExpression,
			ScheduleOffset: in.ScheduleOffset, Duration: in.Duration, MaxErrors: in.MaxErrors, MaxConcurrency: in.MaxConcurrency,
			ComplianceSeverity: in.ComplianceSeverity, SyncCompliance: in.SyncCompliance, ApplyOnlyAtCronInterval: in.ApplyOnlyAtCronInterval,
		})
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// shownVersion is the document version of an association: without one the default.
func shownVersion(in *ssm.CreateAssociationInput) *string {
	if in.DocumentVersion == nil {
		return aws.String(versionDefault)
	}
	return in.DocumentVersion
}

// describeAssociationNow describes an association as it stands.
func (c *call) describeAssociationNow(a raftstore.Association) (*types.AssociationDescription, error) {
	state, err := raftstore.GetAssociationState(c, a.ID)
	if err != nil {
		return nil, fmt.Errorf("read the state of association %s: %w", a.ID, err)
	}
	return c.describe(a, state)
}

// describeNewAssociation describes a version that was made just now.
func (c *call) describeNewAssociation(a raftstore.Association, state raftstore.AssociationState) (*types.AssociationDescription, error) {
	described, err := c.describe(a, state)
	if err == nil {
		described.Overview = &types.AssociationOverview{Status: aws.String(statusPending), DetailedStatus: aws.String("Creating")}
	}
	return described, err
}

func (c *call) describe(a raftstore.Association, state raftstore.AssociationState) (*types.AssociationDescription, error) {
	in, err := associationInput(a.Input)
	if err != nil {
		return nil, err
	}
	overview, err := c.associationOverview(a, state)
	if err != nil {
		return nil, err
	}
	out := &types.AssociationDescription{
		AssociationId: &a.ID, AssociationVersion: aws.String(strconv.Itoa(a.Version)), AssociationName: in.AssociationName,
		Name: in.Name, DocumentVersion: shownVersion(in), InstanceId: in.InstanceId, Targets: in.Targets, Parameters: in.Parameters,
		ScheduleExpression: in.ScheduleExpression, ScheduleOffset: in.ScheduleOffset, ApplyOnlyAtCronInterval: in.ApplyOnlyAtCronInterval,
		Duration: in.Duration, MaxErrors: in.MaxErrors, MaxConcurrency: in.MaxConcurrency,
		ComplianceSeverity: in.ComplianceSeverity, SyncCompliance: in.SyncCompliance,
		Date: &a.CreatedAt, LastUpdateAssociationDate: &a.UpdatedAt, Overview: overview,
		LastExecutionDate: optionalTime(state.RunAt), LastSuccessfulExecutionDate: optionalTime(state.SucceededAt),
	}
	if r := a.Reported; r != nil {
		out.Status = &types.AssociationStatus{Name: types.AssociationStatusName(r.Name), Message: &r.Message, AdditionalInfo: optional(r.AdditionalInfo), Date: timePointer(r.Date)}
	}
	return out, nil
}

func timePointer(t time.Time) *time.Time { return &t }
