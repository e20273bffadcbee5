package meshapi

import "time"

// DescribeAssociationRunsInput asks when associations run, of one with what ran and
// waits, or of all.
type DescribeAssociationRunsInput struct {
	AssociationId string `json:",omitempty"`
	NextToken     string `json:",omitempty"`
}

// DescribeAssociationRunsOutput has the associations in order of ids.
type DescribeAssociationRunsOutput struct {
	// Now is the mesh's time.
	Now          time.Time
	Associations []AssociationRuns
	NextToken    string `json:",omitempty"`
}

// AssociationRuns is what there is of an association's runs.
type AssociationRuns struct {
	AssociationId string
	// NextTime is the next time of its schedule, nil for none.
	NextTime *time.Time `json:",omitempty"`
	// Waiting and Runs are there when one association was asked for: the nodes that owe
	// a run, up to 100, and the last 50 runs.
	Waiting []AssociationWaiting `json:",omitempty"`
	Runs    []AssociationRun     `json:",omitempty"`
}

// AssociationWaiting is a node that runs an association when it answers.
type AssociationWaiting struct {
	NodeId string
	Since  time.Time
	Reason string
}

// AssociationRun says why a run was, or was not.
type AssociationRun struct {
	ExecutionId string
	// Cause is created, updated, scheduled, document, requested or nodes.
	Cause         string
	ScheduledTime *time.Time `json:",omitempty"`
	// Reason says why there was no command, or that a newer run ended this one.
	Reason string `json:",omitempty"`
}
