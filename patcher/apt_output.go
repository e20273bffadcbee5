package patcher

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// aptPlan is what apt-get -s says that it would do.
type aptPlan struct {
	Install []aptStep // installed anew or upgraded
	Remove  []string  // names, name:arch of a foreign architecture
	// Problems is why it cannot be done, apt's own words.
	Problems []string
}

// aptStep is a line "Inst name [old] (new origins [arch])".
type aptStep struct {
	Package
	Old string // "" of what is new to the machine
}

var (
	instLine = regexp.MustCompile(`^Inst (\S+) (?:\[([^\]\s]+)\] )?\((\S+)(?: [^\[\)]*)?(?: ?\[(\S+?)\])?\)`)
	remvLine = regexp.MustCompile(`^Remv (\S+)`)
)

// planReader reads the output of apt-get -s line by line.
type planReader struct {
	plan     aptPlan
	unmet    bool // the list of unmet dependencies is being read
	removals bool // the list of packages to be removed is being read
}

func (r *planReader) line(line string) {
	if m := instLine.FindStringSubmatch(line); m != nil {
		name, _, _ := strings.Cut(m[1], ":")
		r.plan.Install = append(r.plan.Install, aptStep{Package: Package{Name: name, Arch: m[4], Version: m[3]}, Old: m[2]})
		return
	}
	if m := remvLine.FindStringSubmatch(line); m != nil {
		r.remove(m[1])
		return
	}
	if r.removals = r.removals && strings.HasPrefix(line, " "); r.removals {
		for _, name := range strings.Fields(line) {
			r.remove(strings.TrimSuffix(name, "*"))
		}
		return
	}
	if text, ok := strings.CutPrefix(line, "E: "); ok {
		r.unmet = true // apt 3 goes on below it
		r.plan.Problems = append(r.plan.Problems, text)
		return
	}
	switch {
	case r.unmet && strings.HasPrefix(line, " "):
		r.plan.Problems = append(r.plan.Problems, strings.TrimSpace(line))
	case strings.HasPrefix(line, "The following packages will be REMOVED") || line == "REMOVING:":
		r.removals = true
	case !strings.HasPrefix(line, " "):
		r.unmet = strings.HasPrefix(line, "The following packages have unmet dependencies")
	}
}

// remove notes a package that would go: apt tells it in a list, and by a line of its
// own where it may go.
func (r *planReader) remove(name string) {
	if !slices.Contains(r.plan.Remove, name) {
		r.plan.Remove = append(r.plan.Remove, name)
	}
}

// reason is why a plan cannot be done, as one sentence: what is particular before
// what apt says of every such case.
func (p aptPlan) reason() string {
	var words []string
	for _, problem := range p.Problems {
		general := strings.HasPrefix(problem, "Unable to correct problems") || strings.HasPrefix(problem, "The following information") || strings.HasPrefix(problem, "Packages need to be removed")
		if general && len(words) > 0 {
			continue
		}
		if strings.HasPrefix(problem, "Packages need to be removed") && len(p.Remove) > 0 {
			problem = "it needs these packages to be removed: " + strings.Join(p.Remove, ", ")
		}
		if problem = strings.Join(strings.Fields(problem), " "); !slices.Contains(words, problem) {
			words = append(words, problem)
		}
		if len(words) == 6 {
			break
		}
	}
	return strings.Join(words, "; ")
}

// policyReader reads the output of apt-cache policy NAME…
type policyReader struct {
	// chosen is the candidate of each package, by its name as apt prints it.
	chosen map[string]string
	// priority is that of each version, by name and version with a blank between.
	priority map[string]string

	name     string
	versions bool
}

var policyVersion = regexp.MustCompile(`^ (?:\*\*\*|   ) (\S+) (-?\d+)(?: \(phased (\d+)%\))?$`)

func (r *policyReader) line(line string) {
	switch {
	case !strings.HasPrefix(line, " ") && strings.HasSuffix(line, ":"):
		r.name, r.versions = strings.TrimSuffix(line, ":"), false
	case r.name == "":
	case strings.HasPrefix(line, "  Candidate: "):
		r.chosen[r.name] = strings.TrimSpace(strings.TrimPrefix(line, "  Candidate: "))
	case strings.HasPrefix(line, "  Version table:"):
		r.versions = true
	case r.versions:
		if m := policyVersion.FindStringSubmatch(line); m != nil {
			r.priority[r.name+" "+m[1]] = m[2]
		}
	}
}

// aptTarget is an index file as apt-get indextargets tells it.
type aptTarget struct {
	File      string
	Arch      string
	Component string
	Source    string // as aptSource.Name
	Site      string
	Release   debRelease
}

func readTarget(s stanza) (aptTarget, bool) {
	if s.text("Created-By") != "Packages" {
		return aptTarget{}, false
	}
	t := aptTarget{
		File: s.text("Filename"), Arch: s.text("Architecture"), Component: s.text("Component"),
		Source: sourceName(s.text("Base-URI")), Site: siteHost(s.text("Repo-URI")),
		Release: debRelease{Origin: s.text("Origin"), Label: s.text("Label"), Suite: s.text("Suite"), Codename: s.text("Codename")},
	}
	return t, t.File != ""
}

// sourceName makes of the address of a source's directory or of its Release file
// what a line of sources.list says: "http://deb.debian.org/debian bookworm".
func sourceName(address string) string {
	address = strings.TrimSuffix(strings.TrimSuffix(address, "/InRelease"), "/")
	if u, err := url.Parse(address); err == nil && u.User != nil {
		u.User = nil // what is told of a source has no password in it
		address = u.String()
	}
	if repository, release, ok := strings.Cut(address, "/dists/"); ok {
		return repository + " " + release
	}
	return address
}

func siteHost(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

var printedURI = regexp.MustCompile(`^'([^']+)' (\S+)`)

// printedRelease reads a line of apt-get update --print-uris: the address of the
// Release file of a source, and its name in the directory of lists.
func printedRelease(line string) (address, file string, ok bool) {
	m := printedURI.FindStringSubmatch(line)
	if m == nil || path.Base(m[1]) != "InRelease" {
		return "", "", false
	}
	return m[1], m[2], true
}

// refreshProblems reads what apt-get update complains of.
type refreshProblems struct {
	lines []string
	// failed are files that could not be fetched; apt sums them up in lines, but not
	// when a source is refused besides.
	failed  []string
	failing string
}

var errLine = regexp.MustCompile(`^Err:\d+ (.*)$`)

func (r *refreshProblems) line(line string) {
	if r.failing != "" && strings.HasPrefix(line, "  ") {
		r.failed = append(r.failed, "failed to fetch "+r.failing+": "+strings.TrimSpace(line))
	}
	r.failing = ""
	if m := errLine.FindStringSubmatch(line); m != nil {
		r.failing = m[1]
		return
	}
	for _, mark := range []string{"E: ", "W: "} {
		if text, ok := strings.CutPrefix(line, mark); ok {
			// That the directory is ours alone is no fault of the source.
			if !strings.HasPrefix(text, "Download is performed unsandboxed") && !strings.HasPrefix(text, "Some index files failed") {
				r.lines = append(r.lines, text)
			}
			return
		}
	}
}

// of returns what is wrong with a source, "" for nothing. Warnings that do not keep
// its data from being taken are no problem of it.
func (r *refreshProblems) of(source string) string {
	repository, release, dists := strings.Cut(source, " ")
	for _, line := range slices.Concat(r.lines, r.failed) {
		line = withoutPassword(line)
		about := strings.Contains(line, source+" ") || strings.Contains(line, source+"/")
		if dists {
			about = about || strings.Contains(line, repository+"/dists/"+release+"/") || strings.Contains(line, repository+" "+release+"/")
		}
		if about && !harmless(line) {
			return strings.Join(strings.Fields(line), " ")
		}
	}
	return ""
}

// harmless: the warning does not keep apt from using what it fetched.
func harmless(line string) bool {
	return strings.Contains(line, "is configured multiple times") || strings.Contains(line, "Key is stored in legacy") ||
		strings.Contains(line, "doesn't support architecture") || strings.Contains(line, "weak") ||
		strings.Contains(line, "Skipping acquire of configured file") || strings.Contains(line, "Conflicting distribution")
}

var password = regexp.MustCompile(`(://)[^/@\s]+@`)

func withoutPassword(text string) string { return password.ReplaceAllString(text, "$1") }

// dpkgReader collects dpkg's errors by package, and the configuration files that
// were kept.
type dpkgReader struct {
	reasons map[string]string // by name, or name:arch
	kept    []string

	failing  string // the package of an error whose reason is on the next line
	conffile string
	last     string
}

var (
	dpkgPackageError = regexp.MustCompile(`^dpkg: error processing package (\S+) \(`)
	dpkgArchiveError = regexp.MustCompile(`^dpkg: error processing archive (\S+) \(`)
	// apt hands many archives to dpkg in a directory, with numbers before their names.
	numberedArchive = regexp.MustCompile(`(/apt-dpkg-install-[^/]+/)\d+-`)
	dpkgConffile    = regexp.MustCompile(`^Configuration file '([^']+)'`)
	debFile         = regexp.MustCompile(`(?:^|/)([a-z0-9][a-z0-9+.\-]*)_[^/_]+_([a-z0-9\-]+)\.deb$`)
)

func (r *dpkgReader) line(line string) {
	if r.failing != "" {
		reason := strings.TrimSpace(line)
		if r.last != "" {
			reason += " (" + r.last + ")"
		}
		if r.reasons[r.failing] == "" {
			r.reasons[r.failing] = reason
		}
		r.failing = ""
		return
	}
	if m := dpkgPackageError.FindStringSubmatch(line); m != nil {
		r.failing = m[1]
		return
	}
	if m := dpkgArchiveError.FindStringSubmatch(line); m != nil {
		if f := debFile.FindStringSubmatch(numberedArchive.ReplaceAllString(m[1], "$1")); f != nil {
			r.failing = f[1]
		}
		return
	}
	if m := dpkgConffile.FindStringSubmatch(line); m != nil {
		r.conffile = m[1]
		return
	}
	if r.conffile != "" && strings.Contains(line, "Keeping old config file") {
		r.kept = append(r.kept, r.conffile)
		r.conffile = ""
		return
	}
	// What a script prints before it fails is the reason that a person looks for.
	switch text := strings.TrimSpace(line); {
	case text == "":
	case dpkgChatter(text):
		r.last = ""
	default:
		r.last = text
	}
}

// dpkgChatter: a line that dpkg prints of everything it does.
func dpkgChatter(line string) bool {
	for _, prefix := range []string{"Setting up ", "Preparing to unpack ", "Unpacking ", "Processing triggers ", "Selecting ", "(Reading database", "dpkg: ", "Installing new version of config file", "Errors were encountered"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// reason is what dpkg said of a package.
func (r *dpkgReader) reason(p Package) string {
	for _, name := range []string{p.Name, p.Name + ":" + p.Arch} {
		if text := r.reasons[name]; text != "" {
			return text
		}
	}
	return ""
}

var fetchFailed = regexp.MustCompile(`^E: Failed to fetch (\S+)\s+(.*)$`)

// fetchReader collects why packages could not be fetched, by name.
type fetchReader struct {
	reasons map[string]string
	other   []string
}

func (r *fetchReader) line(line string) {
	if m := fetchFailed.FindStringSubmatch(line); m != nil {
		address, err := url.PathUnescape(m[1])
		if err != nil {
			address = m[1]
		}
		if f := debFile.FindStringSubmatch(address); f != nil {
			r.reasons[f[1]] = "it cannot be fetched: " + withoutPassword(m[1]) + ": " + strings.Join(strings.Fields(m[2]), " ")
			return
		}
	}
	if text, ok := strings.CutPrefix(line, "E: "); ok {
		r.other = append(r.other, withoutPassword(text))
	}
}
