//go:build e2e

package patcher

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A bed is a machine with rpm on this machine: a mount namespace in which the places
// that rpm, dnf and zypper know are empty directories of its own. The programs are
// Debian's, the repository and its packages are made by the test.
type bed struct {
	*testing.T
	repository string // what the bed's manager is offered
	built      string // all packages, NAME-VERSION-1.noarch.rpm
	manager    func(Setup) Manager
	pidFile    string
}

// bedPlaces are the directories of a bed's own.
var bedPlaces = []string{"/var/lib/rpm", "/etc/rpm", "/etc/dnf", "/etc/yum.repos.d", "/var/lib/dnf", "/var/cache/dnf", "/etc/zypp", "/var/lib/zypp", "/var/cache/zypp", "/srv"}

// inBed runs the test in a bed: a process of this test in namespaces of its own.
func inBed(t *testing.T, manager func(Setup) Manager, pidFile string, test func(*bed)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("needs root, for a mount namespace")
	}
	if os.Getenv("PATCHER_BED") != t.Name() {
		built := buildPackages(t)
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
		defer cancel()
		command := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		command.Env = append(os.Environ(), "PATCHER_BED="+t.Name(), "PATCHER_BUILT="+built)
		out, err := command.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatalf("in the namespace: %v", err)
		}
		return
	}
	for _, place := range bedPlaces {
		if err := os.MkdirAll(place, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", place, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatalf("mount %s: %v", place, err)
		}
	}
	b := &bed{T: t, repository: "/srv/repository", built: os.Getenv("PATCHER_BUILT"), manager: manager, pidFile: pidFile}
	b.write("/etc/rpm/macros", bedMacros)
	b.write("/etc/dnf/dnf.conf", "[main]\ngpgcheck=0\ninstallonly_limit=3\nbest=True\nskip_if_unavailable=False\nexcludepkgs=held\n")
	b.write("/etc/yum.repos.d/main.repo", "[main-repo]\nname=Main\nbaseurl=file:///srv/repository\nenabled=1\ngpgcheck=0\n")
	b.write("/etc/zypp/repos.d/main.repo", "[main-repo]\nname=Main Repository\nbaseurl=dir:/srv/repository\nenabled=1\nautorefresh=1\ntype=rpm-md\ngpgcheck=0\n")
	b.write("/etc/zypp/locks", "\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: held\n\n")
	b.write("/srv/zypp.pid", "")
	b.run("rpm", "--initdb")
	test(b)
}

const bedMacros = "%_dbpath /var/lib/rpm\n%_db_backend sqlite\n%_build_id_links none\n%_buildhost bed\n"

// bedPackage is a package of the bed. Where it has neither preamble nor scripts it is
// there to be upgraded.
type bedPackage struct {
	name, version, preamble, scripts string
}

var bedPackages = []bedPackage{
	{"bash", "5", "Provides: /bin/sh\nProvides: /usr/bin/sh\nProvides: /bin/bash\nProvides: system-release(releasever) = 9", ""},
	{"lib", "1", "", ""}, {"lib", "1.1", "", ""}, {"lib", "2", "", ""},
	{"tool", "1", "", ""}, {"tool", "2", "", ""},
	{"current", "1", "", ""},
	{"epoch", "9", "", ""}, {"epoch", "1", "Epoch: 3", ""},
	{"held", "1", "", ""}, {"held", "2", "", ""},
	{"rejected", "1", "", ""}, {"rejected", "2", "", ""},
	{"firmware", "1", "", ""}, {"firmware", "2", "", ""},
	{"widened", "1", "", ""}, {"widened", "2", "Requires: brought = 2", ""}, {"brought", "2", "", ""},
	{"stuck", "1", "", ""}, {"stuck", "2", "Requires: not-in-any-repository", ""},
	{"bound", "1", "", ""}, {"bound", "2", "Requires: rejected = 2", ""},
	{"prefails", "1", "", ""}, {"prefails", "2", "", "%pre\necho the disk of prefails is odd >&2\nexit 3"},
	{"onprefails", "1", "", ""}, {"onprefails", "2", "Requires: prefails = 2", ""},
	{"postfails", "1", "", ""}, {"postfails", "2", "", "%post\necho postfails is cross >&2\nexit 3"},
	{"lost", "1", "", ""}, {"lost", "2", "", ""},
	{"configured", "1", "", ""}, {"configured", "2", "", ""},
	{"renamed", "1", "", ""}, {"successor", "2", "Obsoletes: renamed < 3\nProvides: renamed = 3", ""},
	{"cut", "1", "", ""}, {"cut", "2", "", ""},
}

// buildPackages builds bedPackages with rpmbuild and returns their directory.
func buildPackages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var specs []string
	for _, p := range bedPackages {
		spec := filepath.Join(dir, p.name+"-"+p.version+".spec")
		text := fmt.Sprintf("Name: %[1]s\nVersion: %[2]s\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%[3]s\n%%description\nx\n%%install\n"+
			"mkdir -p %%{buildroot}/srv/bed\necho %[2]s >%%{buildroot}/srv/bed/%[1]s.conf\n%[4]s\n%%files\n%%config(noreplace) /srv/bed/%[1]s.conf\n",
			p.name, p.version, p.preamble, p.scripts)
		if err := os.WriteFile(spec, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		specs = append(specs, spec)
	}
	command := exec.Command("rpmbuild", append([]string{"-bb", "--quiet", "--define", "_topdir " + filepath.Join(dir, "top"),
		"--define", "_rpmdir " + dir, "--define", "_dbpath " + filepath.Join(dir, "db"), "--define", "_build_id_links none"}, specs...)...)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("rpmbuild: %v\n%s", err, out)
	}
	return filepath.Join(dir, "noarch")
}

func (b *bed) write(path, text string) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) run(name string, args ...string) string {
	b.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (b *bed) file(p string) string { return filepath.Join(b.built, p+"-1.noarch.rpm") }

// install puts NAME-VERSION packages on the machine by rpm alone.
func (b *bed) install(packages ...string) {
	b.Helper()
	args := []string{"-U", "--force-debian", "--nodeps", "--replacepkgs", "--oldpackage"}
	for _, p := range packages {
		args = append(args, b.file(p))
	}
	b.run("rpm", args...)
}

// publish makes the repository of NAME-VERSION packages, with notices if there are
// any.
func (b *bed) publish(dir, notices string, packages ...string) {
	b.Helper()
	if err := os.RemoveAll(dir); err != nil {
		b.Fatal(err)
	}
	for _, p := range packages {
		data, err := os.ReadFile(b.file(p))
		if err != nil {
			b.Fatal(err)
		}
		b.write(filepath.Join(dir, filepath.Base(b.file(p))), string(data))
	}
	b.run("createrepo_c", "-q", dir)
	if notices != "" {
		b.write(filepath.Join(dir, "updateinfo.xml"), "<?xml version=\"1.0\"?>\n<updates>"+notices+"</updates>")
		b.run("modifyrepo_c", "--mdtype=updateinfo", filepath.Join(dir, "updateinfo.xml"), filepath.Join(dir, "repodata"))
	}
}

func bedNotice(id, kind, severity, cve string, reboot bool, packages ...Package) string {
	text := `<update from="bed" status="stable" type="` + kind + `" version="1"><id>` + id + `</id><title>` + id + `</title>` +
		`<issued date="2026-01-10 00:00:00"/><updated date="2026-01-12 00:00:00"/><severity>` + severity + `</severity><references>`
	if cve != "" {
		text += `<reference href="https://example.invalid/" id="` + cve + `" title="` + cve + `" type="cve"/>`
	}
	text += `</references><pkglist><collection short="c"><name>c</name>`
	for _, p := range packages {
		epoch, rest, _ := strings.Cut(p.Version, ":")
		version, release, _ := cutLast(rest, '-')
		text += fmt.Sprintf(`<package name="%s" version="%s" release="%s" epoch="%s" arch="%s"><filename>%s.rpm</filename>`, p.Name, version, release, epoch, p.Arch, nvra(p))
		if reboot {
			text += `<reboot_suggested>True</reboot_suggested>`
		}
		text += `</package>`
	}
	return text + `</collection></pkglist></update>`
}

// setup is one for the bed's manager, with metadata in a directory that lasts.
func (b *bed) setup() Setup {
	return Setup{Root: "/", Cache: "/srv/cache", Log: b.Output(), Now: time.Now}
}

func (b *bed) inventory(setup Setup) *Inventory {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	inventory, err := b.manager(setup).Inventory(ctx)
	if err != nil {
		b.Fatalf("inventory: %v", err)
	}
	return inventory
}

// versions are the installed versions of a package, as rpm itself says.
func (b *bed) versions(name string) []string {
	b.Helper()
	return strings.Fields(b.run("rpm", "-q", "--qf", "%{VERSION} ", name))
}

func (b *bed) has(name string, version ...string) {
	b.Helper()
	if got := b.versions(name); !slices.Equal(got, version) {
		b.Errorf("%s is installed in %v, want %v", name, got, version)
	}
}

// sums are the checksums of all files that belong to the system, by path.
func (b *bed) sums() string {
	b.Helper()
	return b.run("sh", "-c", "find /var/lib/rpm /etc/rpm /etc/dnf /etc/yum.repos.d /var/lib/dnf /var/cache/dnf /etc/zypp /var/lib/zypp /var/cache/zypp -type f ! -name '*-shm' -exec sha256sum {} + | sort -k 2")
}

func noarch(name, version string) Package {
	return Package{Name: name, Arch: "noarch", Version: version}
}
