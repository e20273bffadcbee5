package patcher

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// aptHost is a root with this machine's apt and dpkg, a package database of its own,
// and two suites of a repository over HTTP: stable and stable-security.
type aptHost struct {
	t      *testing.T
	root   string
	native string
	repo   *debRepository
}

func newAptHost(t *testing.T) managerHost { return aptHostOf(t) }

func aptHostOf(t *testing.T) *aptHost {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("needs apt")
	}
	h := &aptHost{t: t, root: overlayRoot(t), native: goArchOfDeb()}
	for _, dir := range []string{"/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/etc/apt", "/etc/dpkg", "/var/log"} {
		emptyDir(t, h.root, dir)
	}
	for _, dir := range []string{"/var/lib/dpkg/info", "/var/lib/dpkg/updates", "/var/lib/dpkg/triggers", "/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial", "/etc/apt/apt.conf.d", "/etc/apt/preferences.d", "/etc/apt/trusted.gpg.d", "/etc/dpkg/dpkg.cfg.d"} {
		if err := os.MkdirAll(filepath.Join(h.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/var/lib/dpkg/status", "/var/lib/dpkg/available", "/var/lib/dpkg/diversions", "/var/lib/dpkg/lock", "/var/lib/dpkg/lock-frontend", "/var/lib/apt/extended_states"} {
		put(t, h.root, name, "")
	}
	put(t, h.root, "/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
	put(t, h.root, "/etc/apt/apt.conf.d/50test", `Acquire::http::Proxy "DIRECT";
Acquire::Retries "0";
APT::Update::Post-Invoke { "touch /hook-of-update"; };
APT::Update::Post-Invoke-Success { "touch /hook-of-update"; };
`)
	h.repo = newDebRepository(t, h.native)
	put(t, h.root, "/etc/apt/sources.list", fmt.Sprintf("deb [trusted=yes] %s/debian stable main\ndeb [trusted=yes] %s/security stable-security main\n", h.repo.server.URL, h.repo.server.URL))
	return h
}

func goArchOfDeb() string {
	if runtime.GOARCH == "386" {
		return "i386"
	}
	return runtime.GOARCH
}

func (h *aptHost) manager(change func(*Setup)) Manager { return h.apt(change) }

func (h *aptHost) apt(change func(*Setup)) *Apt {
	setup := Setup{Root: h.root, Cache: filepath.Join(h.root, "/var/cache/meshd"), Log: testLog{h.t}}
	if change != nil {
		change(&setup)
	}
	return NewApt(setup)
}

// testLog is what a package manager prints, shown where a test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(text []byte) (int, error) {
	l.t.Logf("%s", bytes.TrimRight(text, "\n"))
	return len(text), nil
}

func (h *aptHost) version(short string) string { return short }
func (h *aptHost) arch() string                { return "all" }
func (h *aptHost) file(name string) string     { return filepath.Join(h.root, name) }
func (h *aptHost) lockFile() string            { return h.file("/var/lib/dpkg/lock-frontend") }
func (h *aptHost) down()                       { h.repo.answer(false) }

func (h *aptHost) lose(name, version string) {
	h.repo.lost(name, version)
}

// do runs a program of the machine and returns its output.
func (h *aptHost) do(name string, args ...string) string {
	h.t.Helper()
	out, err := h.try(name, args...)
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (h *aptHost) try(name string, args ...string) (string, error) {
	command := exec.Command(name, args...)
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: h.root}
	command.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	out, err := command.CombinedOutput()
	return string(out), err
}

// setUp installs with dpkg alone, the newest that is published.
func (h *aptHost) setUp(names ...string) {
	h.t.Helper()
	args := []string{"-i"}
	for _, name := range names {
		args = append(args, h.deliver(name))
	}
	h.do("/usr/bin/dpkg", args...)
}

// deliver puts the newest archive of a package onto the machine.
func (h *aptHost) deliver(name string) string {
	h.t.Helper()
	archive, text := h.repo.newest(name)
	if text == nil {
		h.t.Fatalf("%s is not published", name)
	}
	put(h.t, h.root, "/tmp/"+archive, string(text))
	return "/tmp/" + archive
}

func (h *aptHost) publish(packages ...testPackage) { h.repo.publish(packages...) }

func (h *aptHost) installed() map[string]string {
	versions := map[string]string{}
	for line := range strings.Lines(h.do("/usr/bin/dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\n")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[2] != "config-files" && fields[2] != "not-installed" {
			versions[fields[0]] = fields[1]
		}
	}
	return versions
}

func (h *aptHost) hold(name string) { h.do("/usr/bin/apt-mark", "hold", name) }

// interrupt leaves the package unpacked, as a power cut does.
func (h *aptHost) interrupt(name string) { h.do("/usr/bin/dpkg", "--unpack", h.deliver(name)) }

// digest has each file of dpkg and apt with its owner, times and content.
func (h *aptHost) digest() string {
	h.t.Helper()
	var text strings.Builder
	for _, dir := range []string{"/var/lib/dpkg", "/var/lib/apt", "/etc/apt", "/etc/dpkg", "/var/cache/apt", "/var/log"} {
		err := filepath.WalkDir(h.file(dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "%s %s %s %d", strings.TrimPrefix(path, h.root), info.Mode(), info.ModTime().Format(time.RFC3339Nano), info.Sys().(*syscall.Stat_t).Uid)
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(&text, " %x", sha256.Sum256(content))
			}
			text.WriteByte('\n')
			return nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if _, err := os.Stat(h.file("/hook-of-update")); err == nil {
		text.WriteString("the hooks of apt-get update were run\n")
	}
	return text.String()
}

// debRepository serves packages.
type debRepository struct {
	t      *testing.T
	native string
	server *httptest.Server

	mu       sync.Mutex
	packages []*servedDeb
	files    map[string][]byte // by path
	gone     bool
	// validUntil goes into the Release files, where it is not zero.
	validUntil time.Time
	// stanza is added to the stanza of a package, by name.
	stanza map[string]string
}

type servedDeb struct {
	testPackage
	archive string
	text    []byte
}

func newDebRepository(t *testing.T, native string) *debRepository {
	r := &debRepository{t: t, native: native, files: map[string][]byte{}, stanza: map[string]string{}}
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.server.Close)
	r.publish()
	return r
}

func (r *debRepository) serve(w http.ResponseWriter, request *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, ok := r.files[request.URL.Path]
	switch {
	case r.gone:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case !ok:
		http.NotFound(w, request)
	default:
		w.Write(text)
	}
}

func (r *debRepository) answer(yes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = !yes
}

func (r *debRepository) lost(name, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.packages {
		if p.name == name && p.version == version {
			delete(r.files, "/debian/pool/"+p.archive)
			delete(r.files, "/security/pool/"+p.archive)
		}
	}
}

func (r *debRepository) newest(name string) (archive string, text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best *servedDeb
	for _, p := range r.packages {
		if p.name == name && (best == nil || CompareDeb(p.version, best.version) > 0) {
			best = p
		}
	}
	if best == nil {
		return "", nil
	}
	return best.archive, best.text
}

// publish adds packages and writes the indexes anew.
func (r *debRepository) publish(packages ...testPackage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range packages {
		if p.arch == "" {
			p.arch = "all"
		}
		r.packages = append(r.packages, &servedDeb{
			testPackage: p, archive: fmt.Sprintf("%s_%s_%s.deb", p.name, strings.ReplaceAll(p.version, ":", "%3a"), p.arch), text: buildDeb(r.t, p),
		})
	}
	clear(r.files)
	for _, suite := range []struct{ base, codename, label string }{{"/debian", "stable", "Debian"}, {"/security", "stable-security", "Debian-Security"}} {
		indexes := map[string]*strings.Builder{r.native: {}, "i386": {}}
		for _, p := range r.packages {
			if p.security != (suite.base == "/security") {
				continue
			}
			path := "pool/" + p.archive
			r.files[suite.base+"/"+path] = p.text
			stanza := controlOf(p.testPackage) + r.stanza[p.name] + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %x\n\n", path, len(p.text), sha256.Sum256(p.text))
			for arch, index := range indexes {
				if p.arch == arch || p.arch == "all" {
					index.WriteString(stanza)
				}
			}
		}
		var release strings.Builder
		fmt.Fprintf(&release, "Origin: Debian\nLabel: %s\nSuite: %s\nCodename: %s\nDate: %s\n", suite.label, suite.codename, suite.codename, time.Now().UTC().Format(time.RFC1123))
		if !r.validUntil.IsZero() {
			fmt.Fprintf(&release, "Valid-Until: %s\n", r.validUntil.UTC().Format(time.RFC1123))
		}
		fmt.Fprintf(&release, "Architectures: %s i386\nComponents: main\nSHA256:\n", r.native)
		for _, arch := range slices.Sorted(maps.Keys(indexes)) {
			name, text := "main/binary-"+arch+"/Packages", []byte(indexes[arch].String())
			r.files[suite.base+"/dists/"+suite.codename+"/"+name] = text
			fmt.Fprintf(&release, " %x %d %s\n", sha256.Sum256(text), len(text), name)
		}
		r.files[suite.base+"/dists/"+suite.codename+"/Release"] = []byte(release.String())
	}
}

func controlOf(p testPackage) string {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: Nobody <nobody@example.org>\nSection: misc\nPriority: optional\n", p.name, p.version, p.arch)
	if len(p.needs) > 0 {
		control += "Depends: " + strings.Join(p.needs, ", ") + "\n"
	}
	return control + "Description: " + p.name + " of a test\n"
}

// buildDeb makes a Debian package.
func buildDeb(t *testing.T, p testPackage) []byte {
	t.Helper()
	control := map[string]string{"./control": controlOf(p)}
	modes := map[string]int64{}
	data := map[string]string{"./usr/share/doc/" + p.name + "/version": p.version + "\n"}
	if p.conffile != "" {
		control["./conffiles"] = p.conffile + "\n"
		data["."+p.conffile] = p.version + "\n"
	}
	for name, script := range map[string]string{"./preinst": p.before, "./postinst": p.after} {
		if script != "" {
			control[name], modes[name] = "#!/bin/sh\n"+script+"\n", 0o755
		}
	}
	var archive bytes.Buffer
	archive.WriteString("!<arch>\n")
	for _, member := range []struct {
		name string
		text []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", tarball(t, control, modes)}, {"data.tar.gz", tarball(t, data, modes)}} {
		fmt.Fprintf(&archive, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", member.name, 0, 0, 0, "100644", len(member.text))
		archive.Write(member.text)
		if len(member.text)%2 == 1 {
			archive.WriteByte('\n')
		}
	}
	return archive.Bytes()
}

func tarball(t *testing.T, files map[string]string, modes map[string]int64) []byte {
	t.Helper()
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	writer := tar.NewWriter(packed)
	dirs := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for at, c := range name {
			if dir := name[:at+1]; c == '/' && dir != "./" && !dirs[dir] {
				dirs[dir] = true
				if err := writer.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
					t.Fatal(err)
				}
			}
		}
		mode := modes[name]
		if mode == 0 {
			mode = 0o644
		}
		if err := writer.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(writer, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestApt(t *testing.T) { testManager(t, newAptHost) }
