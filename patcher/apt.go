package patcher

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/internal/durable"
)

const (
	// refreshLimit is how long fetching the metadata may take; what is not there by then
	// counts as failed. Longer: a source that answers drop by drop delays the scan.
	refreshLimit = 15 * time.Minute
	// queryLimit is how long a question to apt may take.
	queryLimit = 5 * time.Minute
	// fetchLimit is how long fetching packages may take.
	fetchLimit = 2 * time.Hour
	// transactionLimit is how long dpkg may work on one transaction. A script of a
	// package that waits for ever is ended by it.
	transactionLimit = 2 * time.Hour
)

// Apt is the package manager of Debian, Ubuntu and Raspbian. It uses apt-get,
// apt-cache and dpkg, and reads dpkg's status and apt's lists by itself.
type Apt struct {
	setup Setup
	// native is the machine's own architecture, once it is known.
	native string
	notes  []string
	// problems are those of the last refresh.
	problems refreshProblems
}

// NewApt returns the package manager; it does nothing yet.
func NewApt(setup Setup) *Apt {
	if setup.Root == "" {
		setup.Root = "/"
	}
	if setup.Log == nil {
		setup.Log = io.Discard
	}
	if setup.Now == nil {
		setup.Now = time.Now
	}
	return &Apt{setup: setup}
}

// Compare orders two versions as dpkg does.
func (a *Apt) Compare(x, y string) int { return CompareDeb(x, y) }

// Notes are sentences on what Install found that is worth a person's look, and that
// no outcome of a package says: configuration files that were kept.
func (a *Apt) Notes() []string { return a.notes }

// path is a file of the machine, as this process sees it.
func (a *Apt) path(name string) string { return filepath.Join(a.setup.Root, name) }

// inside is a path of this process as the machine's programs see it.
func (a *Apt) inside(path string) string {
	if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(a.setup.Root, "/")); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return path
}

// tool prepares a program.
func (a *Apt) tool(limit time.Duration, name string, args ...string) tool {
	return tool{Root: a.setup.Root, Name: name, Args: args, Log: a.setup.Log, Limit: limit, Env: aptEnvironment}
}

// aptEnvironment keeps all that packages start from asking questions, and from
// restarting services behind the operator's back.
var aptEnvironment = []string{
	"DEBIAN_FRONTEND=noninteractive",
	"DEBIAN_PRIORITY=critical",
	"DEBCONF_NONINTERACTIVE_SEEN=true",
	"APT_LISTCHANGES_FRONTEND=none",
	"APT_LISTBUGS_FRONTEND=none",
	"NEEDRESTART_SUSPEND=1",
	"UCF_FORCE_CONFFOLD=1",
}

// dirs are ours, below Setup.Cache.
type aptDirs struct {
	lists, cache, archives string
	config                 string // a file
	preferences            string // a file
	sources                string // a file
}

// dirs are the places of a run. The sources of a baseline have lists of their own:
// apt removes the lists of sources that it does not know.
func (a *Apt) dirs() aptDirs {
	base := filepath.Join(a.setup.Cache, "apt")
	if len(a.setup.Sources) > 0 {
		base = filepath.Join(a.setup.Cache, "apt-baseline")
	}
	return aptDirs{
		lists: filepath.Join(base, "lists"), cache: filepath.Join(base, "cache"), archives: filepath.Join(base, "archives"),
		config: filepath.Join(base, "apt.conf"), preferences: filepath.Join(base, "preferences"), sources: filepath.Join(base, "sources.list"),
	}
}

// prepare makes our directories and apt's configuration for them. lists is the
// directory of lists to use.
func (a *Apt) prepare(lists string) error {
	d := a.dirs()
	// apt fetches as a user of its own, who must get through.
	for _, dir := range []string{filepath.Join(d.lists, "partial"), filepath.Join(d.archives, "partial"), d.cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("prepare apt's directories: %w", err)
		}
	}
	for _, dir := range []string{a.setup.Cache, filepath.Dir(d.lists), d.lists, d.cache, d.archives} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return fmt.Errorf("prepare apt's directories: %w", err)
		}
	}
	if len(a.setup.Sources) > 0 {
		if err := writeOpen(d.sources, sourceLines(a.setup.Sources)); err != nil {
			return err
		}
	}
	return writeOpen(d.config, a.configuration(lists))
}

// writeOpen writes a file that every user may read: apt fetches as one of its own.
func writeOpen(path, text string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return os.Chmod(path, 0o644)
	}
	if err := durable.WriteFile(path, []byte(text)); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// sourceLines are the entries of a baseline's sources.
func sourceLines(sources []types.PatchSource) string {
	var lines strings.Builder
	for _, source := range sources {
		if source.Configuration != nil {
			fmt.Fprintln(&lines, strings.TrimSpace(*source.Configuration))
		}
	}
	return lines.String()
}

// configuration is read by apt after the machine's own: other places for what it
// fetches and computes, no hooks of updates, no lists but those of packages.
func (a *Apt) configuration(lists string) string {
	d := a.dirs()
	var c strings.Builder
	set := func(name, value string) { fmt.Fprintf(&c, "%s %q;\n", name, value) }
	fmt.Fprintln(&c, "// Written anew by each run.")
	for _, hook := range []string{"Pre-Invoke", "Post-Invoke", "Post-Invoke-Success", "Post-Invoke-Stats"} {
		fmt.Fprintf(&c, "#clear APT::Update::%s;\n", hook)
	}
	set("Dir::State::Lists", a.inside(lists)+"/")
	set("Dir::Cache", a.inside(d.cache)+"/")
	set("Dir::Cache::Archives", a.inside(d.archives)+"/")
	set("Dir::Cache::pkgcache", "pkgcache.bin")
	set("Dir::Cache::srcpkgcache", "")
	if len(a.setup.Sources) > 0 {
		set("Dir::Etc::SourceList", a.inside(d.sources))
		set("Dir::Etc::SourceParts", "/dev/null")
	}
	fmt.Fprintln(&c, "#clear Acquire::IndexTargets;")
	fmt.Fprint(&c, `Acquire::IndexTargets::deb::Packages {
	MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
	flatMetaKey "Packages";
	ShortDescription "Packages";
	Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
	flatDescription "$(RELEASE) Packages";
	Optional "0";
};
`)
	set("Acquire::Languages", "none")
	set("Dpkg::Use-Pty", "0")
	set("APT::Color", "0")
	// The cache is below a directory that is root's alone, where apt's own user cannot
	// go; what comes is held to its signatures as ever.
	set("APT::Sandbox::User", "root")
	set("APT::Get::Assume-Yes", "true")
	set("APT::Get::Show-User-Simulation-Note", "false")
	set("APT::Install-Recommends", "false")
	set("APT::Install-Suggests", "false")
	set("quiet", "1")
	return c.String()
}

// aptGet prepares apt-get or apt-cache with our configuration.
func (a *Apt) aptGet(limit time.Duration, name string, args ...string) tool {
	return a.tool(limit, name, append([]string{"-c", a.inside(a.dirs().config)}, args...)...)
}

// architecture asks dpkg once.
func (a *Apt) architecture(ctx context.Context) (string, error) {
	if a.native != "" {
		return a.native, nil
	}
	var answer string
	ask := a.tool(queryLimit, "dpkg", "--print-architecture")
	ask.Log = nil
	ask.Line = func(line string) {
		if answer == "" {
			answer = strings.TrimSpace(line)
		}
	}
	if o, err := ask.run(ctx); err != nil {
		return "", err
	} else if o.Code != 0 || answer == "" {
		return "", fmt.Errorf("ask dpkg for the architecture: %s", o.lastWords())
	}
	a.native = answer
	return answer, nil
}

// lockFiles are those that apt and dpkg hold while they change packages.
func (a *Apt) lockFiles() []string {
	return []string{a.path("/var/lib/dpkg/lock-frontend"), a.path("/var/lib/dpkg/lock")}
}
