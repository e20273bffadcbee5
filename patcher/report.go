package patcher

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Order is one operation of AWS-RunPatchBaseline on one machine. It travels with the
// job, and is the same for all machines of a run with the same baseline.
type Order struct {
	Operation    types.PatchOperationType // Scan, Install
	RebootOption types.RebootOption       // RebootIfNeeded, NoReboot
	SnapshotId   string                   `json:",omitempty"`
	PatchGroup   string                   `json:",omitempty"`
	// Baseline is frozen for the run.
	Baseline Baseline
	// Override is the content of an install override list, "" when there is none;
	// OverrideName is where it came from.
	Override     string `json:",omitempty"`
	OverrideName string `json:",omitempty"`
	// FirstSeen is when the mesh first saw a version of a package anywhere, by the
	// patch's title: the base of ApproveAfterDays where the publisher gives no date. A
	// version that it lacks counts as seen now, so it must have the old ones too.
	FirstSeen map[string]time.Time `json:",omitempty"`
	// Now is the mesh's time when the run began; approval is judged by it on all nodes.
	Now time.Time
}

// Patch is one patch of a Report, as PatchComplianceData says it, and why.
type Patch struct {
	Title          string // name.arch:version
	KBId           string // name.arch
	Classification string `json:",omitempty"` // Security, Bugfix …; of apt "Security" or ""
	Severity       string `json:",omitempty"` // as SSM's filters write it
	State          types.PatchComplianceDataState
	InstalledTime  time.Time `json:",omitzero"`
	CVEIds         []string  `json:",omitempty"` // of what is missing or failed only
	// ComplianceLevel is that of the rule or list that approved the patch.
	ComplianceLevel types.PatchComplianceLevel `json:",omitempty"`
	// Security: the patch is for security, whatever the family calls it.
	Security bool `json:",omitempty"`
	// Replaces is the version that is installed, of a patch that is not.
	Replaces string `json:",omitempty"`
	// Held: the machine's configuration forbids to install it.
	Held    bool     `json:",omitempty"`
	Notices []string `json:",omitempty"` // ids
	// Reason says in a sentence why the patch is in this state: which rule, list or
	// missing approval decided; what the package manager said.
	Reason string
}

// Pending is a version that is offered and not approved, or not yet.
type Pending struct {
	Title  string
	Reason string
	// From is when it becomes approved by a delay; zero when it never does.
	From time.Time `json:",omitzero"`
}

// Offer is what the mesh's catalogue learns of a version that a source offers, for
// DescribeAvailablePatches, DescribeEffectivePatchesForPatchBaseline and the first-seen
// ledger.
type Offer struct {
	Candidate
	Security bool
}

// Omitted are numbers of what was left out of a report: patches by state, and what is
// pending or offered.
type Omitted struct {
	Installed      int `json:",omitempty"`
	InstalledOther int `json:",omitempty"`
	Others         int `json:",omitempty"`
}

// Report is the result of an Order.
type Report struct {
	Operation    types.PatchOperationType
	RebootOption types.RebootOption `json:",omitempty"`
	BaselineId   string
	BaselineName string `json:",omitempty"`
	SnapshotId   string `json:",omitempty"`
	PatchGroup   string `json:",omitempty"`
	OverrideName string `json:",omitempty"`
	Platform     Platform
	Manager      string
	StartedAt    time.Time
	EndedAt      time.Time
	// NoRebootInstallAt is when patches were last installed by NoReboot, zero for never.
	NoRebootInstallAt time.Time `json:",omitzero"`

	Patches []Patch
	Pending []Pending `json:",omitempty"`
	Offers  []Offer   `json:",omitempty"`
	// NotApplicable counts offered packages that the machine lacks.
	NotApplicable int `json:",omitempty"`
	// Omitted counts what EncodeReport had no room for.
	Omitted Omitted `json:",omitzero"`

	Sources       []Source       `json:",omitempty"`
	Reboot        Reboot         `json:",omitzero"`
	Interruptions []Interruption `json:",omitempty"`
	Repaired      []string       `json:",omitempty"`
	// Notes are sentences on what is worth a person's look: configuration files that
	// were kept, packages that could not be repaired.
	Notes []string `json:",omitempty"`
	// Rebooting: the machine is to be started anew, and the order goes on after that.
	Rebooting bool `json:",omitempty"`
	// Gaps are sentences on what could not be known: Evaluation.Gaps.
	Gaps []string `json:",omitempty"`
	// Problem is why the operation failed as a whole, a sentence; "" when it did not.
	Problem string `json:",omitempty"`
}
