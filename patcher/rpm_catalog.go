package patcher

import (
	"slices"
	"strings"
)

// rpmCatalog puts together what is installed and what the repositories offer and
// say. It keeps what concerns installed packages; of all others only that they exist.
type rpmCatalog struct {
	arch      string // of the machine
	installed []Installed
	byName    map[string][]int // indexes of installed, oldest version first
	offers    map[Package]*Candidate
	lacking   map[string]struct{} // names that are offered and not installed
	vendors   map[Package]string  // of the offers
	noted     map[Package][]Notice
	notices   int // that the repositories have, about whatever package
}

// newRPMCatalog takes what readInstalled returns; the slice is the catalogue's.
func newRPMCatalog(installed []Installed, arch string) *rpmCatalog {
	c := &rpmCatalog{arch: arch, installed: installed, byName: map[string][]int{}, offers: map[Package]*Candidate{},
		lacking: map[string]struct{}{}, noted: map[Package][]Notice{}, vendors: map[Package]string{}}
	for i, p := range installed {
		c.byName[p.Name] = append(c.byName[p.Name], i)
	}
	return c
}

func (c *rpmCatalog) wants(name string) bool { return c.byName[name] != nil }

// replaced is the newest installed package in whose place p would come: one of the
// same name and architecture, or where either is noarch the machine's own. nil where
// there is none.
func (c *rpmCatalog) replaced(p Package) *Installed {
	var found *Installed
	for _, i := range c.byName[p.Name] {
		own := &c.installed[i]
		same := own.Arch == p.Arch || own.Arch == "noarch" && p.Arch == c.arch || own.Arch == c.arch && p.Arch == "noarch"
		if same && (found == nil || CompareRPM(own.Version, found.Version) >= 0) {
			found = own
		}
	}
	return found
}

// offer takes a version that a repository has.
func (c *rpmCatalog) offer(repository string, o offered) {
	if !c.wants(o.Name) {
		if _, known := c.lacking[o.Name]; !known {
			c.lacking[strings.Clone(o.Name)] = struct{}{}
		}
		return
	}
	origin := Origin{Repository: repository}
	for _, i := range c.byName[o.Name] {
		if own := &c.installed[i]; own.Package == o.Package {
			if !slices.Contains(own.Origins, origin) {
				own.Origins = append(own.Origins, origin)
			}
			return
		}
	}
	if known := c.offers[o.Package]; known != nil {
		if !slices.Contains(known.Origins, origin) {
			known.Origins = append(known.Origins, origin)
		}
		return
	}
	own := c.replaced(o.Package)
	if own == nil || CompareRPM(o.Version, own.Version) <= 0 {
		return
	}
	c.offers[o.Package] = &Candidate{Package: o.Package, Replaces: own.Version, Origins: []Origin{origin}, Built: o.built}
	c.vendors[o.Package] = o.vendor
}

// notice takes a notice and the packages that it lists.
func (c *rpmCatalog) notice(notice Notice, packages []Package) {
	for _, p := range packages {
		own := c.replaced(p)
		if own == nil {
			continue
		}
		if CompareRPM(p.Version, own.Version) < 0 && !slices.ContainsFunc(c.byName[p.Name], func(i int) bool { return c.installed[i].Package == p }) {
			continue // of the past
		}
		known := c.noted[p]
		if i := slices.IndexFunc(known, func(n Notice) bool { return n.ID == notice.ID }); i < 0 {
			c.noted[p] = append(known, notice)
		} else {
			known[i] = mergeNotice(known[i], notice)
		}
	}
}

// mergeNotice joins what two repositories say under the same id.
func mergeNotice(a, b Notice) Notice {
	if a.Severity == "" {
		a.Severity = b.Severity
	}
	if a.Updated.Before(b.Updated) {
		a.Updated = b.Updated
	}
	a.Reboot = a.Reboot || b.Reboot
	for _, id := range b.CVEs {
		if !slices.Contains(a.CVEs, id) {
			a.CVEs = append(slices.Clip(a.CVEs), id)
		}
	}
	for _, id := range b.Bugzillas {
		if !slices.Contains(a.Bugzillas, id) {
			a.Bugzillas = append(slices.Clip(a.Bugzillas), id)
		}
	}
	return a
}

// close gives each version its notices and returns the candidates, ordered by name,
// architecture and version. A notice about a version that no
// repository has any more counts to the next newer one that is there: who installs
// that has what the notice promises.
func (c *rpmCatalog) close() []*Candidate {
	all := make([]*Candidate, 0, len(c.offers))
	for _, candidate := range c.offers {
		all = append(all, candidate)
	}
	slices.SortFunc(all, func(a, b *Candidate) int {
		if d := strings.Compare(a.Name, b.Name); d != 0 {
			return d
		}
		if d := strings.Compare(a.Arch, b.Arch); d != 0 {
			return d
		}
		return CompareRPM(a.Version, b.Version)
	})
	for p, notices := range c.noted {
		given := false
		for _, i := range c.byName[p.Name] {
			if c.installed[i].Package == p {
				c.installed[i].Notices, given = notices, true
			}
		}
		if given {
			continue
		}
		var next *Candidate
		for _, candidate := range all {
			if candidate.Name == p.Name && candidate.Arch == p.Arch && CompareRPM(candidate.Version, p.Version) >= 0 {
				next = candidate
				break
			}
		}
		if next == nil {
			continue
		}
		for _, notice := range notices {
			if !slices.ContainsFunc(next.Notices, func(n Notice) bool { return n.ID == notice.ID }) {
				next.Notices = append(next.Notices, notice)
			}
		}
	}
	for i := range c.installed {
		sortNotices(c.installed[i].Notices)
	}
	for _, candidate := range all {
		sortNotices(candidate.Notices)
	}
	return all
}

// suggested are the versions of whose installation a notice suggests a reboot.
func (c *rpmCatalog) suggested() map[Package]string {
	found := map[Package]string{}
	for p, notices := range c.noted {
		for _, notice := range notices {
			if notice.Reboot {
				found[p] = notice.ID
			}
		}
	}
	return found
}

// sortNotices orders notices newest first, so that a report is the same each time.
func sortNotices(notices []Notice) {
	slices.SortFunc(notices, func(a, b Notice) int {
		if d := b.Issued.Compare(a.Issued); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
}
