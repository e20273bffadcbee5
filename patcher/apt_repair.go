package patcher

import (
	"context"
	"fmt"
	"strings"
)

// Repair implements [Manager].
func (a *Apt) Repair(ctx context.Context) ([]string, error) {
	native, err := a.architecture(ctx)
	if err != nil {
		return nil, err
	}
	state, err := a.readDpkg(native)
	if err != nil {
		return nil, err
	}
	if err := a.prepare(a.repairLists()); err != nil {
		return nil, err
	}
	if len(state.interruptions()) == 0 {
		whole, err := a.checks(ctx)
		if err != nil || whole {
			return nil, err
		}
	}
	return a.repair(ctx, &dpkgReader{reasons: map[string]string{}})
}

// repairLists are those that a repair may take packages from: nothing is fetched
// for it alone.
func (a *Apt) repairLists() string {
	if newestRelease(a.dirs().lists).IsZero() {
		return a.newerLists()
	}
	return a.dirs().lists
}

// checks says whether all dependencies of installed packages are met.
func (a *Apt) checks(ctx context.Context) (bool, error) {
	check := a.aptGet(queryLimit, "apt-get", "check", "-o", "Debug::NoLocking=1")
	check.Log = nil
	o, err := check.run(ctx)
	if err != nil {
		return false, fmt.Errorf("check the dependencies: %w", err)
	}
	return o.Code == 0, nil
}

// repair ends what was interrupted, and returns what it did. A package whose script
// fails again is left as it is: ErrInterrupted names it.
func (a *Apt) repair(ctx context.Context, said *dpkgReader) ([]string, error) {
	if err := waitForLocks(ctx, a.lockFiles(), a.setup.LockWait, a.setup.Log); err != nil {
		return nil, err
	}
	before, err := a.readDpkg(a.native)
	if err != nil {
		return nil, err
	}
	var did []string
	if len(before.interruptions()) > 0 {
		configure := a.tool(transactionLimit, "dpkg", "--force-confdef", "--force-confold", "--configure", "-a")
		configure.Line, configure.Whole = said.line, true
		if _, err := configure.run(ctx); err != nil {
			return nil, fmt.Errorf("configure what is unpacked: %w", err)
		}
	}
	after, err := a.readDpkg(a.native)
	if err != nil {
		return nil, err
	}
	did = append(did, repaired("dpkg --configure -a", before, after)...)
	whole, err := a.checks(ctx)
	if err != nil {
		return did, err
	}
	if !whole || needsArchives(after) {
		fix := a.aptGet(transactionLimit, "apt-get", "--fix-broken", "install", "--no-remove", "--no-install-recommends",
			"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
		fix.Line, fix.Whole = said.line, true
		o, err := fix.run(ctx)
		if err != nil {
			return did, fmt.Errorf("mend dependencies: %w", err)
		}
		fixed, err := a.readDpkg(a.native)
		if err != nil {
			return did, err
		}
		did = append(did, repaired("apt-get -f install", after, fixed)...)
		if o.Code == 0 && !whole {
			did = append(did, "apt-get -f install: unmet dependencies of installed packages are met")
		} else if o.Code != 0 && len(fixed.interruptions()) == 0 {
			return did, fmt.Errorf("%w: %s", ErrInterrupted, o.lastWords())
		}
		after = fixed
	}
	var left []string
	for _, one := range after.interruptions() {
		text := one.What
		if d := after.byID(one.Package); d != nil {
			if reason := said.reason(d.Package); reason != "" {
				text += ": " + reason
			}
		}
		left = append(left, text)
	}
	if len(left) > 0 {
		return did, fmt.Errorf("%w: %s", ErrInterrupted, strings.Join(left, "; "))
	}
	return did, nil
}

func (s *dpkgState) byID(id string) *debStatus {
	for _, d := range s.packages {
		if d.ID() == id {
			return &d
		}
	}
	return nil
}

// needsArchives: a package has to be unpacked anew.
func needsArchives(state *dpkgState) bool {
	for _, d := range state.packages {
		if d.Flag == "reinstreq" || d.State == "half-installed" {
			return true
		}
	}
	return false
}

// repaired says of each package that was broken and is not any more.
func repaired(program string, before, after *dpkgState) []string {
	var did []string
	for _, key := range sortedKeys(before.packages) {
		old, now := before.packages[key], after.packages[key]
		if old.present() && old.broken() != "" && (!now.present() || now.broken() == "") {
			did = append(did, fmt.Sprintf("%s: %s, which was %s, is installed", program, now.Title(), old.broken()))
		}
	}
	if before.journal && !after.journal {
		did = append(did, program+": dpkg's journal was merged into its status")
	}
	return did
}
