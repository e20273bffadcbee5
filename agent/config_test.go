package agent

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// TestExampleConfiguration: the shipped example is good, and names every key.
func TestExampleConfiguration(t *testing.T) {
	const path = "../systemd/meshd.yaml"
	got, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	want := DefaultConfig()
	want.Socket = "/run/meshd/meshd.sock"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example changes more than the socket:\n%+v\n%+v", got, want)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What it shows as a default is one.
	shown := filepath.Join(t.TempDir(), "shown.yaml")
	settings := regexp.MustCompile(`(?m)^# ([a-z-]+: \S+)$`).ReplaceAll(text, []byte("$1"))
	if err := os.WriteFile(shown, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err = ReadConfig(shown); err != nil {
		t.Fatal(err)
	}
	// Examples, not defaults.
	want.NodeName, want.Bind = "db-01", "10.0.0.11"
	want.BootIDFile, want.PowerShell = "/run/boot-id", "/usr/bin/pwsh"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example differs from the defaults that it shows:\n%+v\n%+v", got, want)
	}
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		key, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
		if key != "-" && !strings.Contains(string(text), key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}

func TestReadConfigRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":   {"voters: 3\nvoter: 3\n", "line 2"},
		"wrong type":    {"voters: many\n", "line 1"},
		"bad duration":  {"voter-dead-after: 30\n", "30"},
		"twice":         {"voters: 3\nvoters: 5\n", "voters"},
		"not a mapping": {"- a\n", "line 1"},
	} {
		path := filepath.Join(t.TempDir(), "meshd.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConfig(path)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrConfig with %q", name, err, c.want)
		}
	}
}

func TestValidateNamesTheKey(t *testing.T) {
	for key, change := range map[string]func(*Config){
		"node-name":         func(c *Config) { c.NodeName = strings.Repeat("x", 256) },
		"bind":              func(c *Config) { c.Bind = "0.0.0.0" },
		"gossip-port":       func(c *Config) { c.GossipPort = 70000 },
		"api-port":          func(c *Config) { c.APIPort = c.GossipPort },
		"voters":            func(c *Config) { c.Voters = 4 },
		"stand-bys":         func(c *Config) { c.StandBys = -1 },
		"voter-dead-after":  func(c *Config) { c.VoterDeadAfter = Duration(time.Second) },
		"document-limit":    func(c *Config) { c.DocumentLimit = 0 },
		"document-version":  func(c *Config) { c.DocumentVersionLimit = 1001 },
		"window-limit":      func(c *Config) { c.WindowLimit = 0 },
		"window-task":       func(c *Config) { c.WindowTaskLimit = 101 },
		"window-target":     func(c *Config) { c.WindowTargetLimit = 501 },
		"documents-at-once": func(c *Config) { c.DocumentsAtOnce = 0 },
		"output-limit":      func(c *Config) { c.OutputLimit = 1 },
		"output-retention":  func(c *Config) { c.OutputRetention = 0 },
		"output-space":      func(c *Config) { c.DocumentsAtOnce, c.OutputSpace = 20, 20<<20-1 },
		"free-space":        func(c *Config) { c.FreeSpace = roomForJobs - 1 },
		"command-retention": func(c *Config) { c.CommandRetention = 0 },
		"command-space":     func(c *Config) { c.CommandSpace = 0 },
		"audit-retention":   func(c *Config) { c.AuditRetention = c.CommandRetention - 1 },
		"patch-stale-after": func(c *Config) { c.PatchStaleAfter = Duration(time.Minute) },
		"log-level":         func(c *Config) { c.LogLevel = "loud" },
	} {
		c := DefaultConfig()
		c.NodeName, c.Bind = "n", "127.0.0.1"
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestConfigSurvivesItsFile(t *testing.T) {
	c := DefaultConfig()
	c.NodeName, c.Bind, c.VoterDeadAfter = "n: 1", "127.0.0.9", Duration(90*time.Second)
	data, err := c.encode()
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := yaml.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(c, back) {
		t.Errorf("%+v, %v, want %+v", back, err, c)
	}
}

func TestRenewalWait(t *testing.T) {
	end := time.Date(2026, 5, 8, 0, 0, 0, 0, time.UTC)
	born := end.Add(-7 * 24 * time.Hour)
	for _, spread := range []float64{0, 0.5, 0.999} {
		wait := renewalWait(end, born, spread, true)
		if wait > 112*time.Hour || wait < 84*time.Hour {
			t.Errorf("spread %v: renewed %s after birth, want between half and two thirds of the life", spread, wait)
		}
	}
	for _, test := range []struct {
		name    string
		now     time.Time
		renewed bool
		want    time.Duration
	}{
		{"when two thirds are over", born.Add(112 * time.Hour), false, 0},
		{"long after the end", end.Add(time.Hour), false, 0},
		{"a clock ten years ahead", end.AddDate(10, 0, 0), true, renewAgain},
		{"a clock an hour behind", born.Add(-time.Hour), true, 113 * time.Hour},
		{"a clock ten years behind", born.AddDate(-10, 0, 0), false, 0},
		{"a clock ten years behind, just renewed", born.AddDate(-10, 0, 0), true, renewAgain},
	} {
		if wait := renewalWait(end, test.now, 0, test.renewed); wait != test.want {
			t.Errorf("%s: %s, want %s", test.name, wait, test.want)
		}
	}
}
