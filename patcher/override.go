package patcher

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// override makes the list what is installed. Of a package the newest version that an
// entry names is taken; one without title goes no further than the package manager
// itself would. Neither what is held nor what is excluded is touched.
func (e *evaluator) override(list *OverrideList) {
	e.result.Install = nil
	upgrades := e.upgrades()
	listed := make(map[string]bool)
	for _, id := range sortedKeys(upgrades) {
		reached := false // the manager's own choice, or no further
		for _, c := range upgrades[id] {
			reached = reached || c.Chosen
			if c.Held || c.Excluded != "" || !list.install(c.Package, reached) {
				continue
			}
			e.result.Install = append(e.result.Install, c.Package)
			listed[c.Name] = true
			break
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

func (o *OverrideList) install(p Package, reached bool) bool {
	for _, entry := range o.Patches {
		if (reached || entry.Title != "") && entry.names(p) {
			return true
		}
	}
	return false
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
