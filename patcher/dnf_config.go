package patcher

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// writeSources writes the repositories of a baseline, and nothing else, into dir.
func (h rpmHost) writeSources(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("write the baseline's sources: %w", err)
	}
	if len(h.setup.Sources) == 0 {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write the baseline's sources: %w", err)
	}
	for i, source := range h.setup.Sources {
		var name, text string
		if source.Name != nil {
			name = *source.Name
		}
		if source.Configuration != nil {
			text = *source.Configuration
		}
		if !strings.HasPrefix(strings.TrimSpace(text), "[") {
			return fmt.Errorf("source %s of the baseline is no repository: its configuration does not begin with [", name)
		}
		// The name is not used for the file: it comes from elsewhere.
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("source%02d.repo", i)), []byte(text+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the baseline's sources: %w", err)
		}
	}
	return nil
}

// lockList is the list of the versionlock plugin: packages by pattern that stay at
// their version, or with ! before them are not to come.
type lockList []string

func (m *DNF) versionLocks() (lockList, error) {
	for _, place := range []string{"/etc/dnf/plugins/versionlock.list", "/etc/yum/pluginconf.d/versionlock.list"} {
		file, err := os.Open(m.file(place))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the version locks: %w", err)
		}
		defer file.Close()
		var list lockList
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
				list = append(list, line)
			}
		}
		return list, nil
	}
	return nil, nil
}

// holds tells whether a lock keeps an installed package at its version.
func (l lockList) holds(p Package) bool {
	return slices.ContainsFunc(l, func(pattern string) bool {
		return !strings.HasPrefix(pattern, "!") && matchesSpec(pattern, p)
	})
}

// about is the first line that speaks of packages of a name, "" if none does.
func (l lockList) about(name string) string {
	for _, line := range l {
		pattern := strings.TrimPrefix(line, "!")
		// yum puts the epoch first: 0:bash-5.1-1.*
		if head, rest, ok := strings.Cut(pattern, ":"); ok && strings.Trim(head, "0123456789") == "" {
			pattern = rest
		}
		for {
			if ok, err := path.Match(pattern, name); err == nil && ok {
				return line
			}
			before, _, more := cutLast(pattern, '-')
			if !more {
				break
			}
			pattern = before
		}
	}
	return ""
}

// matchesSpec tells whether a pattern as dnf and yum take it means the package: name,
// name.arch, name-version, name-[epoch:]version-release[.arch], with wildcards.
func matchesSpec(pattern string, p Package) bool {
	epoch, version, _ := strings.Cut(p.Version, ":")
	upstream, _, _ := cutLast(version, '-')
	for _, form := range []string{
		p.Name, p.Name + "." + p.Arch, p.Name + "-" + upstream,
		p.Name + "-" + version, p.Name + "-" + version + "." + p.Arch,
		p.Name + "-" + p.Version, nevra(p), epoch + ":" + p.Name + "-" + version, epoch + ":" + nvra(p),
	} {
		if ok, err := path.Match(pattern, form); err == nil && ok {
			return true
		}
	}
	return false
}

// excludes names what the configuration takes out, for people: " (excludepkgs=kernel*
// in /etc/dnf/dnf.conf)"; "" where it takes out nothing.
func (m *DNF) excludes() string {
	files := []string{"/etc/dnf/dnf.conf", "/etc/yum.conf"}
	repositories, dir := "/etc/yum.repos.d", m.file("/etc/yum.repos.d")
	if len(m.setup.Sources) > 0 {
		repositories, dir = m.sources(), m.sources()
	}
	if entries, err := os.ReadDir(dir); err == nil {
		for _, entry := range entries {
			if strings.HasSuffix(entry.Name(), ".repo") {
				files = append(files, filepath.Join(repositories, entry.Name()))
			}
		}
	}
	var found []string
	for _, name := range files {
		place := m.file(name)
		if repositories == m.sources() && strings.HasPrefix(name, repositories) {
			place = name
		}
		file, err := os.Open(place)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			key, value, ok := strings.Cut(lines.Text(), "=")
			switch strings.TrimSpace(key) {
			case "exclude", "excludepkgs", "includepkgs":
				if line := strings.TrimSpace(key) + "=" + strings.TrimSpace(value); ok && strings.TrimSpace(value) != "" && len(found) < 5 {
					found = append(found, line+" in "+name)
				}
			}
		}
		file.Close()
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found, ", ") + ")"
}
