package patcher

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// ErrInvalidBaseline is what the errors of Validate are.
var ErrInvalidBaseline = errors.New("invalid patch baseline")

// invalidBaseline is a sentence as SSM's ValidationException has it.
type invalidBaseline string

func (e invalidBaseline) Error() string        { return string(e) }
func (e invalidBaseline) Is(target error) bool { return target == ErrInvalidBaseline }

var baselineName = regexp.MustCompile(`^[a-zA-Z0-9_\-.]{3,128}$`)
var patchSourceName = regexp.MustCompile(`^[a-zA-Z0-9_\-.]{3,50}$`)

// operatingSystem is the baseline's, WINDOWS where it names none.
func (b *Baseline) operatingSystem() types.OperatingSystem {
	if b.OperatingSystem == "" {
		return types.OperatingSystemWindows
	}
	return b.OperatingSystem
}

// Validate checks a baseline as CreatePatchBaseline and UpdatePatchBaseline do. The
// error is ErrInvalidBaseline, and its text is for the caller of the API.
func Validate(b *Baseline) error { return validate(b, true) }

// validate needs a name where named is set; a baseline override has none.
func validate(b *Baseline, named bool) error {
	os := b.operatingSystem()
	switch {
	case (named || b.Name != "") && !baselineName.MatchString(b.Name):
		return constraint(b.Name, "name", `Member must satisfy regular expression pattern: ^[a-zA-Z0-9_\-.]{3,128}$`)
	case !slices.Contains(os.Values(), os):
		return enum(os, "operatingSystem", os.Values())
	case b.ApprovedPatchesComplianceLevel != "" && !slices.Contains(b.ApprovedPatchesComplianceLevel.Values(), b.ApprovedPatchesComplianceLevel):
		return enum(b.ApprovedPatchesComplianceLevel, "approvedPatchesComplianceLevel", b.ApprovedPatchesComplianceLevel.Values())
	case b.RejectedPatchesAction != "" && !slices.Contains(b.RejectedPatchesAction.Values(), b.RejectedPatchesAction):
		return enum(b.RejectedPatchesAction, "rejectedPatchesAction", b.RejectedPatchesAction.Values())
	case b.AvailableSecurityUpdatesComplianceStatus != "" &&
		!slices.Contains(b.AvailableSecurityUpdatesComplianceStatus.Values(), b.AvailableSecurityUpdatesComplianceStatus):
		return enum(b.AvailableSecurityUpdatesComplianceStatus, "availableSecurityUpdatesComplianceStatus", b.AvailableSecurityUpdatesComplianceStatus.Values())
	}
	if b.GlobalFilters != nil {
		if err := validateFilters(os, append(FilterKeys(os), types.PatchFilterKeyPatchId), b.GlobalFilters.PatchFilters, "globalFilters.patchFilters"); err != nil {
			return err
		}
	}
	if b.ApprovalRules != nil {
		if err := validateRules(os, b.ApprovalRules.PatchRules); err != nil {
			return err
		}
	}
	if err := validateList(b.ApprovedPatches, "approvedPatches"); err != nil {
		return err
	}
	if err := validateList(b.RejectedPatches, "rejectedPatches"); err != nil {
		return err
	}
	return validateSources(os, b.Sources)
}

func validateRules(os types.OperatingSystem, rules []types.PatchRule) error {
	const path = "approvalRules.patchRules"
	if len(rules) > 10 {
		return tooLong(rules, path, 10)
	}
	for i := range rules {
		r := &rules[i]
		at := fmt.Sprintf("%s.%d.member", path, i+1)
		if r.PatchFilterGroup == nil {
			return null(at + ".patchFilterGroup")
		}
		if err := validateFilters(os, FilterKeys(os), r.PatchFilterGroup.PatchFilters, at+".patchFilterGroup.patchFilters"); err != nil {
			return err
		}
		if r.ComplianceLevel != "" && !slices.Contains(r.ComplianceLevel.Values(), r.ComplianceLevel) {
			return enum(r.ComplianceLevel, at+".complianceLevel", r.ComplianceLevel.Values())
		}
		switch days, until := r.ApproveAfterDays, r.ApproveUntilDate; {
		case days != nil && until != nil:
			return invalidBaseline("ApproveAfterDays and ApproveUntilDate cannot both be specified in one rule.")
		case days == nil && until == nil:
			return invalidBaseline("Each rule must specify ApproveAfterDays or ApproveUntilDate.")
		case days != nil && *days < 0:
			return constraint(*days, at+".approveAfterDays", "Member must have value greater than or equal to 0")
		case days != nil && *days > 360:
			return constraint(*days, at+".approveAfterDays", "Member must have value less than or equal to 360")
		case until != nil:
			if _, err := time.Parse(time.DateOnly, *until); err != nil {
				return invalidBaseline(fmt.Sprintf("Invalid ApproveUntilDate: %s, the format is YYYY-MM-DD.", *until))
			}
		}
	}
	return nil
}

func validateFilters(os types.OperatingSystem, keys []types.PatchFilterKey, filters []types.PatchFilter, path string) error {
	if len(filters) > 4 {
		return tooLong(filters, path, 4)
	}
	for i, f := range filters {
		at := fmt.Sprintf("%s.%d.member", path, i+1)
		if !slices.Contains(f.Key.Values(), f.Key) {
			return enum(f.Key, at+".key", f.Key.Values())
		}
		if !slices.Contains(keys, f.Key) {
			return invalidBaseline(fmt.Sprintf("Invalid Filter Key: %s for Operating System: %s, valid keys are: %s", f.Key, os, join(keys)))
		}
		if slices.ContainsFunc(filters[:i], func(g types.PatchFilter) bool { return g.Key == f.Key }) {
			return invalidBaseline(fmt.Sprintf("Duplicate Filter Key: %s", f.Key))
		}
		switch {
		case len(f.Values) == 0:
			return constraint(f.Values, at+".values", "Member must have length greater than or equal to 1")
		case len(f.Values) > 20:
			return tooLong(f.Values, at+".values", 20)
		}
		for k, value := range f.Values {
			if err := length(value, fmt.Sprintf("%s.values.%d.member", at, k+1), 1, 64); err != nil {
				return err
			}
			if err := validateValue(os, f.Key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

// validateValue refuses what SSM's lists do not have. Sections, ids of patches and
// families of products are free.
func validateValue(os types.OperatingSystem, key types.PatchFilterKey, value string) error {
	var valid []string
	switch key {
	case types.PatchFilterKeySection, types.PatchFilterKeyProductFamily, types.PatchFilterKeyPatchId:
		return nil
	case types.PatchFilterKeyPatchSet:
		valid = []string{string(types.PatchSetOs), string(types.PatchSetApplication)}
		if slices.Contains(valid, value) || value == "*" {
			return nil
		}
	case types.PatchFilterKeyProduct:
		if os == types.OperatingSystemWindows {
			// Microsoft's applications are too many to list.
			return nil
		}
		fallthrough
	default:
		property := types.PatchProperty(key)
		if knownValue(os, property, value) {
			return nil
		}
		valid = PropertyValues(os, property, "")
	}
	return invalidBaseline(fmt.Sprintf("Invalid Filter Value: %s for Key: %s, valid values are: %s", value, key, strings.Join(valid, ", ")))
}

// validateList checks bounds only: SSM takes entries of any form, and what is in no
// format of the family names nothing.
func validateList(list []string, path string) error {
	if len(list) > 50 {
		return tooLong(list, path, 50)
	}
	for i, entry := range list {
		if err := length(entry, fmt.Sprintf("%s.%d.member", path, i+1), 1, 100); err != nil {
			return err
		}
	}
	return nil
}

func validateSources(os types.OperatingSystem, sources []types.PatchSource) error {
	if len(sources) == 0 {
		return nil
	}
	f := familyOf(OperatingSystem(os), "")
	if f == otherFamily {
		return invalidBaseline(fmt.Sprintf("Sources are not supported for Operating System: %s", os))
	}
	if len(sources) > 20 {
		return tooLong(sources, "sources", 20)
	}
	for i := range sources {
		s := &sources[i]
		at := fmt.Sprintf("sources.%d.member", i+1)
		switch {
		case s.Name == nil:
			return null(at + ".name")
		case !patchSourceName.MatchString(*s.Name):
			return constraint(*s.Name, at+".name", `Member must satisfy regular expression pattern: ^[a-zA-Z0-9_\-.]{3,50}$`)
		case slices.ContainsFunc(sources[:i], func(o types.PatchSource) bool { return *o.Name == *s.Name }):
			return invalidBaseline(fmt.Sprintf("Duplicate source: %s", *s.Name))
		case s.Configuration == nil:
			return null(at + ".configuration")
		case len(s.Products) == 0:
			return constraint(s.Products, at+".products", "Member must have length greater than or equal to 1")
		case len(s.Products) > 20:
			return tooLong(s.Products, at+".products", 20)
		}
		for k, product := range s.Products {
			if err := length(product, fmt.Sprintf("%s.products.%d.member", at, k+1), 1, 128); err != nil {
				return err
			}
			if err := validateValue(os, types.PatchFilterKeyProduct, product); err != nil {
				return err
			}
		}
		// The text may hold a password, so it is in no message.
		if n := utf8.RuneCountInString(*s.Configuration); n == 0 || n > 1024 {
			return invalidBaseline(fmt.Sprintf("1 validation error detected: Value at '%s.configuration' failed to satisfy constraint: Member must have length between 1 and 1024", at))
		}
		if f == aptFamily && strings.ContainsAny(strings.TrimSpace(*s.Configuration), "\r\n") {
			return invalidBaseline(fmt.Sprintf("The configuration of source %s must be a single line.", *s.Name))
		}
	}
	return nil
}

func constraint(value any, path, rule string) error {
	return invalidBaseline(fmt.Sprintf("1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, path, rule))
}

func null(path string) error {
	return invalidBaseline(fmt.Sprintf("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", path))
}

func tooLong[T any](list []T, path string, most int) error {
	return invalidBaseline(fmt.Sprintf("1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", path, most))
}

func length(s, path string, least, most int) error {
	switch n := utf8.RuneCountInString(s); {
	case n < least:
		return constraint(s, path, fmt.Sprintf("Member must have length greater than or equal to %d", least))
	case n > most:
		return constraint(s, path, fmt.Sprintf("Member must have length less than or equal to %d", most))
	}
	return nil
}

func enum[T ~string](value T, path string, values []T) error {
	return constraint(value, path, "Member must satisfy enum value set: ["+join(values)+"]")
}

func join[T ~string](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}
