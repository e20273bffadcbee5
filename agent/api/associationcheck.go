package api

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/google/uuid"

	"fleetmesh/internal/schedule"
	"fleetmesh/raftstore"
)

const (
	codeInvalidSchedule = "InvalidSchedule"
)

// refusal is what the client is told of an error, nil for none and for a fault of the
// mesh's own.
func refusal(err error) smithy.APIError {
	var refused smithy.APIError
	if errors.As(err, &refused) && refused.ErrorFault() == smithy.FaultClient {
		return refused
	}
	return nil
}

// checkAssociation refuses what cannot be an association, and returns its document's
// name. input is what its record would keep of in.
func (c *call) checkAssociation(in *ssm.CreateAssociationInput, input json.RawMessage) (document string, err error) {
	if err := checkAssociationUnsupported(in); err != nil {
		return "", err
	}
	if len(input) > maxAssociationInput {
		return "", refuse(codeValidation, "The association has %d bytes; the limit is %d.", len(input), maxAssociationInput)
	}
	if err := checkAssociationTargets(in); err != nil {
		return "", err
	}
	if err := checkAssociationSchedule(in, c.now); err != nil {
		return "", err
	}
	command, _, err := composeCommand(c.Reader, associationCommand(in), uuid.NewString(), c.who.name, c.now)
	if refused := refusal(err); refused != nil && refused.ErrorCode() == codeInvalidDocument {
		// SendCommand's words are about commands.
		if found, findErr := c.findDocument(*in.Name, aws.ToString(in.DocumentVersion), ""); findErr == nil && found.head.Type == string(types.DocumentTypeAutomation) {
			return "", refuse(codeInvalidDocument, "The document %s is of type Automation, which this version of the mesh does not run: associations run documents of type Command.", found.head.Name)
		}
	}
	if err != nil {
		return "", err
	}
	if aws.ToString(in.InstanceId) != "" {
		if err := checkOldSchema(command); err != nil {
			return "", err
		}
	}
	return command.DocumentName, nil
}

// checkAssociationUnsupported refuses what the mesh does not do: to ignore it would be
// to lose somebody's output, calendar or alarm.
func checkAssociationUnsupported(in *ssm.CreateAssociationInput) error {
	switch {
	case in.OutputLocation != nil && in.OutputLocation.S3Location != nil:
		return refuse("InvalidOutputLocation", "The output location isn't valid: output to S3 is not supported. The whole output stays on the node that made it; `meshctl command output` reads it through any node. Leave out OutputLocation.")
	case len(in.TargetMaps) > 0:
		return refuse("InvalidTargetMaps", "TargetMap parameter isn't valid: TargetMaps are for Automation documents, which this version of the mesh does not run. Use Targets.")
	case in.AutomationTargetParameterName != nil:
		return refuse(codeInvalidDocument, "AutomationTargetParameterName is for Automation documents, which this version of the mesh does not run. Leave it out.")
	case len(in.TargetLocations) > 0:
		return refuse("InvalidTarget", "The target isn't valid: a mesh is one account and one region. Leave out TargetLocations.")
	case len(in.CalendarNames) > 0:
		return refuse(codeValidation, "This version of the mesh has no change calendars. Leave out CalendarNames.")
	case in.AlarmConfiguration != nil:
		return refuse(codeValidation, "The mesh knows no CloudWatch alarms. Leave out AlarmConfiguration.")
	case aws.ToString(in.AssociationDispatchAssumeRole) != "":
		return refuse(codeValidation, "The mesh has no roles. Leave out AssociationDispatchAssumeRole.")
	}
	return nil
}

func checkAssociationTargets(in *ssm.CreateAssociationInput) error {
	old := aws.ToString(in.InstanceId) != ""
	switch {
	case old && len(in.Targets) > 0:
		return refuse(codeInvalidTarget, "The target isn't valid: InstanceId and Targets exclude each other. Use Targets.")
	case !old && len(in.Targets) == 0:
		return refuse(codeInvalidTarget, "The target isn't valid: the association has none. Give Targets; Key=InstanceIds,Values=* means all nodes.")
	case old && (in.AssociationName != nil || in.DocumentVersion != nil || in.ScheduleExpression != nil || in.MaxErrors != nil || in.MaxConcurrency != nil):
		return refuse(codeValidation, "InstanceId goes with none of AssociationName, DocumentVersion, MaxErrors, MaxConcurrency and ScheduleExpression. Use Targets with Key=InstanceIds.")
	}
	for _, t := range in.Targets {
		if aws.ToString(t.Key) == raftstore.TargetUnsuccessful {
			return refuse(codeInvalidTarget, "The target key %q is for commands: an association is for the same nodes at each run. Use InstanceIds, tag:KEY or tag-key.", raftstore.TargetUnsuccessful)
		}
	}
	return nil
}

// checkOldSchema holds InstanceId to documents of schema 1.x, as Systems Manager does.
func checkOldSchema(command raftstore.Command) error {
	var head struct{ SchemaVersion string }
	if err := json.Unmarshal(command.Document, &head); err != nil {
		return nil // it was parsed before
	}
	if len(head.SchemaVersion) > 0 && head.SchemaVersion[0] == '1' {
		return nil
	}
	return refuse(codeValidation, "InstanceId is for documents of schema version 1.x; %s has %s. Use Targets with Key=InstanceIds.", command.DocumentName, head.SchemaVersion)
}

func checkAssociationSchedule(in *ssm.CreateAssociationInput, now time.Time) error {
	offset := aws.ToInt32(in.ScheduleOffset) != 0
	if aws.ToString(in.ScheduleExpression) == "" {
		switch {
		case in.ApplyOnlyAtCronInterval:
			return refuse(codeInvalidSchedule, "The schedule is invalid: ApplyOnlyAtCronInterval needs a ScheduleExpression, or the association would never run.")
		case offset:
			return refuse(codeInvalidSchedule, "The schedule is invalid: ScheduleOffset goes with a cron expression and ApplyOnlyAtCronInterval.")
		}
	}
	if in.Duration != nil && !in.ApplyOnlyAtCronInterval {
		return refuse(codeValidation, "Duration goes with ApplyOnlyAtCronInterval and a schedule.")
	}
	if aws.ToString(in.ScheduleExpression) == "" {
		return nil
	}
	parsed, err := schedule.Parse(*in.ScheduleExpression, schedule.Association)
	if err != nil {
		return invalidSchedule(err)
	}
	switch {
	case in.ApplyOnlyAtCronInterval && parsed.Form() == schedule.Rate:
		return refuse(codeInvalidSchedule, "The schedule is invalid: ApplyOnlyAtCronInterval isn't supported for rate expressions. Use cron(...) or at(...).")
	case offset && (parsed.Form() != schedule.Cron || !in.ApplyOnlyAtCronInterval):
		return refuse(codeInvalidSchedule, "The schedule is invalid: ScheduleOffset goes with a cron expression and ApplyOnlyAtCronInterval.")
	}
	next, err := firstDue(in, now, now)
	if err != nil {
		return err
	}
	if next.IsZero() && in.ApplyOnlyAtCronInterval {
		return refuse(codeInvalidSchedule, "The schedule is invalid: its times are over, and with ApplyOnlyAtCronInterval the association would never run.")
	}
	return nil
}

// invalidSchedule refuses what the schedule language does not have; its error says so
// already.
func invalidSchedule(err error) error {
	return refuse(codeInvalidSchedule, "The schedule is invalid: %s", strings.TrimPrefix(err.Error(), schedule.ErrInvalid.Error()+": "))
}

// firstDue is the first time of an association's schedule after a moment, zero for
// none.
func firstDue(in *ssm.CreateAssociationInput, since, after time.Time) (time.Time, error) {
	if aws.ToString(in.ScheduleExpression) == "" {
		return time.Time{}, nil
	}
	parsed, err := schedule.Parse(*in.ScheduleExpression, schedule.Association)
	if err != nil {
		return time.Time{}, invalidSchedule(err)
	}
	times, err := parsed.With(schedule.Terms{Offset: int(aws.ToInt32(in.ScheduleOffset)), Since: since})
	if err != nil {
		return time.Time{}, invalidSchedule(err)
	}
	next, _ := times.Next(after)
	return next, nil
}

// associationCommand is a command that an association could make, for its checks.
func associationCommand(in *ssm.CreateAssociationInput) *ssm.SendCommandInput {
	out := &ssm.SendCommandInput{
		DocumentName: in.Name, DocumentVersion: in.DocumentVersion, Parameters: in.Parameters, Targets: in.Targets,
		MaxConcurrency: in.MaxConcurrency, MaxErrors: in.MaxErrors,
	}
	if in.InstanceId != nil {
		out.InstanceIds = []string{*in.InstanceId}
	}
	return out
}

// checkNotAssociated refuses to delete a document that associations run.
func (c *call) checkNotAssociated(document string) error {
	count, err := raftstore.CountAssociations(c)
	if err != nil {
		return err
	}
	var ids []string
	err = raftstore.ScanAssociations(c, "", func(a raftstore.Association) bool {
		if a.DocumentName == document {
			ids = append(ids, a.ID)
		}
		return len(ids) < 5
	})
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		return refuse("AssociatedInstances", "You must disassociate a document from all managed nodes before you can delete it: delete these associations first: %s.", strings.Join(ids, ", "))
	}
	c.txn.PutAssociationCount(count) // none is made meanwhile
	return nil
}

// taggedAssociation returns an association, by its id.
func (c *call) taggedAssociation(id string) (*tagged, error) {
	a, err := raftstore.GetAssociation(c, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return nil, refuse(codeInvalidResource, "The resource ID isn't valid: there is no association %s.", id)
	}
	check := func(tags map[string]string) error { return checkTagKeys(tags, "association") }
	return &tagged{id: a.ID, tags: a.Tags, check: check, put: func(tags map[string]string) {
		a.Tags = tags
		c.txn.PutAssociation(a)
	}}, err
}
