package patcher

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// filterView is what filters see: one version of a package under one of its notices,
// or under none. A rule whose filters are all true of one notice matches; filters
// that are true of different notices do not add up.
type filterView struct {
	platform Platform
	family   family
	*subject
	notice *Notice
}

// views are the subject's, one for each notice, at least one.
func (s *subject) views(p Platform, f family) []filterView {
	if len(s.notices) == 0 {
		return []filterView{{p, f, s, nil}}
	}
	all := make([]filterView, len(s.notices))
	for i := range s.notices {
		all[i] = filterView{p, f, s, &s.notices[i]}
	}
	return all
}

// mismatch returns the first filter that is false of the view, nil when all are true.
func (v filterView) mismatch(filters []types.PatchFilter) *types.PatchFilter {
	for i := range filters {
		if !v.matches(filters[i]) {
			return &filters[i]
		}
	}
	return nil
}

// matches: one of the filter's values is one of the view's. The value * is true of
// everything, also of what is not known.
func (v filterView) matches(f types.PatchFilter) bool {
	for _, value := range f.Values {
		if value == "*" {
			return true
		}
		if slices.ContainsFunc(v.values(f.Key), func(own string) bool { return own != "" && v.equal(f.Key, value, own) }) {
			return true
		}
	}
	return false
}

func (v filterView) equal(key types.PatchFilterKey, value, own string) bool {
	switch key {
	case types.PatchFilterKeyProduct:
		return namesProduct(value, own)
	case types.PatchFilterKeySeverity:
		if strings.EqualFold(value, "Medium") && strings.EqualFold(own, "Moderate") {
			// Sources besides Amazon's own say Moderate.
			os := types.OperatingSystem(v.platform.OperatingSystem)
			return os == types.OperatingSystemAmazonLinux2023 || os == types.OperatingSystemAmazonLinux2022
		}
		return strings.EqualFold(value, own)
	case types.PatchFilterKeyClassification, types.PatchFilterKeyMsrcSeverity, types.PatchFilterKeyPriority,
		types.PatchFilterKeySection, types.PatchFilterKeySecurity, types.PatchFilterKeyCVEId:
		return strings.EqualFold(value, own)
	}
	return value == own
}

// namesProduct: value names a machine's product. RedhatEnterpriseLinux9.* is any minor
// version, and * any product.
func namesProduct(value, product string) bool {
	release, wild := strings.CutSuffix(value, "*")
	return value == product || value == "*" || wild && strings.HasSuffix(release, ".") && strings.HasPrefix(product, release)
}

// values are what the view has for a key; nothing, or "", where it is not known.
func (v filterView) values(key types.PatchFilterKey) []string {
	one := func(s string) []string { return []string{s} }
	switch key {
	case types.PatchFilterKeyProduct:
		return one(v.platform.Product)
	case types.PatchFilterKeyClassification:
		if v.family == aptFamily {
			return one(aptClassification(v.subject))
		}
		return one(classification(v.notice))
	case types.PatchFilterKeySeverity, types.PatchFilterKeyMsrcSeverity:
		return one(severity(v.platform.OperatingSystem, v.notice))
	case types.PatchFilterKeyPriority:
		return one(v.priority)
	case types.PatchFilterKeySection:
		return []string{v.section, v.section[strings.LastIndexByte(v.section, '/')+1:]}
	case types.PatchFilterKeyName:
		return one(v.Name)
	case types.PatchFilterKeyArch:
		return one(v.Arch)
	case types.PatchFilterKeyPatchId:
		ids := []string{v.ID(), v.Title()}
		if v.notice != nil {
			ids = append(ids, v.notice.ID)
		}
		return ids
	case types.PatchFilterKeyEpoch:
		epoch, _ := cutEpoch(v.Version)
		if epoch == "" {
			epoch = "0"
		}
		return one(epoch)
	case types.PatchFilterKeyVersion:
		_, rest := cutEpoch(v.Version)
		upstream, _ := cutRevision(rest)
		return []string{upstream, v.Version}
	case types.PatchFilterKeyRelease:
		_, rest := cutEpoch(v.Version)
		_, release := cutRevision(rest)
		return one(release)
	case types.PatchFilterKeyRepository:
		var names []string
		for _, o := range v.origins {
			names = append(names, o.Repository, o.Label, o.Suite, o.Codename)
		}
		return names
	case types.PatchFilterKeySecurity:
		if v.security(v.family) {
			return one("true")
		}
		return one("false")
	case types.PatchFilterKeyPatchSet:
		return one("OS")
	}
	if v.notice == nil {
		return nil
	}
	switch key {
	case types.PatchFilterKeyAdvisoryId:
		return one(v.notice.ID)
	case types.PatchFilterKeyCVEId:
		return v.notice.CVEs
	case types.PatchFilterKeyBugzillaId:
		return v.notice.Bugzillas
	}
	return nil
}

func aptClassification(s *subject) string {
	if s.security(aptFamily) {
		return "Security"
	}
	return ""
}

// describeFilters is for people: the values, without filters that let all pass.
func describeFilters(filters []types.PatchFilter) string {
	var parts []string
	for _, f := range filters {
		if !slices.Contains(f.Values, "*") {
			parts = append(parts, strings.Join(f.Values, "|"))
		}
	}
	if len(parts) == 0 {
		return "all"
	}
	return strings.Join(parts, ", ")
}

// describeMismatch says what a filter wants and what the view has instead.
func (v filterView) describeMismatch(f *types.PatchFilter) string {
	own := slices.DeleteFunc(slices.Clone(v.values(f.Key)), func(s string) bool { return s == "" })
	slices.Sort(own)
	has := "this has none"
	if own = slices.Compact(own); len(own) > 0 {
		has = "this has " + strings.Join(own, ", ")
	}
	return "wants " + string(f.Key) + " " + strings.Join(f.Values, "|") + ", " + has
}
