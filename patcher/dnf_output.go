package patcher

import (
	"regexp"
	"slices"
	"strings"
)

// What dnf (4) and yum (3) print with -v and LC_ALL=C. The order of lines of one
// stream is sure, that of lines of both only where dnf does not buffer.
var (
	// ---> Package libdemo.noarch 1.1-1.el9 will be an upgrade
	dnfFate = regexp.MustCompile(`^---> Package (\S+)\.(\S+) (\S+) will be (.+)$`)
	// baseos: using metadata from Tue Nov 24 01:52:57 2026.
	dnfLoaded = regexp.MustCompile(`^(\S+): using metadata from `)
	// Error: Failed to download metadata for repo 'down': Cannot download repomd.xml …
	dnfRepoError = regexp.MustCompile(`^(?:Error: )?Failed to download metadata for repo(?:sitory)? '([^']+)': (.+)$`)
	// Errors during downloading metadata for repository 'down':
	dnfRepoErrors = regexp.MustCompile(`^Errors during downloading metadata for repository '([^']+)':$`)
	// Error: Cache-only enabled but no cache for 'down'
	dnfRepoNoCache = regexp.MustCompile(`^(?:Error: )?Cache-only enabled but no cache for '([^']+)'`)
	// Ignoring repositories: down, other
	dnfIgnoring = regexp.MustCompile(`^Ignoring repositories: (.+)$`)
	// All matches were filtered out by exclude filtering for argument: heldemo-0:1.1-1.el9.noarch
	dnfFiltered = regexp.MustCompile(`^All matches were filtered out by (exclude|modular) filtering for argument: (\S+)$`)
	// No match for argument: nosuch-0:1-1.noarch
	dnfNoMatch = regexp.MustCompile(`^(?:No match for argument|No package (\S+) available)(?:: (\S+))?`)
	// Another program of dnf's kind is at work.
	dnfLocked = regexp.MustCompile(`(?i)(another (copy|app) is (running|currently holding)|Waiting for process with pid|lock (?:is )?(?:already )?held|Failed to obtain .*lock)`)
	// Warnings of rpm about configuration files: warning: /etc/a.conf created as /etc/a.conf.rpmnew
	rpmConfigKept = regexp.MustCompile(`^warning: (/\S.*) (created|saved) as (/\S.*)$`)
	// error: %prein(prefail-2-1.noarch) scriptlet failed, exit status 3
	rpmScriptlet = regexp.MustCompile(`^(error|warning): %(\w+)\((\S+)\) scriptlet failed, (.+)$`)
)

// dnfPlan is what dnf would do and what it said on the way there.
type dnfPlan struct {
	loaded   []string          // repositories whose metadata it used
	problems map[string]string // repository → why it could not be used
	// taken has what would be installed, as an upgrade or beside others; obsoleted the
	// installed packages that others would replace, by name.arch.
	taken     map[Package]bool
	obsoleted map[string]bool
	// filtered has the arguments that the configuration takes out, by "exclude" or
	// "modular", or that are in no repository, "".
	filtered map[string]string
	resolved bool // it came to a result
	locks    bool // the versionlock plugin is at work
	locked   bool
	errors   []string // lines that begin with Error
	current  string   // repository that the next detail belongs to
}

func newDNFPlan() *dnfPlan {
	return &dnfPlan{problems: map[string]string{}, taken: map[Package]bool{}, obsoleted: map[string]bool{}, filtered: map[string]string{}}
}

// line takes one line of output.
func (p *dnfPlan) line(line string) {
	current := p.current
	p.current = ""
	switch {
	case strings.HasPrefix(line, "---> Package "):
		if found := dnfFate.FindStringSubmatch(line); found != nil {
			p.fate(Package{Name: found[1], Arch: found[2], Version: withEpoch(found[3])}, found[4])
		}
	case strings.HasPrefix(line, "  - ") && current != "":
		// The first detail says more than the summary that follows: "Curl error (7): …".
		if p.problems[current] == "" {
			p.problems[current] = strings.TrimSpace(strings.TrimPrefix(line, "  - "))
		}
		p.current = current
	case strings.HasPrefix(line, "--> Finished"), strings.HasPrefix(line, "Nothing to do"), strings.HasPrefix(line, "Dependencies resolved"),
		strings.HasPrefix(line, "Dependencies Resolved"), strings.HasPrefix(line, "No packages marked for update"):
		p.resolved = true
	case strings.HasPrefix(line, "Loaded plugins: "):
		p.locks = strings.Contains(line, "versionlock")
	default:
		p.message(line)
	}
}

func (p *dnfPlan) message(line string) {
	if found := dnfLoaded.FindStringSubmatch(line); found != nil {
		if !slices.Contains(p.loaded, found[1]) {
			p.loaded = append(p.loaded, found[1])
		}
		return
	}
	if found := dnfRepoErrors.FindStringSubmatch(line); found != nil {
		p.current = found[1]
		p.problem(found[1], "")
		return
	}
	if found := dnfRepoError.FindStringSubmatch(line); found != nil {
		p.problem(found[1], found[2])
		return
	}
	if found := dnfRepoNoCache.FindStringSubmatch(line); found != nil {
		p.problem(found[1], "there is no metadata of it on this machine")
		return
	}
	if found := dnfIgnoring.FindStringSubmatch(line); found != nil {
		for _, id := range strings.Split(found[1], ", ") {
			p.problem(strings.TrimSpace(id), "")
		}
		return
	}
	if found := dnfFiltered.FindStringSubmatch(line); found != nil {
		p.filtered[found[2]] = found[1]
		return
	}
	if found := dnfNoMatch.FindStringSubmatch(line); found != nil {
		p.filtered[found[1]+found[2]] = ""
		return
	}
	if dnfLocked.MatchString(line) {
		p.locked = true
	}
	if strings.HasPrefix(line, "Error") {
		p.errors = append(p.errors, line)
	}
}

func (p *dnfPlan) problem(id, why string) {
	if p.problems[id] == "" {
		p.problems[id] = why
	}
}

func (p *dnfPlan) fate(pkg Package, fate string) {
	switch fate {
	case "an upgrade", "an update", "installed", "obsoleting":
		p.taken[pkg] = true
	case "obsoleted":
		p.obsoleted[pkg.ID()] = true
	}
}
