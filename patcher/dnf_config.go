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

// setting is a line of a configuration file.
type setting struct{ key, value, file string }

// excludeSettings are the settings of dnf's own configuration and of the repositories'
// that take packages out.
func (m *DNF) excludeSettings() []setting {
	places := map[string]string{} // by the name for people
	for _, name := range []string{"/etc/dnf/dnf.conf", "/etc/yum.conf"} {
		// On RHEL the second is a link to the first.
		if info, err := os.Lstat(m.file(name)); err == nil && info.Mode().IsRegular() {
			places[name] = m.file(name)
		}
	}
	pattern := m.file("/etc/yum.repos.d/*.repo")
	if len(m.setup.Sources) > 0 {
		pattern = filepath.Join(m.sources(), "*.repo")
	}
	files, _ := filepath.Glob(pattern) // the pattern is well formed
	for _, file := range files {
		places[m.within(file)] = file
	}
	var found []setting
	for _, name := range sortedKeys(places) {
		data, err := os.ReadFile(places[name])
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(line, "=")
			key, value = strings.TrimSpace(key), strings.TrimSpace(value)
			switch key {
			case "exclude", "excludepkgs", "includepkgs":
				if value != "" {
					found = append(found, setting{key, value, name})
				}
			}
		}
	}
	return found
}

// excludes names what the configuration takes out, for people: " (excludepkgs=kernel*
// in /etc/dnf/dnf.conf)"; "" where it takes out nothing.
func (m *DNF) excludes() string {
	var found []string
	for _, s := range m.excludeSettings() {
		found = append(found, s.key+"="+s.value+" in "+s.file)
	}
	if len(found) == 0 {
		return ""
	}
	return " (" + strings.Join(found[:min(len(found), 5)], ", ") + ")"
}
