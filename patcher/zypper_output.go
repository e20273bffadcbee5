package patcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Exit statuses of zypper. From 100 on they are information, and no failure.
const (
	zypperLocked       = 7
	zypperInformation  = 100
	zypperRebootNeeded = 102
)

// readZypperUpdates calls each for every version that list-updates --xmlout tells.
func readZypperUpdates(in io.Reader, each func(Package)) error {
	t := newTags(in)
	for {
		err := t.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of zypper: %w", err)
		}
		if t.end || string(t.name) != "update" || t.attribute("kind") != "package" {
			continue
		}
		p := Package{Name: t.attribute("name"), Arch: t.attribute("arch"), Version: withEpoch(t.attribute("edition"))}
		if p.Name != "" && p.Arch != "" {
			each(p)
		}
	}
}

// readZypperErrors returns the messages of --xmlout that tell errors.
func readZypperErrors(in io.Reader) ([]string, error) {
	t := newTags(in)
	var messages []string
	for {
		err := t.next()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, fmt.Errorf("read the output of zypper: %w", err)
		}
		if t.end || string(t.name) != "message" || t.attribute("type") != "error" {
			continue
		}
		text, err := t.text()
		if err != nil {
			return messages, fmt.Errorf("read the output of zypper: %w", err)
		}
		messages = append(messages, text)
	}
}

// zypperProblems tells from the errors of a refresh which repositories could not be
// refreshed, by alias, and why: zypper says what is wrong, and then that it skips the
// repository, by its name.
func zypperProblems(messages []string, repositories []zyppRepository) map[string]string {
	problems := map[string]string{}
	why := ""
	for _, message := range messages {
		rest, ok := strings.CutPrefix(message, "Skipping repository '")
		if !ok {
			why = zypperReason(message)
			continue
		}
		name, _, _ := strings.Cut(rest, "' because of")
		for _, r := range repositories {
			if r.name == name || r.alias == name {
				problems[r.alias] = why
			}
		}
	}
	return problems
}

// zypperReason makes one line of a message: what comes from below says more than what
// zypper says of it.
func zypperReason(message string) string {
	var lines []string
	for line := range strings.Lines(message) {
		if line = strings.TrimSpace(line); line == "" || line == "History:" || strings.HasPrefix(line, "Please ") {
			continue
		}
		if cause, ok := strings.CutPrefix(line, "Error message: "); ok {
			return cause
		}
		lines = append(lines, strings.TrimPrefix(line, "- "))
	}
	return strings.Join(lines[:min(len(lines), 3)], "; ")
}

// zyppRepository is an enabled repository of a .repo file.
type zyppRepository struct {
	alias, name string
}

// readZyppRepositories reads the .repo files of a directory.
func readZyppRepositories(dir string) ([]zyppRepository, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.repo"))
	if err != nil {
		return nil, err
	}
	var all []zyppRepository
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the repositories: %w", err)
		}
		all = append(all, parseZyppRepositories(string(data))...)
	}
	slices.SortFunc(all, func(a, b zyppRepository) int { return strings.Compare(a.alias, b.alias) })
	return all, nil
}

func parseZyppRepositories(text string) []zyppRepository {
	var all []zyppRepository
	var current zyppRepository
	enabled := true
	add := func() {
		if current.alias != "" && enabled {
			all = append(all, current)
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if alias, ok := section(line); ok {
			add()
			current, enabled = zyppRepository{alias: alias, name: alias}, true
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "name":
			current.name = value
		case "enabled":
			enabled = !slices.Contains([]string{"0", "no", "false", "off", "never"}, strings.ToLower(value))
		}
	}
	add()
	return all
}

// section reads a line like [name].
func section(line string) (string, bool) {
	name, ok := strings.CutPrefix(strings.TrimSpace(line), "[")
	if !ok {
		return "", false
	}
	name, _, ok = strings.Cut(name, "]")
	return name, ok && name != ""
}

// disableZyppRepositories switches repositories off in the .repo files of a directory.
func disableZyppRepositories(dir string, aliases []string) error {
	if len(aliases) == 0 {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.repo"))
	if err != nil {
		return err
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(withoutRepositories(string(data), aliases)), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// withoutRepositories is the text of a .repo file without some of its sections.
func withoutRepositories(text string, aliases []string) string {
	var kept strings.Builder
	drop := false
	for line := range strings.Lines(text) {
		if alias, ok := section(line); ok {
			drop = slices.Contains(aliases, alias)
		}
		if !drop {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
