package patcher

import "time"

// Package is one version of a package.
type Package struct {
	Name string
	Arch string
	// Version is complete: for apt as dpkg prints it (1:2.3-4, no epoch where there is
	// none), for rpm EPOCH:VERSION-RELEASE, the epoch always there.
	Version string
}

// ID is the package without version, name.arch: SSM's KBId on Linux.
func (p Package) ID() string { return p.Name + "." + p.Arch }

// Title is SSM's title of a patch on Linux: name.arch:version.
func (p Package) Title() string { return p.ID() + ":" + p.Version }

// Origin is a source that offers a version. apt fills what its Release file says;
// dnf and zypper fill Repository.
type Origin struct {
	Repository string `json:",omitempty"` // the id of a dnf or zypp repository
	Label      string `json:",omitempty"` // Debian-Security
	Vendor     string `json:",omitempty"` // Origin of the Release file: Debian, Ubuntu
	Suite      string `json:",omitempty"` // oldstable-security, jammy-security
	Codename   string `json:",omitempty"` // bookworm-security
	Component  string `json:",omitempty"` // main
	Site       string `json:",omitempty"` // host of the source, "" for file:
}

// Notice is a publisher's advisory: one of updateinfo, or a zypp patch.
type Notice struct {
	ID              string // RHSA-2026:0001; of zypp the name of the patch
	Title           string `json:",omitempty"`
	Type            string // as published: security, bugfix, enhancement, newpackage, recommended …
	Severity        string `json:",omitempty"` // as published: Critical, Important, Moderate …
	Issued, Updated time.Time
	CVEs            []string `json:",omitempty"`
	Bugzillas       []string `json:",omitempty"`
	Reboot          bool     `json:",omitempty"` // the publisher suggests one
}

// Installed is a package of the machine.
type Installed struct {
	Package
	InstalledAt time.Time `json:",omitzero"`
	// Origins offer this very version; none does for what came from elsewhere.
	Origins  []Origin `json:",omitempty"`
	Notices  []Notice `json:",omitempty"` // that list this very version
	Section  string   `json:",omitempty"` // apt: without the component's prefix
	Priority string   `json:",omitempty"` // apt: required, important, standard, optional, extra
	Built    time.Time
	Held     bool `json:",omitempty"` // the administrator forbids to change it
	// Broken is the package manager's word for a package that is not wholly installed
	// (half-configured, unpacked, duplicate …), "" when all is well.
	Broken string `json:",omitempty"`
}

// Candidate is a version newer than the installed one that a source offers. There
// may be several of one package; Newest of the manager's choice is Chosen.
type Candidate struct {
	Package
	Replaces string // the installed version
	Origins  []Origin
	Notices  []Notice `json:",omitempty"`
	Section  string   `json:",omitempty"`
	Priority string   `json:",omitempty"`
	// Built is when the package was built, zero where the metadata does not tell.
	Built time.Time `json:",omitzero"`
	// Chosen: the package manager's own upgrade would take this one (pinning,
	// priorities and excludes of the machine's configuration considered).
	Chosen bool `json:",omitempty"`
	Held   bool `json:",omitempty"`
	// Excluded is why the machine's configuration forbids it, as a sentence.
	Excluded string `json:",omitempty"`
}

// Source is one repository of the machine as the refresh left it.
type Source struct {
	Name string
	// Updated is when its publisher made the metadata that is used, Fetched when the
	// machine got it; zero when unknown.
	Updated time.Time `json:",omitzero"`
	Fetched time.Time `json:",omitzero"`
	// Problem is why it could not be refreshed; its older data, if any, is used.
	Problem string `json:",omitempty"`
}

// Interruption is a transaction of the package manager that did not end.
type Interruption struct {
	Package string `json:",omitempty"`
	What    string // a sentence
}

// Inventory is what a package manager knows of a machine at one moment.
type Inventory struct {
	Manager    string // apt, dnf, yum, zypper
	Installed  []Installed
	Candidates []Candidate
	Sources    []Source
	// NotInstalled counts the packages that sources offer and the machine lacks.
	NotInstalled  int
	Interruptions []Interruption
	// SecurityKnown is false where no source says which updates are for security: no
	// updateinfo at all, no security suite.
	SecurityKnown bool
}

// Reboot is whether the machine must be started anew for what is installed to be in
// force, and what says so.
type Reboot struct {
	Needed bool
	// Evidence has a sentence for each sign looked at that speaks for it: "the running
	// kernel 6.1.0-18 is older than the installed 6.1.0-21".
	Evidence []string `json:",omitempty"`
	// Services run on with files that were deleted or replaced: unit names, or the
	// names of processes without unit.
	Services []string `json:",omitempty"`
}

// Failure is a package that could not be brought to the version asked for.
type Failure struct {
	Package
	// Reason is a sentence with the package manager's own words.
	Reason string
}
