//go:build e2e

package e2e

import (
	"os"
	"regexp"
	"strings"
	"time"
)

// explained are the lines of level ERROR that a fault on the leader explains.
var explained = []*regexp.Regexp{}

// readLogs reads what every daemon has said: no panic, no data race, no error that
// the faults do not explain, and not more lines than most.
func (m *mesh) readLogs(most int) {
	m.t.Helper()
	for _, n := range m.nodes {
		data, err := os.ReadFile(n.dir + ".log")
		if err != nil {
			m.t.Fatal(err)
		}
		levels := map[string]int{}
		lines, first, last := 0, time.Time{}, time.Time{}
		for line := range strings.Lines(string(data)) {
			lines++
			if at, ok := lineTime(line); ok {
				if last = at; first.IsZero() {
					first = at
				}
			}
			_, rest, _ := strings.Cut(line, "level=")
			level, _, _ := strings.Cut(rest, " ")
			levels[level]++
			switch {
			case strings.HasPrefix(line, "panic:"), strings.HasPrefix(line, "fatal error:"), strings.Contains(line, "DATA RACE"):
				m.t.Errorf("%s: %s", n.name, line)
			case level == "ERROR" && !isExplained(line):
				m.t.Errorf("%s: no fault explains: %s", n.name, line)
			}
		}
		if lines > most {
			m.t.Errorf("%s: %d lines, at most %d are sober", n.name, lines, most)
		}
		m.t.Logf("the log of %s: %d lines in %s, by level %v", n.name, lines, last.Sub(first).Round(time.Second), levels)
	}
}

func isExplained(line string) bool {
	for _, known := range explained {
		if known.MatchString(line) {
			return true
		}
	}
	return false
}

func lineTime(line string) (time.Time, bool) {
	_, rest, ok := strings.Cut(line, "time=")
	if !ok {
		return time.Time{}, false
	}
	text, _, _ := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}
