package patcher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rpmFormat is what rpm -qa prints of a package: one line of fields between tabs.
const rpmFormat = `%{NAME}\t%{ARCH}\t%|EPOCH?{%{EPOCH}}:{0}|\t%{VERSION}\t%{RELEASE}\t%{INSTALLTIME}\t%{BUILDTIME}\n`

// rpmHost is a machine with a database of rpm: what dnf, yum and zypper have in
// common.
type rpmHost struct {
	setup Setup
	// stock is what the last Inventory found to be installed, until packages are changed.
	stock []Installed
}

func newRPMHost(setup Setup) rpmHost {
	if setup.Root == "" {
		setup.Root = "/"
	}
	if setup.Log == nil {
		setup.Log = io.Discard
	}
	if setup.Now == nil {
		setup.Now = time.Now
	}
	return rpmHost{setup: setup}
}

// Compare orders two versions as rpm does.
func (h rpmHost) Compare(a, b string) int { return CompareRPM(a, b) }

// installed lists the packages of the machine, without the keys that rpm keeps
// among them, by name and then by version.
func (h rpmHost) installed(ctx context.Context) ([]Installed, error) {
	var all []Installed
	result, err := tool{Root: h.setup.Root, Name: "rpm", Log: h.setup.Log, Limit: 10 * time.Minute,
		Args: []string{"-qa", "--nodigest", "--nosignature", "--qf", rpmFormat},
		Stdout: func(out io.Reader) (err error) {
			all, err = readInstalled(out)
			return err
		}}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the installed packages: %w", err)
	}
	if result.Code != 0 {
		return nil, fmt.Errorf("list the installed packages: rpm: %s", result.lastWords())
	}
	return all, nil
}

// readInstalled reads lines of rpmFormat.
func readInstalled(in io.Reader) ([]Installed, error) {
	var all []Installed
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		field := strings.Split(lines.Text(), "\t")
		if len(field) != 7 {
			return nil, fmt.Errorf("a line of rpm -qa has %d fields: %q", len(field), lines.Text())
		}
		if field[0] == "" || field[3] == "" {
			return nil, fmt.Errorf("a line of rpm -qa without name or version: %q", lines.Text())
		}
		if field[0] == "gpg-pubkey" {
			continue
		}
		p := Installed{Package: Package{Name: field[0], Arch: field[1], Version: evr(field[2], field[3], field[4])}}
		p.InstalledAt, p.Built = rpmTime(field[5]), rpmTime(field[6])
		all = append(all, p)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("the database of rpm is empty")
	}
	slices.SortStableFunc(all, func(a, b Installed) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		if c := strings.Compare(a.Arch, b.Arch); c != 0 {
			return c
		}
		return CompareRPM(a.Version, b.Version)
	})
	return all, nil
}

// rpmTime reads a time of rpm's database, seconds since 1970, zero where there is none.
func rpmTime(text string) time.Time {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds <= 0 || seconds > 1<<36 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
