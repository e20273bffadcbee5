package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machine says where figures come from.
type machine struct {
	Date      string
	CPU       string
	CPUs      int
	MemoryMiB int64
	System    string
	Kernel    string
	Go        string
	Meshd     string
	// Peers are the installed peers with their versions, and the missing ones.
	Peers []string
}

func describeMachine(bin string) machine {
	m := machine{
		Date: time.Now().UTC().Format("2006-01-02 15:04 MST"), CPUs: runtime.NumCPU(), Go: runtime.Version(),
		CPU:    firstValue("/proc/cpuinfo", "model name", ":"),
		System: strings.Trim(firstValue("/etc/os-release", "PRETTY_NAME", "="), `"`),
		Meshd:  version(filepath.Join(bin, "meshd"), "--version"),
	}
	memory, _ := strconv.ParseInt(strings.TrimSuffix(firstValue("/proc/meminfo", "MemTotal", ":"), " kB"), 10, 64)
	m.MemoryMiB = memory >> 10
	var name syscall.Utsname
	if err := syscall.Uname(&name); err == nil {
		var text []byte
		for _, c := range name.Release {
			if c == 0 {
				break
			}
			text = append(text, byte(c))
		}
		m.Kernel = string(text)
	}
	for _, p := range []struct{ name, program, flag string }{
		{"OpenSSH", "ssh", "-V"}, {"clustershell", "clush", "--version"}, {"ansible-core", "ansible", "--version"},
		{"serf", "serf", "version"}, {"etcd", "etcd", "--version"}, {"rqlite", "rqlited", "-version"},
		{"apt", "apt", "--version"}, {"dnf", "dnf", "--version"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			m.Peers = append(m.Peers, p.name+": not installed, its rows are left out")
			continue
		}
		m.Peers = append(m.Peers, p.name+": "+version(p.program, p.flag))
	}
	return m
}

// version is the first line of what a program says of itself.
func version(program, flag string) string {
	out, err := exec.Command(program, flag).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || line == "" {
		return "unknown"
	}
	return line
}

// installed reports whether all programs are there.
func installed(programs ...string) bool {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return false
		}
	}
	return true
}

// firstValue is the value behind the first line of a file that begins with key.
func firstValue(path, key, separator string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if name, value, ok := strings.Cut(scanner.Text(), separator); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// ticksPerSecond is the unit of CPU times in /proc, the same on every Linux that
// Go runs on.
const ticksPerSecond = 100

// cpuTime is what a process has used itself, without its children.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; what follows it does not.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var ticks int64
	for _, field := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// memory is a process's resident memory, and its share of it when shared pages
// are divided among those who share them, in MiB.
func memory(pid int) (rss, pss float64, err error) {
	for _, part := range []struct {
		file, key string
		into      *float64
	}{{"status", "VmRSS", &rss}, {"smaps_rollup", "Pss", &pss}} {
		text := firstValue(fmt.Sprintf("/proc/%d/%s", pid, part.file), part.key, ":")
		kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(text, "kB")), 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read %s of process %d: %w", part.key, pid, err)
		}
		*part.into = kib / 1024
	}
	return rss, pss, nil
}
