package api

import (
	"context"
	"encoding/json"
	"time"

	"fleetmesh/internal/awsjson"
)

// operation is one entry of the table.
type operation struct {
	// name is as target returns it.
	name string
	// write: it changes the store; its answer is kept for repetitions.
	write bool
	// open: it needs no access key, because its input carries a proof of its own.
	open bool
	// counts: it decides by the number of documents.
	counts bool
	// patience is how long it may hold its answer by design, on top of its work.
	patience time.Duration

	// decode checks the body and returns the input.
	decode func(body []byte) (any, error)
	// handle runs on a moment of the store. wait, for the few operations that hold
	// their answer or ask another node, runs after it and reads moments itself.
	handle func(c *call, in any) (any, error)
	wait   func(ctx context.Context, c *call, in any) (any, error)
	// own says whether root of a plain member may do this with its own node; nil
	// means that only administrators may.
	own func(c *call, in any) error
	// mask returns the input as the audit log may show it.
	mask func(body []byte) json.RawMessage

	// local answers from what this node itself knows. It replaces the leader's
	// answer when ownView is set (the leader still says who may ask); without a
	// leader, and on the local socket only, it answers in its place.
	local   func(f *Face, in any) (any, error)
	ownView bool
}

// repeatable says whether a request may be sent to the leader again when the
// outcome of the first time is unknown.
func (op *operation) repeatable(invocationID string) bool {
	return !op.write || op.open || invocationID != ""
}

// option is a property that few operations have.
type option func(*operation)

// read enters an operation of Systems Manager that changes nothing.
func read[In, Out any](name string, handle func(*call, *In) (*Out, error), options ...option) *operation {
	op := &operation{
		name: name,
		decode: func(body []byte) (any, error) {
			if err := awsjson.Validate(name, body); err != nil {
				return nil, err
			}
			in := new(In)
			return in, awsjson.Unmarshal(body, in)
		},
		handle: handler(handle),
		mask:   func(body []byte) json.RawMessage { return awsjson.Mask(name, body) },
	}
	for _, set := range options {
		set(op)
	}
	return op
}

// write enters an operation of Systems Manager that changes the store.
func write[In, Out any](name string, handle func(*call, *In) (*Out, error), options ...option) *operation {
	op := read(name, handle, options...)
	op.write = true
	return op
}

// mesh enters an operation of agent/meshapi.
func mesh[In, Out any](name string, handle func(*call, *In) (*Out, error), options ...option) *operation {
	op := &operation{
		name: meshPrefix + name,
		decode: func(body []byte) (any, error) {
			in := new(In)
			return in, awsjson.UnmarshalStrict(body, in)
		},
		handle: handler(handle),
		mask:   func(body []byte) json.RawMessage { return body },
	}
	for _, set := range options {
		set(op)
	}
	return op
}

func handler[In, Out any](handle func(*call, *In) (*Out, error)) func(*call, any) (any, error) {
	return func(c *call, in any) (any, error) {
		out, err := handle(c, in.(*In))
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// writes marks an operation of the mesh that changes the store.
func writes() option { return func(op *operation) { op.write = true } }

// counted makes the operation decide alone among its kind.
func counted() option { return func(op *operation) { op.counts = true } }

// masks replaces how the audit log shows the input.
func masks(mask func(body []byte) json.RawMessage) option {
	return func(op *operation) { op.mask = mask }
}

// ownNode lets root of a member use the operation within what may says.
func ownNode[In any](may func(*call, *In) error) option {
	return func(op *operation) { op.own = func(c *call, in any) error { return may(c, in.(*In)) } }
}

// anyRoot lets root of every member use the operation.
func anyRoot() option {
	return func(op *operation) { op.own = func(*call, any) error { return nil } }
}

// waits makes the operation go on after its handler, for up to patience.
func waits[In, Out any](patience time.Duration, wait func(context.Context, *call, *In) (*Out, error)) option {
	return func(op *operation) {
		op.patience = patience
		op.wait = func(ctx context.Context, c *call, in any) (any, error) {
			out, err := wait(ctx, c, in.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		}
	}
}

// fromGossip gives the operation an answer of this node's own.
func fromGossip[In, Out any](ownView bool, local func(*Face, *In) (*Out, error)) option {
	return func(op *operation) {
		op.ownView = ownView
		op.local = func(f *Face, in any) (any, error) {
			out, err := local(f, in.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		}
	}
}

// operationTable is everything that the mesh can do. What is not in it is
// answered with UnknownOperationException.
func operationTable() map[string]*operation {
	table := map[string]*operation{}
	for _, op := range []*operation{
		write("SendCommand", (*call).sendCommand, ownNode((*call).maySendCommand)),
		write("CancelCommand", (*call).cancelCommand, ownNode((*call).mayCancelCommand)),
		read("ListCommands", (*call).listCommands, ownNode((*call).mayListCommands)),
		read("ListCommandInvocations", (*call).listCommandInvocations, ownNode((*call).mayListInvocations)),
		read("GetCommandInvocation", (*call).getCommandInvocation, ownNode((*call).mayGetInvocation)),

		read("DescribeInstanceInformation", (*call).describeInstanceInformation, anyRoot()),
		write("DeregisterManagedInstance", (*call).deregisterManagedInstance),

		write("CreateActivation", (*call).createActivation),
		read("DescribeActivations", (*call).describeActivations),
		write("DeleteActivation", (*call).deleteActivation),

		write("AddTagsToResource", (*call).addTagsToResource),
		write("RemoveTagsFromResource", (*call).removeTagsFromResource),
		read("ListTagsForResource", (*call).listTagsForResource),

		write("CreateDocument", (*call).createDocument, masks(maskContent), counted()),
		write("UpdateDocument", (*call).updateDocument, masks(maskContent)),
		write("UpdateDocumentDefaultVersion", (*call).updateDocumentDefaultVersion),
		write("DeleteDocument", (*call).deleteDocument),
		read("GetDocument", (*call).getDocument),
		read("DescribeDocument", (*call).describeDocument),
		read("ListDocuments", (*call).listDocuments),
		read("ListDocumentVersions", (*call).listDocumentVersions),
		write("ModifyDocumentPermission", (*call).modifyDocumentPermission),
		read("DescribeDocumentPermission", (*call).describeDocumentPermission),

		write("CreatePatchBaseline", (*call).createPatchBaseline),
		write("UpdatePatchBaseline", (*call).updatePatchBaseline),
		write("DeletePatchBaseline", (*call).deletePatchBaseline),
		read("GetPatchBaseline", (*call).getPatchBaseline),
		read("DescribePatchBaselines", (*call).describePatchBaselines),
		write("RegisterDefaultPatchBaseline", (*call).registerDefaultPatchBaseline),
		read("GetDefaultPatchBaseline", (*call).getDefaultPatchBaseline),
		write("RegisterPatchBaselineForPatchGroup", (*call).registerPatchBaselineForPatchGroup),
		write("DeregisterPatchBaselineForPatchGroup", (*call).deregisterPatchBaselineForPatchGroup),
		read("GetPatchBaselineForPatchGroup", (*call).getPatchBaselineForPatchGroup),
		read("DescribePatchGroups", (*call).describePatchGroups),
		read("DescribePatchGroupState", (*call).describePatchGroupState),
		read("DescribeAvailablePatches", (*call).describeAvailablePatches),
		read("DescribeEffectivePatchesForPatchBaseline", (*call).describeEffectivePatchesForPatchBaseline),
		read("GetDeployablePatchSnapshotForInstance", (*call).getDeployablePatchSnapshotForInstance),
		read("DescribePatchProperties", (*call).describePatchProperties),
		read("DescribeInstancePatchStates", (*call).describeInstancePatchStates),
		read("DescribeInstancePatchStatesForPatchGroup", (*call).describeInstancePatchStatesForPatchGroup),
		read("DescribeInstancePatches", (*call).describeInstancePatches),

		write("PutComplianceItems", (*call).putComplianceItems, masks(maskItems)),
		read("ListComplianceItems", (*call).listComplianceItems),
		read("ListComplianceSummaries", (*call).listComplianceSummaries),
		read("ListResourceComplianceSummaries", (*call).listResourceComplianceSummaries),

		write("CreateMaintenanceWindow", (*call).createMaintenanceWindow),
		write("UpdateMaintenanceWindow", (*call).updateMaintenanceWindow),
		write("DeleteMaintenanceWindow", (*call).deleteMaintenanceWindow),
		read("GetMaintenanceWindow", (*call).getMaintenanceWindow),
		read("DescribeMaintenanceWindows", (*call).describeMaintenanceWindows),
		read("DescribeMaintenanceWindowSchedule", (*call).describeMaintenanceWindowSchedule),
		read("DescribeMaintenanceWindowsForTarget", (*call).describeMaintenanceWindowsForTarget),
		write("RegisterTargetWithMaintenanceWindow", (*call).registerTargetWithMaintenanceWindow),
		write("UpdateMaintenanceWindowTarget", (*call).updateMaintenanceWindowTarget),
		write("DeregisterTargetFromMaintenanceWindow", (*call).deregisterTargetFromMaintenanceWindow),
		read("DescribeMaintenanceWindowTargets", (*call).describeMaintenanceWindowTargets),
		write("RegisterTaskWithMaintenanceWindow", (*call).registerTaskWithMaintenanceWindow),
		write("UpdateMaintenanceWindowTask", (*call).updateMaintenanceWindowTask),
		write("DeregisterTaskFromMaintenanceWindow", (*call).deregisterTaskFromMaintenanceWindow),
		read("GetMaintenanceWindowTask", (*call).getMaintenanceWindowTask),
		read("DescribeMaintenanceWindowTasks", (*call).describeMaintenanceWindowTasks),
		read("DescribeMaintenanceWindowExecutions", (*call).describeMaintenanceWindowExecutions),
		read("DescribeMaintenanceWindowExecutionTasks", (*call).describeMaintenanceWindowExecutionTasks),
		read("DescribeMaintenanceWindowExecutionTaskInvocations", (*call).describeMaintenanceWindowExecutionTaskInvocations),
		read("GetMaintenanceWindowExecution", (*call).getMaintenanceWindowExecution),
		read("GetMaintenanceWindowExecutionTask", (*call).getMaintenanceWindowExecutionTask),
		read("GetMaintenanceWindowExecutionTaskInvocation", (*call).getMaintenanceWindowExecutionTaskInvocation),
		write("CancelMaintenanceWindowExecution", (*call).cancelMaintenanceWindowExecution),

		write("CreateAssociation", (*call).createAssociation),
		write("CreateAssociationBatch", (*call).createAssociationBatch),
		write("UpdateAssociation", (*call).updateAssociation),
		write("UpdateAssociationStatus", (*call).updateAssociationStatus),
		write("DeleteAssociation", (*call).deleteAssociation),
		write("StartAssociationsOnce", (*call).startAssociationsOnce),
		read("DescribeAssociation", (*call).describeAssociation),
		read("ListAssociations", (*call).listAssociations),
		read("ListAssociationVersions", (*call).listAssociationVersions),
		read("DescribeAssociationExecutions", (*call).describeAssociationExecutions),
		read("DescribeAssociationExecutionTargets", (*call).describeAssociationExecutionTargets),
		read("DescribeInstanceAssociationsStatus", (*call).describeInstanceAssociationsStatus),
		read("DescribeEffectiveInstanceAssociations", (*call).describeEffectiveInstanceAssociations),

		mesh("Status", (*call).status, anyRoot(), fromGossip(false, (*Face).gossipStatus)),
		mesh("Members", (*call).members, anyRoot(), fromGossip(true, (*Face).gossipMembers)),
		mesh("CreateActivation", (*call).meshCreateActivation, writes()),
		mesh("Enrol", (*call).enrol, writes(), masks(maskEnrolment), func(op *operation) { op.open = true }),
		mesh("WatchCommand", (*call).checkWatch, ownNode((*call).mayWatch), waits(maxWatch, watchCommand)),
		mesh("ReadOutput", (*call).checkReadOutput, ownNode((*call).mayReadOutput), waits(maxOutputWait, readOutput)),
		mesh("DescribeAssociationRuns", (*call).describeAssociationRuns),
		mesh("DescribePatchStatus", (*call).describePatchStatus),
		mesh("GetPatchReport", (*call).getPatchReport),
		mesh("Keyring", (*call).keyring, writes()),
	} {
		table[op.name] = op
	}
	return table
}
