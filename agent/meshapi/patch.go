package meshapi

import "time"

// DescribePatchStatusInput asks how all nodes stand, from NextToken on.
type DescribePatchStatusInput struct {
	NextToken string `json:",omitempty"`
}

// DescribePatchStatusOutput has every enrolled node, by id, also those that have
// never told anything.
type DescribePatchStatusOutput struct {
	// Now is the mesh's time, by which ages are counted.
	Now time.Time
	// StaleAfterSeconds is the setting patch-stale-after.
	StaleAfterSeconds int64
	Nodes             []NodePatchStatus
	NextToken         string `json:",omitempty"`
}

// NodePatchStatus is how a node stands.
type NodePatchStatus struct {
	NodeId          string
	Name            string
	Platform        string // Debian GNU/Linux 12
	OperatingSystem string `json:",omitempty"`
	PatchGroup      string `json:",omitempty"`
	// Status is COMPLIANT, NON_COMPLIANT, STALE or UNKNOWN, Reason why it is not
	// compliant, in a sentence, or that something could not be known.
	Status string
	Reason string `json:",omitempty"`
	// OverallSeverity is the gravest level of what is not compliant.
	OverallSeverity string `json:",omitempty"`

	// What follows is of the last operation that told anything; OperationEndTime is nil
	// when there was none. MetadataTime is when its oldest source was refreshed.
	BaselineId       string     `json:",omitempty"`
	Operation        string     `json:",omitempty"`
	CommandId        string     `json:",omitempty"`
	OperationEndTime *time.Time `json:",omitempty"`
	AgeSeconds       int64
	MetadataTime     *time.Time `json:",omitempty"`
	PendingReboot    bool       `json:",omitempty"`
	Counts           PatchCounts
	NonCompliant     PatchLevels
	// Problem is why a later operation failed, at ProblemTime.
	Problem     string     `json:",omitempty"`
	ProblemTime *time.Time `json:",omitempty"`
}

// PatchCounts are InstancePatchState's.
type PatchCounts struct {
	Installed, InstalledOther, InstalledPendingReboot, InstalledRejected int
	Missing, Failed, NotApplicable                                       int
	CriticalNonCompliant, SecurityNonCompliant, OtherNonCompliant        int
}

// PatchLevels count what is not compliant by compliance level.
type PatchLevels struct {
	Critical, High, Medium, Low, Informational, Unspecified int
}

// GetPatchReportInput asks for all that is known of a node's patches.
type GetPatchReportInput struct{ NodeId string }

// GetPatchReportOutput is what the node's last operation told.
type GetPatchReportOutput struct {
	Now     time.Time
	Node    NodePatchStatus
	Patches []PatchDetail
	// Pending are versions that are offered and not approved, or not yet.
	Pending []PendingPatch `json:",omitempty"`
	Sources []PatchSource  `json:",omitempty"`
	// Omitted is how many patches are counted and not listed.
	Omitted       int      `json:",omitempty"`
	Evidence      []string `json:",omitempty"` // of a reboot that is needed
	Services      []string `json:",omitempty"` // that run on with deleted files
	Interruptions []string `json:",omitempty"`
	Repaired      []string `json:",omitempty"`
	Gaps          []string `json:",omitempty"` // what could not be known
	Notes         []string `json:",omitempty"`
}

// PatchDetail is a patch with the reason of its state.
type PatchDetail struct {
	Title           string
	KBId            string
	State           string
	Classification  string     `json:",omitempty"`
	Severity        string     `json:",omitempty"`
	ComplianceLevel string     `json:",omitempty"`
	Security        bool       `json:",omitempty"`
	InstalledTime   *time.Time `json:",omitempty"`
	Replaces        string     `json:",omitempty"`
	Held            bool       `json:",omitempty"` // the node's configuration forbids to install it
	CVEIds          []string   `json:",omitempty"`
	AdvisoryIds     []string   `json:",omitempty"`
	Reason          string     `json:",omitempty"`
}

// PendingPatch is a version that is not approved; ApprovalDate is when it will be.
type PendingPatch struct {
	Title        string
	Reason       string     `json:",omitempty"`
	ApprovalDate *time.Time `json:",omitempty"`
	CVEIds       []string   `json:",omitempty"`
	AdvisoryIds  []string   `json:",omitempty"`
}

// PatchSource is a repository of the node.
type PatchSource struct {
	Name      string
	UpdatedAt *time.Time `json:",omitempty"` // by its publisher
	FetchedAt *time.Time `json:",omitempty"` // by the node
	Problem   string     `json:",omitempty"`
}
