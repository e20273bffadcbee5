package patcher

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestDebianKernels(t *testing.T) {
	image := func(release, version string) kernelPackage {
		return kernelPackage{Name: "linux-image-" + release, Release: release, Version: version}
	}
	for _, c := range []struct {
		name      string
		running   runningImage
		installed []kernelPackage
		want      string // in the evidence, "" for none
	}{
		{"the newest runs", runningImage{"6.1.0-21-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.90-1 (2024-05-03)"},
			[]kernelPackage{image("6.1.0-18-amd64", "6.1.76-1"), image("6.1.0-21-amd64", "6.1.90-1")}, ""},
		{"a newer ABI", runningImage{"6.1.0-9-amd64", "#1 SMP Debian 6.1.27-1 (2023-05-08)"},
			[]kernelPackage{image("6.1.0-9-amd64", "6.1.27-1"), image("6.1.0-10-amd64", "6.1.37-1"), image("6.1.0-18-amd64", "6.1.76-1")}, "6.1.0-9-amd64 is older than the installed 6.1.0-18-amd64"},
		{"the same ABI, built anew", runningImage{"6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)"},
			[]kernelPackage{image("6.1.0-18-amd64", "6.1.78-1")}, "is of version 6.1.76-1, and linux-image-6.1.0-18-amd64 6.1.78-1 is installed"},
		{"a rebuild in the release", runningImage{"6.12.90+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.90-1 (2026-05-01)"},
			[]kernelPackage{image("6.12.90+deb13-amd64", "6.12.90-1"), image("6.12.90+deb13.1-amd64", "6.12.90-2")}, "older than the installed 6.12.90+deb13.1-amd64"},
		{"a rebuild that runs", runningImage{"6.12.90+deb13.1-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.90-2 (2026-05-01)"},
			[]kernelPackage{image("6.12.90+deb13-amd64", "6.12.90-1"), image("6.12.90+deb13.1-amd64", "6.12.90-2")}, ""},
		{"another kind", runningImage{"6.1.0-18-amd64", "#1 SMP Debian 6.1.76-1 (2024-02-01)"},
			[]kernelPackage{image("6.1.0-18-amd64", "6.1.76-1"), image("6.1.0-21-cloud-amd64", "6.1.90-1"), image("6.1.0-21-rt-amd64", "6.1.90-1")}, ""},
		{"debug symbols and what stands for the newest", runningImage{"6.1.0-18-amd64", "#1 SMP Debian 6.1.76-1 (2024-02-01)"},
			[]kernelPackage{image("6.1.0-18-amd64", "6.1.76-1"), image("6.1.0-21-amd64-dbg", "6.1.90-1"), image("amd64", "6.1.90-1")}, ""},
		{"backports", runningImage{"6.1.0-18-amd64", ""}, []kernelPackage{image("6.1.0-18-amd64", "6.1.76-1"), image("6.10.11+bpo-amd64", "6.10.11-1~bpo12+1")}, "6.10.11+bpo-amd64"},
		{"the running one was removed", runningImage{"6.1.0-18-amd64", ""}, []kernelPackage{image("6.1.0-21-amd64", "6.1.90-1")}, "6.1.0-21-amd64"},
		{"an older one is left beside it", runningImage{"6.1.0-21-amd64", ""}, []kernelPackage{image("6.1.0-18-amd64", "6.1.76-1")}, ""},
		{"a kernel of one's own", runningImage{"6.18.44-fc-v657", "#1 SMP PREEMPT_DYNAMIC @0"}, []kernelPackage{image("6.1.0-18-amd64", "6.1.76-1")}, ""},
		{"none installed, as in a container", runningImage{"6.1.0-18-amd64", "#1 SMP Debian 6.1.76-1 (2024-02-01)"}, nil, ""},
		{"Ubuntu", runningImage{"5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023"}, []kernelPackage{image("5.15.0-91-generic", "5.15.0-91.101"), image("5.15.0-101-generic", "5.15.0-101.111")}, "5.15.0-101-generic"},
		{"Ubuntu, the same ABI, built anew", runningImage{"5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023"}, []kernelPackage{image("5.15.0-91-generic", "5.15.0-91.102")}, "5.15.0-91.102 is installed"},
		{"Ubuntu, up to date", runningImage{"5.15.0-91-generic", "#101-Ubuntu SMP Tue Nov 14 13:30:08 UTC 2023"}, []kernelPackage{image("5.15.0-91-generic", "5.15.0-91.101")}, ""},
		{"Ubuntu, hardware enablement", runningImage{"6.5.0-15-generic", "#15~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC"}, []kernelPackage{image("6.5.0-15-generic", "6.5.0-15.15~22.04.1")}, ""},
		{"Ubuntu, lowlatency beside generic", runningImage{"5.15.0-91-generic", ""}, []kernelPackage{image("5.15.0-91-generic", "5.15.0-91.101"), image("5.15.0-105-lowlatency", "5.15.0-105.115")}, ""},
		{"a Raspberry Pi", runningImage{"6.6.51+rpt-rpi-v8", ""}, []kernelPackage{image("6.6.51+rpt-rpi-v8", "1:6.6.51-1+rpt3"), image("6.12.20+rpt-rpi-v8", "1:6.12.20-1+rpt1")}, "6.12.20+rpt-rpi-v8"},
		{"a Raspberry Pi, numbered", runningImage{"6.1.0-rpi7-rpi-v8", ""}, []kernelPackage{image("6.1.0-rpi7-rpi-v8", ""), image("6.1.0-rpi10-rpi-v8", "")}, "6.1.0-rpi10-rpi-v8"},
	} {
		got := strings.Join(debianKernels(c.running, c.installed), "; ")
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRebootRequired(t *testing.T) {
	root := t.TempDir()
	if r := rebootRequired(root); r.Needed {
		t.Errorf("without the file: %+v", r)
	}
	put(t, root, "/run/reboot-required", "*** System restart required ***\n")
	if r := rebootRequired(root); !r.Needed || !slices.Equal(r.Evidence, []string{"/run/reboot-required is there"}) {
		t.Errorf("%+v", r)
	}
	put(t, root, "/run/reboot-required.pkgs", "linux-image-6.1\nlibc6\nlinux-image-6.1\n")
	if r := rebootRequired(root); !slices.Equal(r.Evidence, []string{"/run/reboot-required is there; it was asked for by linux-image-6.1, libc6"}) {
		t.Errorf("%+v", r)
	}
}

func TestDeletedFilesOfProcesses(t *testing.T) {
	for line, want := range map[string]bool{
		"7f00-7f01 r-xp 00000000 08:01 1 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)": true,
		"7f00-7f01 r-xp 00000000 08:01 1 /usr/sbin/sshd (deleted)":                        true,
		"7f00-7f01 r-xp 00000000 08:01 1 /lib/ld.so (deleted)":                            true,
		"7f00-7f01 r-xp 00000000 08:01 1 /usr/sbin/sshd":                                  false,
		"7f00-7f01 r--p 00000000 08:01 1 /usr/share/locale/x.mo (deleted)":                false,
		"7f00-7f01 r-xp 00000000 08:01 1 /usr/local/bin/own (deleted)":                    false,
		"7f00-7f01 rwxs 00000000 00:01 1 /memfd:jit (deleted)":                            false,
		"7f00-7f01 r-xp 00000000 08:01 1 /tmp/x (deleted)":                                false,
		"7f00-7f01 rw-s 00000000 00:01 1 /dev/zero (deleted)":                             false,
		"7f00-7f01 r-xp 00000000 08:01 1 (deleted)":                                       false,
		"7f00-7f01 r-xp 00000000 00:00 0 [vdso]":                                          false,
	} {
		if got := mapsDeleted(strings.NewReader("55-56 r--p 0 08:01 1 /usr/bin/a\n" + line + "\n")); got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}

func TestUnitOfAProcess(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/ssh.service\n":                                            "ssh.service",
		"0::/system.slice/system-getty.slice/getty@tty1.service\n":                  "getty@tty1.service",
		"0::/system.slice/docker.service/payload\n":                                 "docker.service",
		"0::/user.slice/user-0.slice/session-3.scope\n":                             "",
		"12:pids:/other.service\n1:name=systemd:/system.slice/cron.service\n0::/\n": "cron.service",
		"0::/init.scope\n": "",
		"":                 "",
	} {
		if got := cgroupUnit(strings.NewReader(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestStaleServicesOfThisMachine replaces the file of a running program, as an
// upgrade does.
func TestStaleServicesOfThisMachine(t *testing.T) {
	needNamespace(t)
	text, err := os.ReadFile("/usr/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	// A directory of packages, that only this process and its children see.
	emptyDir(t, "/", "/opt")
	const program = "/opt/patcher-stale"
	put(t, "/", program, string(text))
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	running := exec.Command(program, "1000")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		running.Process.Kill()
		running.Wait()
	})
	has := func() bool {
		services, err := staleServices(t.Context(), "/")
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(services, serviceOf(filepath.Join("/proc", strconv.Itoa(running.Process.Pid))))
	}
	// Under a service of this machine the whole service is told; that of another
	// process would hide what this one does.
	if cgroup, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", running.Process.Pid)); err == nil && cgroupUnit(bytes.NewReader(cgroup)) == "" && has() {
		t.Error("a program with all its files is told")
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if !has() {
		t.Error("a program whose file was replaced is not told")
	}
}

func FuzzProc(f *testing.F) {
	f.Add([]byte("7f00-7f01 r-xp 0 08:01 1 /usr/sbin/sshd (deleted)\n"))
	f.Add([]byte("0::/system.slice/ssh.service\n"))
	f.Add([]byte("1: POSIX  ADVISORY  WRITE 411 fd:01:1312 0 EOF\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mapsDeleted(bytes.NewReader(data))
		cgroupUnit(bytes.NewReader(data))
		findLock(bytes.NewReader(data), "fd:01", 1312)
		if values, err := readOSRelease(bytes.NewReader(data)); err == nil {
			platformOf(values)
		}
		kernelParts(string(data))
	})
}
