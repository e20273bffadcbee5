package patcher

import (
	"context"
	"slices"
)

// bring lets transact install packages. What it leaves, for whatever reason, is tried
// in smaller transactions, until each package is installed or has a reason of its
// own. The database of rpm says what is installed, not the tool.
func (h rpmHost) bring(ctx context.Context, want []Package, transact func([]Package) (*rpmReport, error)) ([]Failure, error) {
	want, err := h.missing(ctx, want)
	if err != nil || len(want) == 0 {
		return nil, err
	}
	report, err := transact(want)
	if err != nil {
		return nil, err
	}
	left, err := h.missing(ctx, want)
	if err != nil || len(left) == 0 {
		return nil, err
	}
	var failures []Failure
	var again []Package
	for _, p := range left {
		if reason := report.reason(p); reason != "" {
			failures = append(failures, Failure{Package: p, Reason: reason})
		} else {
			again = append(again, p)
		}
	}
	if len(again) == 1 && len(want) == 1 {
		return []Failure{{Package: again[0], Reason: report.summary()}}, nil
	}
	for _, part := range smaller(again, len(again) < len(want)) {
		more, err := h.bring(ctx, part, transact)
		failures = append(failures, more...)
		if err != nil {
			return failures, err
		}
	}
	return failures, nil
}

// smaller is what to try next of the packages that a transaction left without a word:
// all together if it got rid of others, else two halves. Nothing is left to try of
// one package that was alone.
func smaller(left []Package, progress bool) [][]Package {
	switch {
	case len(left) == 0:
		return nil
	case progress:
		return [][]Package{left}
	case len(left) == 1:
		return nil
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
