package raftstore

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// SeverityCounts are numbers of items by compliance level.
type SeverityCounts struct {
	Critical      int `json:",omitempty"`
	High          int `json:",omitempty"`
	Medium        int `json:",omitempty"`
	Low           int `json:",omitempty"`
	Informational int `json:",omitempty"`
	Unspecified   int `json:",omitempty"`
}

// Total is the number of all items.
func (c SeverityCounts) Total() int {
	return c.Critical + c.High + c.Medium + c.Low + c.Informational + c.Unspecified
}

// PatchCounts are the counters of InstancePatchState.
type PatchCounts struct {
	Installed              int
	InstalledOther         int
	InstalledPendingReboot int
	InstalledRejected      int
	Missing                int
	Failed                 int
	NotApplicable          int
	CriticalNonCompliant   int
	SecurityNonCompliant   int
	OtherNonCompliant      int
}

// PatchState is what is known of a node's patches by its last operation.
type PatchState struct {
	Meta
	NodeID          string
	OperatingSystem string
	Product         string
	Manager         string // apt, dnf, yum, zypper

	PatchGroup   string
	BaselineID   string
	SnapshotID   string
	OverrideName string // of an install override list
	Operation    string // types.PatchOperationType
	RebootOption string
	CommandID    string // whose operation it was
	// StartedAt and EndedAt are the operation's, by the node's clock, but never later
	// than the commit. EndedAt is zero, and all figures are, while none has succeeded.
	StartedAt         time.Time
	EndedAt           time.Time
	NoRebootInstallAt time.Time
	// MetadataAt is when the oldest of the sources was refreshed.
	MetadataAt time.Time

	Counts PatchCounts
	// Compliant and NonCompliant count the patches by the level of their compliance.
	Compliant    SeverityCounts
	NonCompliant SeverityCounts
	// OverallSeverity is the gravest level of what is not compliant, as
	// types.PatchComplianceLevel.
	OverallSeverity string
	// PendingReboot: the machine must be started anew, by its own signs.
	PendingReboot bool
	// Incomplete: a source was not read at all, so that what is missing is not known.
	Incomplete bool
	// Gaps is how many sentences the list has on what could not be known.
	Gaps int
	// Omitted is how many patches found no room in the list; all are counted.
	Omitted int
	// Problem is why the last operation failed as a whole, at ProblemAt. The figures
	// are those of the operation before, if there was one.
	Problem   string
	ProblemAt time.Time
}

// Known reports whether the node has ever told what patches it has.
func (s *PatchState) Known() bool { return !s.EndedAt.IsZero() }

// PatchEntry is one patch of a node, as patcher.Patch.
type PatchEntry struct {
	Title           string    `json:"t"`
	KBID            string    `json:"k,omitempty"` // in the store "" where the title begins with it
	Classification  string    `json:"c,omitempty"`
	Severity        string    `json:"s,omitempty"`
	State           string    `json:"e"`
	InstalledAt     time.Time `json:"i,omitzero"`
	CVEs            []string  `json:"v,omitempty"`
	ComplianceLevel string    `json:"l,omitempty"`
	Security        bool      `json:"y,omitempty"`
	Replaces        string    `json:"r,omitempty"`
	Held            bool      `json:"h,omitempty"` // the node's configuration forbids to install it
	Notices         []string  `json:"n,omitempty"`
	Reason          string    `json:"w,omitempty"`
}

// PendingPatch is a version that is offered and not approved, or not yet.
type PendingPatch struct {
	Title  string    `json:"t"`
	Reason string    `json:"w,omitempty"`
	From   time.Time `json:"f,omitzero"`
}

// PatchSource is a repository of a node as the operation left it.
type PatchSource struct {
	Name      string
	UpdatedAt time.Time `json:",omitzero"`
	FetchedAt time.Time `json:",omitzero"`
	Problem   string    `json:",omitempty"`
}

// PatchList is what queries about one node read: all that an operation has told
// besides the figures.
type PatchList struct {
	Patches       []PatchEntry
	Pending       []PendingPatch `json:",omitempty"`
	Sources       []PatchSource  `json:",omitempty"`
	Evidence      []string       `json:",omitempty"` // of a reboot that is needed
	Services      []string       `json:",omitempty"` // that run on with deleted files
	Interruptions []string       `json:",omitempty"`
	Repaired      []string       `json:",omitempty"`
	Gaps          []string       `json:",omitempty"` // what could not be known
	Notes         []string       `json:",omitempty"`
}

// patchList is the list as it lies in the store: JSON, deflated.
type patchList struct {
	Content []byte
}

const (
	patchStatePrefix  = "patch-state/"
	patchListPrefix   = "patch-list/"
	patchStateVersion = 1
	patchListVersion  = 1

	// MaxPatchList is how many bytes a list may have, deflated. In an entry of the log
	// it takes a third more, and room is left for the invocation.
	MaxPatchList = 96 << 10
	// maxListText bounds what is inflated: no list of ours comes near it.
	maxListText = 64 << 20
)

// PatchStatePrefix is the prefix to watch for changes of patch states.
const PatchStatePrefix = patchStatePrefix

// GetPatchState returns what is known of a node's patches, or ErrNotFound.
func GetPatchState(r Reader, nodeID string) (PatchState, error) {
	var s PatchState
	index, found, err := getRecord(r, patchStatePrefix+nodeID, patchStateVersion, &s)
	if err == nil && !found {
		err = ErrNotFound
	}
	s.ModifyIndex = index
	return s, err
}

// ScanPatchStates calls fn for each node with a state, from node start on, in order
// of ids, until fn returns false. Some may be removed meanwhile.
func ScanPatchStates(r Reader, start string, fn func(PatchState) bool) error {
	return scanRecords(r, patchStatePrefix, start, patchStateVersion, func(s PatchState, index uint64) bool {
		s.ModifyIndex = index
		return fn(s)
	})
}

// GetPatchList returns a node's patches, or ErrNotFound.
func GetPatchList(r Reader, nodeID string) (PatchList, error) {
	var stored patchList
	var list PatchList
	_, found, err := getRecord(r, patchListPrefix+nodeID, patchListVersion, &stored)
	if err != nil {
		return list, err
	}
	if !found {
		return list, ErrNotFound
	}
	if err := inflateJSON(stored.Content, &list); err != nil {
		return list, fmt.Errorf("read the patches of %s: %w", nodeID, err)
	}
	for i := range list.Patches {
		if list.Patches[i].KBID == "" {
			list.Patches[i].KBID = idOfTitle(list.Patches[i].Title)
		}
	}
	return list, nil
}

// idOfTitle is the name.arch of name.arch:version, where the version may have an
// epoch.
func idOfTitle(title string) string {
	id, _, _ := strings.Cut(title, ":")
	return id
}

// PutPatchReport adds what an operation has told of a node: state and list replace
// those before. It returns false, and adds nothing, for a report that ended before
// the one that is stored. When the list has no room its least interesting entries
// are left out, what was installed by others first, and counted in state.Omitted.
// A state with a Problem and no figures (EndedAt zero) keeps the figures and the list
// that there are. The report may come again; it then changes nothing.
func PutPatchReport(r Reader, t *Txn, state PatchState, list PatchList) (bool, error) {
	was, err := GetPatchState(r, state.NodeID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if !state.Known() {
		if !state.ProblemAt.After(was.ProblemAt) || !state.ProblemAt.After(was.EndedAt) {
			return false, nil
		}
		kept := was
		kept.NodeID = state.NodeID
		kept.Problem, kept.ProblemAt = state.Problem, state.ProblemAt
		if !was.Known() {
			kept = state
			kept.ModifyIndex = was.ModifyIndex
		}
		t.putPatchState(kept)
		return true, nil
	}
	if !state.EndedAt.After(was.EndedAt) {
		return false, nil
	}
	state.ModifyIndex = was.ModifyIndex
	content, omitted, err := fitPatchList(list)
	if err != nil {
		return false, fmt.Errorf("keep the patches of %s: %w", state.NodeID, err)
	}
	state.Omitted += omitted
	t.putPatchState(state)
	t.Put(patchListPrefix+state.NodeID, encodeRecord(patchListVersion, patchList{Content: content}))
	return true, nil
}

func (t *Txn) putPatchState(s PatchState) {
	t.Require(patchStatePrefix+s.NodeID, s.ModifyIndex)
	t.Put(patchStatePrefix+s.NodeID, encodeRecord(patchStateVersion, s))
}

// DeletePatchState deletes all that a node has told of its patches.
func (t *Txn) DeletePatchState(nodeID string) {
	t.Delete(patchStatePrefix + nodeID)
	t.Delete(patchListPrefix + nodeID)
}

// fitPatchList deflates a list and leaves out what has no room.
func fitPatchList(list PatchList) (content []byte, omitted int, err error) {
	patches := make([]PatchEntry, len(list.Patches))
	copy(patches, list.Patches)
	for i := range patches {
		if patches[i].KBID == idOfTitle(patches[i].Title) {
			patches[i].KBID = ""
		}
	}
	list.Patches = patches
	for step := 0; ; step++ {
		if content, err = deflateJSON(list); err != nil || len(content) <= MaxPatchList {
			return content, len(patches) - len(list.Patches), err
		}
		switch step {
		case 0: // the reason of what is none of the baseline's business says little
			for i := range patches {
				if patches[i].State == patchInstalledOther {
					patches[i].Reason = ""
				}
			}
		case 1:
			list.Pending = nil
		case 2:
			list.Sources, list.Evidence, list.Services = first100(list.Sources), first100(list.Evidence), first100(list.Services)
			list.Interruptions, list.Repaired = first100(list.Interruptions), first100(list.Repaired)
			list.Gaps, list.Notes = first100(list.Gaps), first100(list.Notes)
		default:
			// What is left out is about what is too much, and a little more: a list is
			// packed a few times only, however large a node makes it.
			keep := len(list.Patches) * MaxPatchList / len(content) * 19 / 20
			list.Patches = fewerPatches(list.Patches, keep)
		}
	}
}

// states of types.PatchComplianceDataState that are left out first.
const (
	patchInstalledOther = "INSTALLED_OTHER"
	patchInstalled      = "INSTALLED"
)

// fewerPatches keeps so many of the most interesting entries, in their order.
func fewerPatches(patches []PatchEntry, keep int) []PatchEntry {
	rank := func(p *PatchEntry) int {
		switch p.State {
		case patchInstalledOther:
			return 0
		case patchInstalled:
			return 1
		}
		return 2
	}
	drop := len(patches) - max(min(keep, len(patches)-1), 0)
	var of [3]int // how many of each rank go
	var have [3]int
	for i := range patches {
		have[rank(&patches[i])]++
	}
	for r := range of {
		of[r] = min(drop, have[r])
		drop -= of[r]
	}
	kept := make([]PatchEntry, 0, len(patches))
	for i := range patches {
		if r := rank(&patches[i]); of[r] > 0 {
			of[r]--
			continue
		}
		kept = append(kept, patches[i])
	}
	return kept
}

func first100[T any](list []T) []T { return list[:min(len(list), 100)] }

func deflateJSON(v any) ([]byte, error) {
	text, err := encodeJSON(v)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func inflateJSON(content []byte, v any) error {
	r := flate.NewReader(bytes.NewReader(content))
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxListText))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}
