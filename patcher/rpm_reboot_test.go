package patcher

import (
	"strings"
	"testing"
	"time"
)

func TestKernelEvidence(t *testing.T) {
	kernels := func(name string, versions ...string) []Installed {
		var all []Installed
		for _, v := range versions {
			all = append(all, Installed{Package: Package{Name: name, Arch: "x86_64", Version: v}})
		}
		return all
	}
	rhel := append(kernels("kernel-core", "0:5.14.0-427.9.1.el9_4", "0:5.14.0-427.13.1.el9_4"), kernels("kernel", "0:5.14.0-427.9.1.el9_4", "0:5.14.0-427.13.1.el9_4")...)
	for _, c := range []struct {
		name, running string
		installed     []Installed
		newer         string // "" for no evidence
	}{
		{"old of two", "5.14.0-427.9.1.el9_4.x86_64", rhel, "kernel-core.x86_64:0:5.14.0-427.13.1.el9_4"},
		{"new of two", "5.14.0-427.13.1.el9_4.x86_64", rhel, ""},
		{"9 is older than 13, though not as text", "5.14.0-427.13.1.el9_4.x86_64", kernels("kernel-core", "0:5.14.0-427.13.1.el9_4", "0:5.14.0-427.9.1.el9_4"), ""},
		{"a debug build is the same version", "5.14.0-427.13.1.el9_4.x86_64+debug", rhel, ""},
		{"another flavour is newer", "5.14.0-427.13.1.el9_4.x86_64", append(kernels("kernel-uek-core", "0:5.15.0-300.el9uek"), rhel...), ""},
		{"no kernel like the running one: a container", "6.18.44-fc", rhel, ""},
		{"no kernel at all", "6.18.44-fc", nil, ""},
		{"SUSE drops the number of the rebuild", "6.4.0-150600.21-default", kernels("kernel-default", "0:6.4.0-150600.21.3"), ""},
		{"SUSE, newer", "6.4.0-150600.21-default", kernels("kernel-default", "0:6.4.0-150600.21.3", "0:6.4.0-150600.23.7.3"), "kernel-default.x86_64:0:6.4.0-150600.23.7.3"},
		{"SUSE, 21 is no beginning of 210", "6.4.0-150600.21-default", kernels("kernel-default", "0:6.4.0-150600.210.3"), ""},
		{"Amazon", "6.1.94-99.176.amzn2023.x86_64", kernels("kernel", "0:6.1.94-99.176.amzn2023", "0:6.1.96-102.177.amzn2023"), "kernel.x86_64:0:6.1.96-102.177.amzn2023"},
	} {
		got := kernelEvidence(c.running, c.installed)
		if c.newer == "" && got != "" || c.newer != "" && !(strings.Contains(got, c.newer) && strings.Contains(got, c.running)) {
			t.Errorf("%s: %q, want %q in it", c.name, got, c.newer)
		}
	}
}

func TestReadBootTime(t *testing.T) {
	at, err := readBootTime(strings.NewReader("cpu  1 2 3\nbtime 1795485080\nprocesses 5\n"))
	if err != nil || !at.Equal(time.Unix(1795485080, 0)) {
		t.Errorf("%s, %v", at, err)
	}
	for _, text := range []string{"", "cpu 1\n", "btime x\n"} {
		if _, err := readBootTime(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestRebootOfStock judges what the last Inventory found, without asking rpm again.
func TestRebootOfStock(t *testing.T) {
	glibc := Installed{Package: Package{Name: "glibc", Arch: "x86_64", Version: "0:2.34-1"}, InstalledAt: time.Now()}
	old := Installed{Package: Package{Name: "systemd", Arch: "x86_64", Version: "0:252-1"}, InstalledAt: time.Unix(1, 0)}
	h := newRPMHost(Setup{Root: t.TempDir()}) // there is no rpm
	h.stock = []Installed{glibc, old}
	evidence, err := h.rebootEvidence(t.Context(), nil)
	if err != nil || len(evidence) != 1 || !strings.Contains(evidence[0], glibc.Title()) {
		t.Errorf("%q, %v", evidence, err)
	}
	h.stock = nil
	if _, err := h.rebootEvidence(t.Context(), nil); err == nil {
		t.Error("without a stock nobody was asked")
	}
}

// TestAQuickRebootIsEnough: what was installed just before the machine started, by
// clocks of whole seconds, asks for no other start.
func TestAQuickRebootIsEnough(t *testing.T) {
	started, err := bootedAt("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]int{-time.Hour: 0, time.Second: 0, time.Minute: 1} {
		h := newRPMHost(Setup{Root: t.TempDir()})
		h.stock = []Installed{{Package: Package{Name: "glibc", Arch: "x86_64", Version: "0:2.34-1"}, InstalledAt: started.Add(after)}}
		if evidence, err := h.rebootEvidence(t.Context(), nil); err != nil || len(evidence) != want {
			t.Errorf("installed %s after the start: %q, %v", after, evidence, err)
		}
	}
}
