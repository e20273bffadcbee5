package patcher

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rebootRequired reads what packages of Debian and Ubuntu leave when they want the
// machine to be started anew: /run/reboot-required, and who asked beside it.
func rebootRequired(root string) Reboot {
	file := filepath.Join(root, "/run/reboot-required")
	if _, err := os.Stat(file); err != nil {
		return Reboot{}
	}
	sentence := "/run/reboot-required is there"
	var names []string
	if text, err := os.ReadFile(file + ".pkgs"); err == nil {
		for name := range strings.FieldsSeq(string(text)) {
			if !slices.Contains(names, name) && len(names) < 50 {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		sentence += "; it was asked for by " + strings.Join(names, ", ")
	}
	return Reboot{Needed: true, Evidence: []string{sentence}}
}

// runningImage is the kernel that runs, as it speaks of itself.
type runningImage struct {
	Release string // uname -r: 6.1.0-18-amd64
	Build   string // uname -v: #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)
}

func readRunningImage(root string) (runningImage, error) {
	var k runningImage
	for name, value := range map[string]*string{"osrelease": &k.Release, "version": &k.Build} {
		text, err := os.ReadFile(filepath.Join(root, "/proc/sys/kernel", name))
		if err != nil {
			return k, fmt.Errorf("find the running kernel: %w", err)
		}
		*value = strings.TrimSpace(string(text))
	}
	return k, nil
}

// kernelPackage is an installed package with a kernel, of the Debian family.
type kernelPackage struct {
	Name    string // linux-image-6.1.0-18-amd64
	Release string // 6.1.0-18-amd64: what uname -r says when it runs
	Version string // of the package
}

var (
	debianBuild = regexp.MustCompile(`\bDebian (\S+)`)
	ubuntuBuild = regexp.MustCompile(`^#(\d[^\s-]*)-Ubuntu\b`)
	piPart      = regexp.MustCompile(`^rpi\d+$`)
)

// kernelParts splits uname -r into what orders kernels and what kind it is of:
// 6.12.90+deb13-cloud-amd64 is 6.12.90+deb13 of cloud-amd64.
func kernelParts(release string) (version, flavour string) {
	parts := strings.Split(release, "-")
	n := 1
	for n < len(parts) && (parts[n] != "" && digit(parts[n][0]) || piPart.MatchString(parts[n])) {
		n++
	}
	return strings.Join(parts[:n], "-"), strings.Join(parts[n:], "-")
}

// debianKernels says in which way the running kernel is older than the installed
// ones. A kernel of another kind, or one that no package holds while none newer is
// there (a container, a kernel of one's own), says nothing.
func debianKernels(running runningImage, installed []kernelPackage) []string {
	version, flavour := kernelParts(running.Release)
	var newest, own kernelPackage
	for _, p := range installed {
		if p.Release == running.Release {
			own = p
		}
		v, f := kernelParts(p.Release)
		if f != flavour || v == "" || !digit(v[0]) || CompareDeb(v, version) <= 0 {
			continue
		}
		best, _ := kernelParts(newest.Release)
		if newest.Name == "" || CompareDeb(v, best) > 0 {
			newest = p
		}
	}
	if newest.Name != "" {
		return []string{fmt.Sprintf("the running kernel %s is older than the installed %s", running.Release, newest.Release)}
	}
	if own.Name == "" {
		return nil
	}
	built := ""
	if m := debianBuild.FindStringSubmatch(running.Build); m != nil {
		built = m[1]
	} else if m := ubuntuBuild.FindStringSubmatch(running.Build); m != nil {
		built = version + "." + m[1]
	}
	if built != "" && CompareDeb(built, own.Version) < 0 {
		return []string{fmt.Sprintf("the running kernel %s is of version %s, and %s %s is installed", running.Release, built, own.Name, own.Version)}
	}
	return nil
}

// staleServices lists the services, and the processes of none, that run with program
// files which were deleted or replaced since they started. What others than root may
// not see is left out.
func staleServices(ctx context.Context, root string) ([]string, error) {
	proc := filepath.Join(root, "/proc")
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	own, _ := os.Readlink(filepath.Join(proc, "self/ns/pid"))
	found := map[string]bool{}
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err != nil {
			continue
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("look at the processes: %w", context.Cause(ctx))
		}
		directory := filepath.Join(proc, entry.Name())
		// The files of a container are its own matter.
		if space, err := os.Readlink(filepath.Join(directory, "ns/pid")); err == nil && own != "" && space != own {
			continue
		}
		maps, err := os.Open(filepath.Join(directory, "maps"))
		if err != nil {
			continue // it has ended, or is not ours to see
		}
		stale := mapsDeleted(maps)
		maps.Close()
		if !stale {
			continue
		}
		if name := serviceOf(directory); name != "" {
			found[name] = true
		}
	}
	return sortedKeys(found), nil
}

// programDirs are where packages keep programs and libraries.
var programDirs = []string{"/usr/", "/lib", "/bin/", "/sbin/", "/opt/"}

// mapsDeleted reads /proc/PID/maps: whether a file with code of a package's directory
// is mapped that is no longer there.
func mapsDeleted(maps io.Reader) bool {
	scanner := bufio.NewScanner(maps)
	scanner.Buffer(make([]byte, 8<<10), 64<<10)
	for scanner.Scan() {
		text, ok := bytes.CutSuffix(scanner.Bytes(), []byte(" (deleted)"))
		if !ok {
			continue
		}
		fields := strings.Fields(string(text))
		if len(fields) < 6 || !strings.Contains(fields[1], "x") {
			continue
		}
		for _, dir := range programDirs {
			if strings.HasPrefix(fields[5], dir) && !strings.HasPrefix(fields[5], "/usr/local/") {
				return true
			}
		}
	}
	return false
}

// serviceOf is the unit of a process, or its name where it has none.
func serviceOf(directory string) string {
	if file, err := os.Open(filepath.Join(directory, "cgroup")); err == nil {
		unit := cgroupUnit(file)
		file.Close()
		if unit != "" {
			return unit
		}
	}
	name, err := os.ReadFile(filepath.Join(directory, "comm"))
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return "a process"
		}
		return ""
	}
	return strings.TrimSpace(string(name))
}

// cgroupUnit reads /proc/PID/cgroup: the service of the system that a process is of.
func cgroupUnit(in io.Reader) string {
	for scanner := bufio.NewScanner(in); scanner.Scan(); {
		_, rest, _ := strings.Cut(scanner.Text(), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		if controllers != "" && controllers != "name=systemd" {
			continue
		}
		for part := range strings.SplitSeq(path, "/") {
			if strings.HasSuffix(part, ".service") {
				return part
			}
		}
	}
	return ""
}
