package patcher

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// rpmInstall is one Install by a tool of the rpm family.
type rpmInstall struct {
	rpmHost
	// transact lets the tool install packages in one go, without the excluded ones, which
	// may be those of others or older versions of the same.
	transact func(want, excluded []Package) (*rpmReport, error)
	// failed are those that have a reason already. They are not tried again, also not
	// because another needs them.
	failed   []Package
	failures []Failure
	// blocked are the names that the baseline's rejections block.
	blocked []string
}

// explained is what the tool said, with the part that this run has in it: the tool
// only knows that somebody locked or excluded a package.
func (i *rpmInstall) explained(reason string) string {
	for _, p := range i.failed {
		if mentions(reason, nvra(p)) {
			reason = strings.TrimSuffix(reason, lockedReason) + "; " + p.Title() + " has failed in this run"
		}
	}
	return withRejections(reason, i.blocked)
}

// withRejections adds to a reason which of the packages that it names are blocked.
func withRejections(reason string, blocked []string) string {
	for _, name := range blocked {
		if mentions(reason, name) {
			reason += "; the baseline rejects " + name + ", with BLOCK"
		}
	}
	return reason
}

// bring lets transact install packages. What that leaves, for whatever reason, is
// tried in smaller transactions, until each package is installed or has a reason of
// its own. The database of rpm says what is installed, not the tool.
func (i *rpmInstall) bring(ctx context.Context, want []Package) error {
	want, err := i.missing(ctx, want)
	if err != nil || len(want) == 0 {
		return err
	}
	report, err := i.transact(want, i.failed)
	if err != nil {
		return err
	}
	left, err := i.missing(ctx, want)
	if err != nil {
		return err
	}
	var again []Package
	var told []Failure
	for _, p := range left {
		reason := report.reason(p)
		if reason == "" && len(want) == 1 {
			reason = cmp.Or(report.summary(), "it was not installed, without a word")
		}
		if reason == "" {
			again = append(again, p)
			continue
		}
		told = append(told, Failure{Package: p, Reason: i.explained(reason)})
	}
	for _, f := range told {
		i.failed = append(i.failed, f.Package)
	}
	i.failures = append(i.failures, told...)
	for _, part := range smaller(again, len(again) < len(want)) {
		if err := i.bring(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// smaller is what to try next of the packages that a transaction left without a word:
// all together if it got rid of others, else two halves.
func smaller(left []Package, progress bool) [][]Package {
	if len(left) == 0 {
		return nil
	}
	if progress || len(left) == 1 {
		return [][]Package{left}
	}
	half := len(left) / 2
	return [][]Package{left[:half], left[half:]}
}

// missing are those of the packages that are not installed in the version asked for.
func (h rpmHost) missing(ctx context.Context, want []Package) ([]Package, error) {
	installed, err := h.installed(ctx)
	if err != nil {
		return nil, err
	}
	has := make(map[Package]bool, len(installed))
	for _, p := range installed {
		has[p.Package] = true
	}
	return slices.DeleteFunc(slices.Clone(want), func(p Package) bool { return has[p] }), nil
}
