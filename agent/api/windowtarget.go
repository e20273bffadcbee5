package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

const (
	codeTargetInUse = "TargetInUseException"

	// maxWindowPlan bounds what an opening freezes, in bytes: the definitions of the
	// tasks and of the targets that they use, and what the plan says of each pair. It
	// is committed in one transaction (raftstore.MaxTxnSize).
	maxWindowPlan = 160 << 10
	// planPair is what a task at one of its targets takes in a plan.
	planPair = 160
)

// windowTargetMembers are those of a target's requests that its record keeps.
var windowTargetMembers = []string{"ResourceType", "Targets", "OwnerInformation", "Name", "Description"}

func (c *call) registerTargetWithMaintenanceWindow(in *ssm.RegisterTargetWithMaintenanceWindowInput) (*ssm.RegisterTargetWithMaintenanceWindowOutput, error) {
	asked := *in
	asked.ClientToken = nil
	request, err := requestHash(&asked)
	if err != nil {
		return nil, err
	}
	token := aws.ToString(in.ClientToken)
	if token != "" {
		made, err := raftstore.GetWindowTargetByToken(c, token)
		switch {
		case errors.Is(err, raftstore.ErrNotFound):
		case err != nil:
			return nil, err
		case made.Request != request:
			return nil, refuse(codeIdempotency, "The ClientToken was used for the target %s with other parameters.", made.ID)
		default:
			return &ssm.RegisterTargetWithMaintenanceWindowOutput{WindowTargetId: &made.ID}, nil
		}
	}
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	if in.ResourceType != types.MaintenanceWindowResourceTypeInstance {
		return nil, refuse(codeValidation, "The resource type %s is not supported, since a mesh has no resource groups: give the nodes of the group a tag and register INSTANCE with tag:KEY.", in.ResourceType)
	}
	if err := c.checkWindowTargets(in.Targets); err != nil {
		return nil, err
	}
	definition, err := mergeMembers(windowTargetMembers, c.in.Body)
	if err != nil {
		return nil, err
	}
	registered := 0
	if err := raftstore.ScanWindowTargets(c, w.ID, "", func(raftstore.WindowTarget) bool {
		registered++
		return true
	}); err != nil {
		return nil, err
	}
	if registered >= c.face.cfg.WindowTargets {
		return nil, refuse(codeResourceLimit, "A maintenance window has at most %d targets (setting window-target-limit).", c.face.cfg.WindowTargets)
	}
	target := raftstore.WindowTarget{
		WindowID: w.ID, ID: uuid.NewString(), Definition: definition, CreatedAt: c.now, ClientToken: token, Request: request,
	}
	c.txn.PutWindow(w)
	c.txn.PutWindowTarget(target)
	c.resource = w.ID + "/" + target.ID
	return &ssm.RegisterTargetWithMaintenanceWindowOutput{WindowTargetId: &target.ID}, nil
}

// checkWindowTargets refuses targets that no opening could resolve. Nodes that are
// removed later are left out at the opening.
func (c *call) checkWindowTargets(targets []types.Target) error {
	if len(targets) == 0 {
		return refuse(codeValidation, "A target has at least one key: InstanceIds, tag:KEY or tag-key.")
	}
	named, err := checkTargets(targets)
	if err != nil {
		return err
	}
	for _, t := range targets {
		if aws.ToString(t.Key) == raftstore.TargetUnsuccessful {
			return refuse(codeInvalidTarget, "The target key %s is for one command; a window has the tag %s for that.", raftstore.TargetUnsuccessful, raftstore.WindowTagResume)
		}
	}
	return c.checkEnrolled(named)
}

// windowTarget reads what a registered target is.
func windowTarget(record raftstore.WindowTarget) (*ssm.RegisterTargetWithMaintenanceWindowInput, error) {
	in := new(ssm.RegisterTargetWithMaintenanceWindowInput)
	if err := awsjson.Unmarshal(record.Definition, in); err != nil {
		return nil, fmt.Errorf("read the target %s of window %s: %w", record.ID, record.WindowID, storeFault(err))
	}
	return in, nil
}

func (c *call) findWindowTarget(windowID, id string) (raftstore.WindowTarget, error) {
	target, err := raftstore.GetWindowTarget(c, windowID, id)
	if errors.Is(err, raftstore.ErrNotFound) {
		return target, refuse(codeDoesNotExist, "The maintenance window %s has no target %s.", windowID, id)
	}
	return target, err
}

func (c *call) updateMaintenanceWindowTarget(in *ssm.UpdateMaintenanceWindowTargetInput) (*ssm.UpdateMaintenanceWindowTargetOutput, error) {
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	target, err := c.findWindowTarget(w.ID, *in.WindowTargetId)
	if err != nil {
		return nil, err
	}
	kept := windowTargetMembers
	if aws.ToBool(in.Replace) {
		if err := required(map[string]bool{"targets": in.Targets != nil}); err != nil {
			return nil, err
		}
		kept = []string{"ResourceType"}
	}
	if in.Targets != nil {
		if err := c.checkWindowTargets(in.Targets); err != nil {
			return nil, err
		}
	}
	if target.Definition, err = updatedMembers(windowTargetMembers, kept, target.Definition, c.in.Body); err != nil {
		return nil, err
	}
	if err := c.checkPlan(&w, &target, nil); err != nil {
		return nil, err
	}
	is, err := windowTarget(target)
	if err != nil {
		return nil, err
	}
	c.txn.PutWindow(w)
	c.txn.PutWindowTarget(target)
	c.resource = w.ID + "/" + target.ID
	return &ssm.UpdateMaintenanceWindowTargetOutput{
		WindowId: &w.ID, WindowTargetId: &target.ID, Targets: list(is.Targets), OwnerInformation: is.OwnerInformation, Name: is.Name, Description: is.Description,
	}, nil
}

// updatedMembers is a definition with the members of a request; of those before it
// has the kept ones.
func updatedMembers(all, kept []string, definition, body []byte) (json.RawMessage, error) {
	was, err := mergeMembers(kept, definition)
	if err != nil {
		return nil, err
	}
	return mergeMembers(all, was, body)
}

func (c *call) deregisterTargetFromMaintenanceWindow(in *ssm.DeregisterTargetFromMaintenanceWindowInput) (*ssm.DeregisterTargetFromMaintenanceWindowOutput, error) {
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	target, err := c.findWindowTarget(w.ID, *in.WindowTargetId)
	if err != nil {
		return nil, err
	}
	if aws.ToBool(in.Safe) {
		tasks, err := c.windowTasks(w.ID)
		if err != nil {
			return nil, err
		}
		for _, task := range tasks {
			if slices.Contains(task.targetIDs(), target.ID) {
				return nil, refuse(codeTargetInUse, "The target %s is used by the task %s: deregister the task first, or the target without Safe.", target.ID, task.record.ID)
			}
		}
	}
	c.txn.PutWindow(w)
	c.txn.DeleteWindowTarget(target)
	c.resource = w.ID + "/" + target.ID
	return &ssm.DeregisterTargetFromMaintenanceWindowOutput{WindowId: &w.ID, WindowTargetId: &target.ID}, nil
}

func (c *call) describeMaintenanceWindowTargets(in *ssm.DescribeMaintenanceWindowTargetsInput) (*ssm.DescribeMaintenanceWindowTargetsOutput, error) {
	filters, err := windowFilters(in.Filters, "Type", "WindowTargetId", "OwnerInformation")
	if err != nil {
		return nil, err
	}
	w, err := c.findWindow(*in.WindowId)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribeMaintenanceWindowTargetsOutput{Targets: []types.MaintenanceWindowTarget{}}
	next := ""
	var failed error
	err = raftstore.ScanWindowTargets(c, w.ID, start, func(record raftstore.WindowTarget) bool {
		var is *ssm.RegisterTargetWithMaintenanceWindowInput
		if is, failed = windowTarget(record); failed != nil {
			return false
		}
		if !fits(filters["Type"], func(v string) bool { return v == string(is.ResourceType) }) ||
			!fits(filters["WindowTargetId"], func(v string) bool { return v == record.ID }) ||
			!fits(filters["OwnerInformation"], func(v string) bool { return v == aws.ToString(is.OwnerInformation) }) {
			return true
		}
		if len(out.Targets) == pageSize(in.MaxResults) {
			next = record.ID
			return false
		}
		out.Targets = append(out.Targets, types.MaintenanceWindowTarget{
			WindowId: &w.ID, WindowTargetId: &record.ID, ResourceType: is.ResourceType, Targets: list(is.Targets),
			OwnerInformation: is.OwnerInformation, Name: is.Name, Description: is.Description,
		})
		return true
	})
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}
