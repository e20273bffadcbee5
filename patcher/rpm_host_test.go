//go:build e2e

package patcher

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// rpmMachine is a root with this machine's rpm, dnf and zypper, a database of its own,
// and a repository over HTTP of packages that rpmbuild makes on the spot. Debian has
// all of these programs, so that they need no machine of another family. Its package
// of dnf's plugins excludes zypper: dnfPlugins has it unpacked.
type rpmMachine struct {
	t    *testing.T
	root string
	// open makes the manager to be tested; zypper or not decides how packages are held.
	open   func(Setup) Manager
	zypper bool
	// repository is the directory of what is published; work that of specs and builds.
	repository, work string
	server           *httptest.Server
	gone             *atomic.Bool
	notices          strings.Builder
}

// dnfPlugins names the directory where make e2e has unpacked dnf-plugins-core.
const dnfPlugins = "PATCHER_DNF_PLUGINS"

func TestDNF(t *testing.T) {
	testManager(t, func(t *testing.T) managerHost { return newDNFMachine(t) })
}

func TestZypper(t *testing.T) {
	testManager(t, func(t *testing.T) managerHost { return newZypperMachine(t) })
}

func newDNFMachine(t *testing.T) *rpmMachine {
	t.Helper()
	h := newRPMMachine(t, func(s Setup) Manager { return NewDNF(s) }, false)
	from := os.Getenv(dnfPlugins)
	if from == "" {
		t.Fatalf("%s is not set; make e2e sets it", dnfPlugins)
	}
	for _, name := range []string{"dnf-plugins/versionlock.py", "dnfpluginscore"} {
		to := h.file(filepath.Join("usr/lib/python3/dist-packages", filepath.Dir(name)))
		h.command("mkdir", "-p", to)
		h.command("cp", "-r", filepath.Join(from, "usr/lib/python3/dist-packages", name), to)
	}
	put(t, h.root, "/etc/dnf/plugins/versionlock.conf", "[main]\nenabled=1\nlocklist=/etc/dnf/plugins/versionlock.list\n")
	put(t, h.root, "/etc/dnf/plugins/versionlock.list", "")
	return h
}

func newZypperMachine(t *testing.T) *rpmMachine {
	return newRPMMachine(t, func(s Setup) Manager { return NewZypper(s) }, true)
}

func newRPMMachine(t *testing.T, open func(Setup) Manager, zypper bool) *rpmMachine {
	t.Helper()
	for _, program := range []string{"dnf", "zypper", "rpmbuild", "createrepo_c", "modifyrepo_c"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is needed: apt-get install dnf zypper rpm createrepo-c", program)
		}
	}
	h := &rpmMachine{t: t, root: overlayRoot(t), open: open, zypper: zypper, work: t.TempDir(), gone: &atomic.Bool{}}
	h.repository = filepath.Join(h.work, "repository")
	for _, dir := range []string{"/var/lib/rpm", "/etc/rpm", "/etc/dnf", "/etc/yum.repos.d", "/var/lib/dnf", "/var/cache", "/etc/zypp", "/var/lib/zypp", "/var/log"} {
		emptyDir(t, h.root, dir)
	}
	put(t, h.root, "/etc/rpm/macros", "%_dbpath /var/lib/rpm\n%_db_backend sqlite\n")
	put(t, h.root, "/etc/dnf/dnf.conf", "[main]\ngpgcheck=0\ninstallonly_limit=3\nbest=True\nskip_if_unavailable=False\n")
	put(t, h.root, "/etc/zypp/locks", "")
	if err := os.MkdirAll(h.file("/var/log/zypp"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(h.repository))
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.gone.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(h.server.Close)
	put(t, h.root, "/etc/yum.repos.d/main.repo", "[main-repo]\nname=Main\nbaseurl="+h.server.URL+"\nenabled=1\ngpgcheck=0\nretries=1\n")
	put(t, h.root, "/etc/zypp/repos.d/main.repo", "[main-repo]\nname=Main Repository\nbaseurl="+h.server.URL+"\nenabled=1\nautorefresh=1\ntype=rpm-md\ngpgcheck=0\n")
	h.do("rpm", "--initdb")
	// Packages with scripts want somebody to provide the shell.
	h.addSpec("bash", "5", "1", "Provides: /bin/sh\nProvides: /usr/bin/sh\nProvides: system-release(releasever) = 9", "", "")
	h.build()
	h.index()
	h.setUp("bash")
	return h
}

func (h *rpmMachine) manager(change func(*Setup)) Manager {
	setup := Setup{Root: h.root, Cache: filepath.Join(h.root, "/var/cache/meshd"), Log: testLog{h.t}}
	if change != nil {
		change(&setup)
	}
	return h.open(setup)
}

func (h *rpmMachine) version(short string) string {
	if !strings.Contains(short, ":") {
		short = "0:" + short
	}
	return short + "-1"
}

func (h *rpmMachine) arch() string            { return "noarch" }
func (h *rpmMachine) file(name string) string { return filepath.Join(h.root, name) }
func (h *rpmMachine) lockFile() string        { return h.file("/var/lib/rpm/.rpm.lock") }
func (h *rpmMachine) down()                   { h.gone.Store(true) }

func (h *rpmMachine) rpm(name, version string) string {
	_, bare, found := strings.Cut(version, ":")
	if !found {
		bare = version
	}
	return filepath.Join(h.repository, name+"-"+bare+"-1.noarch.rpm")
}

func (h *rpmMachine) lose(name, version string) {
	if err := os.Remove(h.rpm(name, version)); err != nil {
		h.t.Fatal(err)
	}
}

// publish builds packages and writes the index anew. What is for security has a notice.
func (h *rpmMachine) publish(packages ...testPackage) {
	h.t.Helper()
	for _, p := range packages {
		var preamble, scripts strings.Builder
		for _, need := range p.needs {
			preamble.WriteString("Requires: " + need + "\n")
		}
		if p.before != "" {
			scripts.WriteString("%pre\n" + p.before + "\n")
		}
		if p.after != "" {
			scripts.WriteString("%post\n" + p.after + "\n")
		}
		h.addSpec(p.name, p.version, "1", preamble.String(), scripts.String(), p.conffile)
		if p.security {
			h.notice("SUITE-"+p.name+"-"+p.version, "security", "Important", "CVE-2026-1", false, Package{Name: p.name, Arch: "noarch", Version: h.version(p.version)})
		}
	}
	h.build()
	h.index()
}

// addSpec prepares a package to be built; version may have an epoch.
func (h *rpmMachine) addSpec(name, version, release, preamble, scripts, conffile string) {
	h.t.Helper()
	epoch, bare, found := strings.Cut(version, ":")
	if !found {
		epoch, bare = "", version
	} else {
		epoch = "Epoch: " + epoch + "\n"
	}
	content, list := "/usr/share/suite/"+name, "/usr/share/suite/"+name
	if conffile != "" {
		content, list = conffile, "%config(noreplace) "+conffile
	}
	text := fmt.Sprintf("Name: %s\n%sVersion: %s\nRelease: %s\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%s\n%%description\nx\n%%install\nmkdir -p %%{buildroot}%s\necho %s >%%{buildroot}%s\n%s\n%%files\n%s\n",
		name, epoch, bare, release, preamble, filepath.Dir(content), bare, content, scripts, list)
	put(h.t, h.work, "specs/"+name+"-"+bare+".spec", text)
}

// build builds what is prepared into the repository.
func (h *rpmMachine) build() {
	h.t.Helper()
	specs, err := filepath.Glob(filepath.Join(h.work, "specs/*.spec"))
	if err != nil || len(specs) == 0 {
		return
	}
	define := func(name, value string) []string { return []string{"--define", name + " " + value} }
	args := []string{"-bb", "--quiet"}
	args = append(args, define("_topdir", filepath.Join(h.work, "top"))...)
	args = append(args, define("_rpmdir", filepath.Join(h.work, "built"))...)
	args = append(args, define("_dbpath", filepath.Join(h.work, "db"))...)
	args = append(args, define("_build_name_fmt", "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm")...)
	if out, err := exec.Command("rpmbuild", append(args, specs...)...).CombinedOutput(); err != nil {
		h.t.Fatalf("rpmbuild: %v\n%s", err, out)
	}
	for _, spec := range specs {
		os.Remove(spec)
	}
	built, err := filepath.Glob(filepath.Join(h.work, "built/*.rpm"))
	if err != nil || len(built) == 0 {
		h.t.Fatalf("rpmbuild made nothing: %v", err)
	}
	if err := os.MkdirAll(h.repository, 0o755); err != nil {
		h.t.Fatal(err)
	}
	for _, file := range built {
		if err := os.Rename(file, filepath.Join(h.repository, filepath.Base(file))); err != nil {
			h.t.Fatal(err)
		}
	}
}

// index writes the metadata of the repository.
func (h *rpmMachine) index() {
	h.t.Helper()
	h.command("createrepo_c", "-q", h.repository)
	if h.notices.Len() > 0 {
		put(h.t, h.work, "updateinfo.xml", "<?xml version=\"1.0\"?>\n<updates>"+h.notices.String()+"</updates>")
		h.command("modifyrepo_c", "--mdtype=updateinfo", filepath.Join(h.work, "updateinfo.xml"), filepath.Join(h.repository, "repodata"))
	}
}

// notice adds a notice to the next index.
func (h *rpmMachine) notice(id, kind, severity, cve string, reboot bool, packages ...Package) {
	h.notices.WriteString(`<update from="suite" status="stable" type="` + kind + `" version="1"><id>` + id + `</id><title>` + id + `</title>` +
		`<issued date="2026-01-10 00:00:00"/><updated date="2026-01-12 00:00:00"/><severity>` + severity + `</severity><references>`)
	if cve != "" {
		h.notices.WriteString(`<reference href="https://example.invalid/" id="` + cve + `" title="` + cve + `" type="cve"/>`)
	}
	h.notices.WriteString(`</references><pkglist><collection short="c"><name>c</name>`)
	for _, p := range packages {
		epoch, rest, _ := strings.Cut(p.Version, ":")
		version, release, _ := cutLast(rest, '-')
		fmt.Fprintf(&h.notices, `<package name="%s" version="%s" release="%s" epoch="%s" arch="%s"><filename>%s.rpm</filename>`, p.Name, version, release, epoch, p.Arch, nvra(p))
		if reboot {
			h.notices.WriteString(`<reboot_suggested>True</reboot_suggested>`)
		}
		h.notices.WriteString(`</package>`)
	}
	h.notices.WriteString(`</collection></pkglist></update>`)
}

// setUp installs with rpm alone, the newest that is published.
func (h *rpmMachine) setUp(names ...string) {
	h.t.Helper()
	args := []string{"-U", "--force-debian", "--nodeps", "--replacepkgs"}
	for _, name := range names {
		args = append(args, h.deliver(name))
	}
	h.do("rpm", args...)
}

// deliver puts the newest version of a package onto the machine.
func (h *rpmMachine) deliver(name string) string {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(h.repository, name+"-*.rpm"))
	if err != nil {
		h.t.Fatal(err)
	}
	var newest Package
	var from string
	for _, file := range files {
		p, ok := parseNEVRA(strings.TrimSuffix(filepath.Base(file), ".rpm"))
		if ok && p.Name == name && (from == "" || CompareRPM(p.Version, newest.Version) > 0) {
			newest, from = p, file
		}
	}
	text, err := os.ReadFile(from)
	if err != nil {
		h.t.Fatalf("%s is not published: %v", name, err)
	}
	put(h.t, h.root, "/tmp/"+filepath.Base(from), string(text))
	return "/tmp/" + filepath.Base(from)
}

func (h *rpmMachine) installed() map[string]string {
	h.t.Helper()
	versions := map[string]string{}
	for line := range strings.Lines(h.do("rpm", "-qa", "--qf", "%{NAME} %|EPOCH?{%{EPOCH}}:{0}|:%{VERSION}-%{RELEASE}\n")) {
		if fields := strings.Fields(line); len(fields) == 2 {
			if old := versions[fields[0]]; old != "" {
				fields[1] = old + " " + fields[1]
			}
			versions[fields[0]] = fields[1]
		}
	}
	return versions
}

// hold locks the installed version.
func (h *rpmMachine) hold(name string) {
	h.t.Helper()
	if h.zypper {
		h.do("zypper", "--non-interactive", "addlock", name)
		return
	}
	put(h.t, h.root, "/etc/dnf/plugins/versionlock.list", "\n# a note\n"+name+"-"+h.installed()[name]+".*\n")
}

// interrupt leaves both versions in the database, as a kill in the middle does.
func (h *rpmMachine) interrupt(name string) {
	h.do("rpm", "-i", "--force-debian", "--force", "--nodeps", h.deliver(name))
}

// digest has each file of rpm, dnf and zypper with its time and content. The shared
// memory of SQLite, which each reader writes, is left out.
func (h *rpmMachine) digest() string {
	h.t.Helper()
	var text strings.Builder
	for _, dir := range []string{"/var/lib/rpm", "/etc/rpm", "/etc/dnf", "/etc/yum.repos.d", "/var/lib/dnf", "/var/cache/dnf", "/etc/zypp", "/var/lib/zypp", "/var/cache/zypp", "/var/log", "/run"} {
		err := filepath.WalkDir(h.file(dir), func(path string, entry fs.DirEntry, err error) error {
			if os.IsNotExist(err) || strings.HasSuffix(path, "-shm") {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "%s %s", strings.TrimPrefix(path, h.root), info.Mode())
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(&text, " %s %x", info.ModTime().Format(time.RFC3339Nano), sha256.Sum256(content))
			}
			text.WriteByte('\n')
			return nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	return text.String()
}

// do runs a program of the machine and returns its output.
func (h *rpmMachine) do(name string, args ...string) string {
	h.t.Helper()
	command := exec.Command("/usr/bin/"+name, args...)
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: h.root}
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"}
	var errors strings.Builder
	command.Stderr = &errors
	out, err := command.Output()
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errors.String())
	}
	return string(out)
}

// command runs a program of this machine.
func (h *rpmMachine) command(name string, args ...string) {
	h.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
