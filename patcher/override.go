package patcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.yaml.in/yaml/v3"
)

// ErrInvalidOverride is wrapped where an install override list or a baseline
// override cannot be read.
var ErrInvalidOverride = errors.New("invalid override")

// maxOverride bounds both kinds of override, in bytes.
const maxOverride = 1 << 20

// OverrideList is an install override list: exactly these are installed, and the
// baseline is not asked.
type OverrideList struct {
	Patches []OverridePatch
}

// OverridePatch names versions. * stands for any characters, anywhere.
type OverridePatch struct {
	ID string // name.arch
	// Title narrows it to versions: name.arch:version, or the version alone.
	Title string
}

// ParseOverrideList reads the YAML of an install override list. Fields that it does
// not know are ignored, as SSM does.
func ParseOverrideList(data []byte) (*OverrideList, error) {
	if len(data) > maxOverride {
		return nil, fmt.Errorf("%w: the install override list has more than %d bytes", ErrInvalidOverride, maxOverride)
	}
	var file struct {
		Patches []struct {
			ID    string `yaml:"id"`
			Title string `yaml:"title"`
		} `yaml:"patches"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%w: read the install override list: %w", ErrInvalidOverride, err)
	}
	if len(file.Patches) == 0 {
		return nil, fmt.Errorf("%w: the install override list has no patches", ErrInvalidOverride)
	}
	list := &OverrideList{}
	for i, p := range file.Patches {
		id := strings.TrimSpace(p.ID)
		if id == "" {
			return nil, fmt.Errorf("%w: patch %d of the install override list has no id", ErrInvalidOverride, i+1)
		}
		list.Patches = append(list.Patches, OverridePatch{ID: id, Title: strings.TrimSpace(p.Title)})
	}
	return list, nil
}

// names tells whether the entry names a version.
func (o OverridePatch) names(p Package) bool {
	return globMatch(o.ID, p.ID()) && (o.Title == "" || globMatch(o.Title, p.Title()) || globMatch(o.Title, p.Version))
}

// override makes the list what is installed: of a package the newest version that an
// entry names. What is held or excluded is not touched, and has failed.
func (e *evaluator) override(list *OverrideList) {
	e.result.Install = nil
	upgrades := e.upgrades()
	listed := make(map[string]bool)
	for _, id := range sortedKeys(upgrades) {
		c, allowed := list.choose(upgrades[id])
		if c == nil {
			continue
		}
		listed[c.Name] = true
		if allowed {
			e.result.Install = append(e.result.Install, c.Package)
		} else if !slices.ContainsFunc(e.result.Patches, func(p Patch) bool { return p.Title == c.Title() }) {
			patch := e.patch(ofCandidate(c), verdict{})
			patch.State, patch.Replaces = types.PatchComplianceDataStateFailed, c.Replaces
			patch.Reason = "named by the install override list" + holdReason(e.inv.Manager, c)
			e.result.Patches = append(e.result.Patches, patch)
		}
	}
	if e.family != aptFamily {
		return
	}
	// A listed package that needs another one in a version that is not listed fails.
	for id := range upgrades {
		if name := upgrades[id][0].Name; !listed[name] {
			e.result.Blocked = append(e.result.Blocked, name)
		}
	}
}

// choose returns the newest of a package's newer versions that the list names, the
// newest of those that the machine's configuration allows if there is one. Versions
// come the newest first.
func (o *OverrideList) choose(versions []*Candidate) (found *Candidate, allowed bool) {
	for _, c := range versions {
		if !o.names(c.Package) {
			continue
		}
		if !c.Held && c.Excluded == "" {
			return c, true
		}
		if found == nil {
			found = c
		}
	}
	return found, false
}

// unmatched are the ids of entries that name neither an installed version nor a
// newer one.
func (o *OverrideList) unmatched(inv *Inventory) []string {
	var ids []string
	for _, entry := range o.Patches {
		if !slices.ContainsFunc(inv.Candidates, func(c Candidate) bool { return entry.names(c.Package) }) &&
			!slices.ContainsFunc(inv.Installed, func(i Installed) bool { return entry.names(i.Package) }) {
			ids = append(ids, strings.TrimSpace(entry.ID+" "+entry.Title))
		}
	}
	return ids
}

func (o *OverrideList) names(p Package) bool {
	return slices.ContainsFunc(o.Patches, func(entry OverridePatch) bool { return entry.names(p) })
}

// ParseBaselineOverride reads the JSON of BaselineOverride: a list of baselines as
// GetPatchBaseline writes them. Members that are not a baseline's are ignored.
func ParseBaselineOverride(data []byte) ([]Baseline, error) {
	if len(data) > maxOverride {
		return nil, fmt.Errorf("%w: the baseline override has more than %d bytes", ErrInvalidOverride, maxOverride)
	}
	var list []Baseline
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&list); err != nil {
		return nil, fmt.Errorf("%w: read the baseline override: %w", ErrInvalidOverride, err)
	}
	if decoder.More() {
		return nil, fmt.Errorf("%w: the baseline override has more than one list", ErrInvalidOverride)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: the baseline override has no baseline", ErrInvalidOverride)
	}
	for i := range list {
		// It is no stored baseline, and none of the predefined ones, whatever it was
		// copied from.
		list[i].BaselineId = ""
		if err := validate(&list[i], false); err != nil {
			return nil, fmt.Errorf("%w: baseline %d: %w", ErrInvalidOverride, i+1, err)
		}
	}
	return list, nil
}

// ChooseBaseline returns the baseline for an operating system out of a baseline
// override. There must be exactly one.
func ChooseBaseline(list []Baseline, os types.OperatingSystem) (*Baseline, error) {
	var found *Baseline
	for i := range list {
		if list[i].operatingSystem() != os {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: the baseline override has several baselines for %s", ErrInvalidOverride, os)
		}
		found = &list[i]
	}
	if found == nil {
		return nil, fmt.Errorf("%w: the baseline override has no baseline for %s", ErrInvalidOverride, os)
	}
	return found, nil
}
