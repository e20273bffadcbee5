//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// patchMachine is a root of its own for a node: this machine's file system below, and
// what is changed in memory above it; apt knows one small repository in it.
type patchMachine struct {
	t    *testing.T
	root string
	dir  string // of the mesh, the same inside
}

// newPatchMachine mounts a machine below the mesh's directory.
func newPatchMachine(t *testing.T, dir string) *patchMachine {
	t.Helper()
	base := filepath.Join(dir, "machine")
	m := &patchMachine{t: t, root: filepath.Join(base, "root"), dir: dir}
	mount := func(source, target, kind string, flags uintptr, options string) {
		t.Helper()
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(source, target, kind, flags, options); err != nil {
			t.Fatalf("mount %s: %v", target, err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount %s: %v", target, err)
			}
		})
	}
	mount("tmpfs", base, "tmpfs", 0, "mode=755") // an overlay cannot be written to another
	for _, name := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", m.root, "overlay", 0, "lowerdir=/,upperdir="+base+"/upper,workdir="+base+"/work")
	mount("/dev", m.root+"/dev", "", syscall.MS_BIND, "")
	mount("/proc", m.root+"/proc", "", syscall.MS_BIND, "")
	mount("tmpfs", m.root+"/run", "tmpfs", 0, "mode=755")
	mount(dir, m.root+dir, "", syscall.MS_BIND, "")
	if bin, err := filepath.Abs(*programs); err == nil {
		mount(bin, m.root+bin, "", syscall.MS_BIND, "")
	}
	return m
}

// inside runs a program in the machine.
func (m *patchMachine) inside(argv ...string) string {
	m.t.Helper()
	cmd := exec.Command("chroot", append([]string{m.root}, argv...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// goesDown is what the end of a boot does to files.
func (m *patchMachine) goesDown() {
	entries, _ := os.ReadDir(m.root + "/run")
	for _, entry := range entries {
		os.RemoveAll(filepath.Join(m.root, "run", entry.Name()))
	}
}

// build makes a package of the machine's repository, in a suite.
func (m *patchMachine) build(suite, name, version, postinst string) {
	m.t.Helper()
	tree := filepath.Join(m.root, "repo", "build", name+version)
	for path, text := range map[string]string{
		"DEBIAN/control":        fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: a test <test@example.org>\nSection: admin\nPriority: optional\nDescription: a test\n", name, version),
		"DEBIAN/postinst":       "#!/bin/sh\nset -e\n" + postinst + "\n",
		"usr/share/doc/" + name: version + "\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, path), []byte(text), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	m.inside("mkdir", "-p", "/repo/pool/"+suite)
	m.inside("dpkg-deb", "--root-owner-group", "--build", "/repo/build/"+name+version, fmt.Sprintf("/repo/pool/%s/%s_%s_all.deb", suite, name, version))
}

// publish writes the indexes of a suite.
func (m *patchMachine) publish(suite, label string) {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.root, "repo/pool", suite, "*.deb"))
	if err != nil {
		m.t.Fatal(err)
	}
	var index strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		path := strings.TrimPrefix(file, m.root+"/repo/")
		fmt.Fprintf(&index, "%sFilename: %s\nSize: %d\nSHA256: %x\n\n", m.inside("dpkg-deb", "-f", "/repo/"+path), path, len(data), sha256.Sum256(data))
	}
	arch := strings.TrimSpace(m.inside("dpkg", "--print-architecture"))
	dir := filepath.Join(m.root, "repo/dists", suite)
	packages := "main/binary-" + arch + "/Packages"
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(packages)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	release := fmt.Sprintf("Origin: Debian\nLabel: %s\nSuite: %s\nCodename: %s\nDate: Mon, 02 Nov 2026 08:00:00 UTC\nArchitectures: %s all\nComponents: main\nSHA256:\n %x %d %s\n",
		label, suite, suite, arch, sha256.Sum256([]byte(index.String())), index.Len(), packages)
	for name, text := range map[string]string{packages: index.String(), "Release": release} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

// codename is this machine's release, as its security suite is named after it.
func codename(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return strings.Trim(value, `"`)
		}
	}
	t.Fatal("this machine's release has no codename")
	return ""
}

// states are the patches of a node as the AWS CLI shows them, of those whose name
// begins with fm-.
func (m *mesh) states(through *node, id string) map[string]string {
	m.t.Helper()
	var out struct {
		Patches []struct{ Title, KBId, State string }
	}
	m.awsJSON(through, &out, "describe-instance-patches", "--instance-id", id)
	states := map[string]string{}
	for _, p := range out.Patches {
		if strings.HasPrefix(p.Title, "fm-") {
			states[strings.TrimPrefix(p.KBId, "fm-")] = p.State + " " + p.Title[strings.LastIndex(p.Title, ":")+1:]
		}
	}
	return states
}

// patched runs AWS-RunPatchBaseline on a node and returns the command's id.
func (m *mesh) patched(through, target *node, operation string) string {
	m.t.Helper()
	var sent struct{ Command struct{ CommandId string } }
	m.awsJSON(through, &sent, "send-command", "--document-name", "AWS-RunPatchBaseline", "--instance-ids", target.id, "--parameters", "Operation="+operation)
	return sent.Command.CommandId
}

func (m *mesh) awaitInvocation(through, target *node, command string, want ...string) shownStep {
	m.t.Helper()
	var step shownStep
	m.await("the end of the command", func() error {
		if out, err := m.aws(through, "get-command-invocation", "--command-id", command, "--instance-id", target.id, "--output", "json"); err != nil {
			return err
		} else if err := json.Unmarshal([]byte(out), &step); err != nil {
			return err
		}
		if !slices.Contains(want, step.Status) {
			return fmt.Errorf("it is %s", step.Status)
		}
		return nil
	})
	return step
}

// TestPatchRun: the AWS CLI has a real machine scanned by apt and patched. The daemon
// is killed while a package is being installed, the machine is started anew, one
// package fails; all of it happens once, and the mesh knows.
func TestPatchRun(t *testing.T) {
	var machine *patchMachine
	m := newOutfittedMesh(t, 2, func(int) []string { return []string{"--member-only"} }, func(n *node) {
		if !strings.HasSuffix(n.dir, "n2") {
			return
		}
		machine = newPatchMachine(t, filepath.Dir(n.dir))
		machines(n)
		n.wrapper = append([]string{"chroot", machine.root}, n.wrapper...)
	})
	through, target := m.nodes[0], m.nodes[1]

	log, gate := filepath.Join(m.dir, "log"), filepath.Join(m.dir, "gate")
	note := func(what string) string { return fmt.Sprintf("echo %s >> %s", what, log) }
	if err := os.WriteFile(filepath.Join(machine.root, "etc/dpkg/dpkg.cfg.d/e2e"), []byte("force-unsafe-io\n"), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, name := range []string{"fm-security", "fm-plain", "fm-broken", "fm-reboot"} {
		machine.build("old", name, "1.0", ":")
		machine.inside("dpkg", "-i", "/repo/pool/old/"+name+"_1.0_all.deb")
	}
	release := codename(t)
	machine.build(release+"-security", "fm-security", "1.1", note("security")+fmt.Sprintf("; while [ ! -e %s ]; do sleep 0.05; done", gate))
	machine.build(release+"-security", "fm-broken", "1.1", note("broken")+"; exit 1")
	machine.build(release+"-security", "fm-reboot", "1.1", note("reboot")+"; touch /run/reboot-required; echo fm-reboot >> /run/reboot-required.pkgs")
	machine.build(release, "fm-plain", "1.1", note("plain"))
	machine.publish(release, "Debian")
	machine.publish(release+"-security", "Debian-Security")
	machine.inside("sh", "-c", fmt.Sprintf("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*; printf 'deb [trusted=yes] file:/repo %s main\\ndeb [trusted=yes] file:/repo %s-security main\\n' > /etc/apt/sources.list", release, release))

	before := machine.inside("sh", "-c", "cat /var/lib/dpkg/status | sha256sum; find /var/lib/apt /var/cache/apt /etc/apt | sort | sha256sum")
	m.awaitInvocation(through, target, m.patched(through, target, "Scan"), "Success")
	want := map[string]string{"security.all": "MISSING 1.1", "broken.all": "MISSING 1.1", "reboot.all": "MISSING 1.1", "plain.all": "INSTALLED_OTHER 1.0"}
	if got := m.states(through, target.id); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("a scan found %v, want %v", got, want)
	}
	if after := machine.inside("sh", "-c", "cat /var/lib/dpkg/status | sha256sum; find /var/lib/apt /var/cache/apt /etc/apt | sort | sha256sum"); after != before {
		t.Error("a scan changed the machine")
	}

	command := m.patched(through, target, "Install")
	m.await("the package is being installed", func() error { return logged(log, "security", 1) })
	m.kill(target)
	m.start(target)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target.process.Wait()
	target.process = nil
	if got := boots(target); got != 1 {
		t.Fatalf("the machine went down after %d reboots", got)
	}
	machine.goesDown()
	m.start(target)
	step := m.awaitInvocation(through, target, command, "Success", "Failed", "TimedOut", "Cancelled")
	if step.Status != "Failed" || step.PluginName != "PatchLinux" || !strings.HasPrefix(step.StandardOutputContent, "NON-COMPLIANT: ") {
		t.Errorf("the installation ended %s\n%s\n%s", step.Status, step.StandardOutputContent, step.StandardErrorContent)
	}
	want = map[string]string{"security.all": "INSTALLED 1.1", "broken.all": "FAILED 1.1", "reboot.all": "INSTALLED 1.1", "plain.all": "INSTALLED_OTHER 1.0"}
	if got := m.states(through, target.id); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after the installation %v, want %v", got, want)
	}
	for what, times := range map[string]int{"security": 1, "reboot": 1, "plain": 0} {
		if err := logged(log, what, times); err != nil {
			t.Error(err)
		}
	}
	var summary struct {
		InstancePatchStates []struct {
			MissingCount, FailedCount, InstalledPendingRebootCount int
			Operation                                              string
		}
	}
	m.awsJSON(through, &summary, "describe-instance-patch-states", "--instance-ids", target.id)
	if s := summary.InstancePatchStates[0]; s.MissingCount != 0 || s.FailedCount != 1 || s.InstalledPendingRebootCount != 0 || s.Operation != "Install" {
		t.Errorf("the node's state is %+v", s)
	}

	// What is in order stays as it is: nothing is installed twice, and no boot.
	m.awaitInvocation(through, target, m.patched(through, target, "Install"), "Failed")
	for what, times := range map[string]int{"security": 1, "reboot": 1, "plain": 0} {
		if err := logged(log, what, times); err != nil {
			t.Error(err)
		}
	}
	if got := boots(target); got != 1 {
		t.Errorf("%d boots, want 1", got)
	}
}

// logged reports when a line is not in a file as often as it must be.
func logged(path, line string, times int) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	got := 0
	for has := range strings.Lines(string(data)) {
		if strings.TrimSpace(has) == line {
			got++
		}
	}
	if got != times {
		return fmt.Errorf("%s happened %d times, want %d", line, got, times)
	}
	return nil
}
