package patcher

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// rebootPackages are those that dnf and zypper hold to be in force after a reboot only:
// the list of needs-restarting and that of SUSE's needreboot file. Kernels are judged
// by their versions besides.
var rebootPackages = []string{
	"dbus", "dbus-1", "dbus-broker", "dbus-daemon", "glibc", "hal", "kernel", "kernel-core", "kernel-firmware", "kernel-rt",
	"kernel-rt-core", "kernel-uek", "kernel-uek-core", "kernel-default", "kernel-azure", "linux-firmware", "microcode_ctl", "systemd", "udev", "ucode-amd", "ucode-intel",
}

// bootSlack is how much later than the start of the machine a package counts as
// installed after it. Both times are in whole seconds, and the kernel's wanders by one:
// what was installed last before a quick reboot must not ask for another.
const bootSlack = 2 * time.Second

// reboot puts together the signs that the machine must be started anew.
func (h rpmHost) reboot(ctx context.Context, suggested map[Package]string) (Reboot, error) {
	evidence, err := h.rebootEvidence(ctx, suggested)
	if err != nil {
		return Reboot{}, err
	}
	services, err := staleServices(ctx, h.setup.Root)
	if err != nil {
		return Reboot{}, err
	}
	return Reboot{Needed: len(evidence) > 0, Evidence: evidence, Services: services}, nil
}

// rebootEvidence has a sentence for each sign in the database of rpm that the machine
// must be started anew: a newer kernel, and packages installed since it started that
// are in force after a reboot only or whose publisher suggests one.
func (h rpmHost) rebootEvidence(ctx context.Context, suggested map[Package]string) ([]string, error) {
	installed := h.stock
	if installed == nil {
		var err error
		if installed, err = h.installed(ctx); err != nil {
			return nil, err
		}
	}
	started, err := bootedAt("/proc/stat")
	if err != nil {
		return nil, fmt.Errorf("when the machine started: %w", err)
	}
	started = started.Add(bootSlack)
	more := h.listedForReboot()
	var evidence []string
	if sentence := kernelEvidence(kernelRelease(), installed); sentence != "" {
		evidence = append(evidence, sentence)
	}
	for _, p := range installed {
		if !p.InstalledAt.After(started) {
			continue
		}
		if notice := suggested[p.Package]; notice != "" {
			evidence = append(evidence, fmt.Sprintf("%s suggests a reboot, and %s was installed after the machine started", notice, p.Title()))
		} else if slices.Contains(rebootPackages, p.Name) || more[p.Name] {
			evidence = append(evidence, p.Title()+" was installed after the machine started")
		}
	}
	return evidence, nil
}

// listedForReboot are the names that the machine's own files add to rebootPackages.
func (h rpmHost) listedForReboot() map[string]bool {
	names := map[string]bool{}
	for _, pattern := range []string{"/etc/dnf/plugins/needs-restarting.d/*.conf", "/etc/zypp/needreboot", "/etc/zypp/needreboot.d/*"} {
		files, err := filepath.Glob(h.file(pattern))
		if err != nil {
			continue
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(data)) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
					names[line] = true
				}
			}
		}
	}
	return names
}

// bootedAt reads from /proc/stat when the machine, or the container, started.
func bootedAt(path string) (time.Time, error) {
	file, err := os.Open(path)
	if err != nil {
		return time.Time{}, err
	}
	defer file.Close()
	return readBootTime(file)
}

func readBootTime(in io.Reader) (time.Time, error) {
	for lines := bufio.NewReader(in); ; {
		line, err := lines.ReadString('\n')
		if seconds, ok := strings.CutPrefix(line, "btime "); ok {
			at, err := strconv.ParseInt(strings.TrimSpace(seconds), 10, 64)
			return time.Unix(at, 0), err
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("no btime in /proc/stat: %w", err)
		}
	}
}

func kernelRelease() string {
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return ""
	}
	var release []byte
	for _, c := range name.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	return string(release)
}

// kernelName are packages that hold a kernel or stand for the one that they need.
var kernelName = regexp.MustCompile(`^kernel(\d+\.\d+)?(-(default|azure|rt|rt_debug|longterm|64kb|uek|lt|ml|64k|debug|rt-64k))?(-core)?$`)

// kernelEvidence compares the running kernel, as uname -r says it, with the newest
// installed one of the same flavour. "" where that is no newer, or where rpm knows of
// no kernel like the running one: a container, or a kernel of one's own.
func kernelEvidence(running string, installed []Installed) string {
	var flavour string
	for _, p := range installed {
		if kernelName.MatchString(p.Name) && isKernel(running, p.Package) {
			flavour = p.Name
			// kernel-core holds what the package kernel only asks for.
			if strings.HasSuffix(p.Name, "-core") {
				break
			}
		}
	}
	if flavour == "" {
		return ""
	}
	var newest Package
	for _, p := range installed {
		if p.Name == flavour && (newest.Name == "" || CompareRPM(p.Version, newest.Version) > 0) {
			newest = p.Package
		}
	}
	if isKernel(running, newest) {
		return ""
	}
	return fmt.Sprintf("the running kernel %s is older than the installed %s", running, newest.Title())
}

// isKernel tells whether uname -r may be of a package: VERSION-RELEASE.ARCH with
// +VARIANT at the end on RHEL, VERSION-RELEASE-FLAVOUR on SUSE, where the release has
// lost the number of the rebuild.
func isKernel(running string, p Package) bool {
	_, version, _ := strings.Cut(p.Version, ":")
	running, _, _ = strings.Cut(running, "+")
	if running == version || running == version+"."+p.Arch {
		return true
	}
	flavour, ok := strings.CutPrefix(p.Name, "kernel-")
	if !ok {
		return false
	}
	running, ok = strings.CutSuffix(running, "-"+strings.TrimSuffix(flavour, "-core"))
	return ok && (running == version || strings.HasPrefix(version, running+"."))
}
