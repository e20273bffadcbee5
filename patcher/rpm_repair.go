package patcher

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// duplicate is a package of which a transaction that was interrupted left an older
// version beside the newer one.
type duplicate struct {
	older, newer Package
}

// duplicates finds packages with several versions. Those that may have several, as
// kernels, are among them.
func duplicates(installed []Installed) []duplicate {
	var found []duplicate
	for i := 1; i < len(installed); i++ {
		older, newer := installed[i-1], installed[i]
		if older.Name == newer.Name && older.Arch == newer.Arch {
			found = append(found, duplicate{older: older.Package, newer: newer.Package})
		}
	}
	return found
}

// realDuplicates are the duplicates without what may be installed several times.
func (h rpmHost) realDuplicates(ctx context.Context, installed []Installed) ([]duplicate, error) {
	found := duplicates(installed)
	if len(found) == 0 {
		return nil, nil
	}
	args := []string{"-q", "--qf", `[%{=NAME}\t%{PROVIDES}\n]`}
	asked := map[string]bool{}
	for _, d := range found {
		if !asked[d.older.Name] {
			args = append(args, d.older.Name)
		}
		asked[d.older.Name] = true
	}
	several := map[string]bool{}
	_, err := tool{Root: h.setup.Root, Name: "rpm", Args: args, Limit: time.Minute, Line: func(line string) {
		name, provides, _ := strings.Cut(line, "\t")
		if strings.HasPrefix(provides, "installonlypkg(") || strings.HasPrefix(provides, "multiversion(") {
			several[name] = true
		}
	}}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for duplicate packages: %w", err)
	}
	return slices.DeleteFunc(found, func(d duplicate) bool {
		return several[d.older.Name] || d.older.Name == "kernel" || strings.HasPrefix(d.older.Name, "kernel-")
	}), nil
}

// interruptions tells of duplicates and marks the older packages as broken. While
// another program installs, it says nothing: an upgrade is a duplicate for a moment.
func (h rpmHost) interruptions(ctx context.Context, installed []Installed, pidFile string) ([]Interruption, error) {
	if _, _, held := h.holder(pidFile); held {
		return nil, nil
	}
	found, err := h.realDuplicates(ctx, installed)
	if err != nil {
		return nil, err
	}
	var told []Interruption
	for _, d := range found {
		if i := slices.IndexFunc(installed, func(p Installed) bool { return p.Package == d.older }); i >= 0 {
			installed[i].Broken = "duplicate"
		}
		told = append(told, Interruption{Package: d.older.ID(),
			What: fmt.Sprintf("%s is still installed beside %s: an upgrade was interrupted", d.older.Title(), d.newer.Title())})
	}
	return told, nil
}

// repair mends the database of rpm if it cannot be read, and ends interrupted
// upgrades, with the package manager's own way first.
func (h rpmHost) repair(ctx context.Context, pidFile string, own func(context.Context, []duplicate) error) ([]string, error) {
	if err := h.waitForDatabase(ctx, pidFile); err != nil {
		return nil, err
	}
	var done []string
	installed, err := h.installed(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		result, failed := tool{Root: h.setup.Root, Name: "rpm", Args: []string{"--rebuilddb"}, Log: h.setup.Log, Whole: true}.run(ctx)
		if failed == nil && result.Code != 0 {
			failed = errors.New(result.lastWords())
		}
		if failed != nil {
			return nil, fmt.Errorf("%w: %w, and rpm --rebuilddb: %w", ErrInterrupted, err, failed)
		}
		done = append(done, "rpm --rebuilddb made the database of rpm anew: it could not be read")
		if installed, err = h.installed(ctx); err != nil {
			return done, fmt.Errorf("%w: %w, also after rpm --rebuilddb", ErrInterrupted, err)
		}
	}
	found, err := h.realDuplicates(ctx, installed)
	if err != nil || len(found) == 0 {
		return done, err
	}
	if err := own(ctx, found); err != nil {
		return done, err
	}
	if installed, err = h.installed(ctx); err != nil {
		return done, err
	}
	left, err := h.realDuplicates(ctx, installed)
	if err != nil {
		return done, err
	}
	for _, d := range left {
		// The newer one is wholly unpacked, or rpm did not know of it.
		result, err := tool{Root: h.setup.Root, Name: "rpm", Args: []string{"-e", "--nodeps", nvra(d.older)}, Log: h.setup.Log, Whole: true}.run(ctx)
		if err != nil {
			return done, fmt.Errorf("remove the older %s: %w", d.older.Title(), err)
		}
		if result.Code != 0 {
			return done, fmt.Errorf("%w: rpm cannot remove the older %s: %s", ErrInterrupted, d.older.Title(), result.lastWords())
		}
	}
	for _, d := range found {
		done = append(done, fmt.Sprintf("ended the interrupted upgrade of %s to %s", d.older.Title(), d.newer.Version))
	}
	return done, nil
}
