package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestWrongUsage(t *testing.T) {
	m := newFakeMesh(t)
	for line, want := range map[string]string{
		"frobnicate":                    `meshctl has no command "frobnicate"`,
		"nod list":                      "did you mean node?",
		"node":                          "say what: meshctl node list|remove|show|tag|untag",
		"node lst":                      "did you mean list?",
		"node list extra":               `unexpected argument "extra"`,
		"node list --frob":              "unknown flag: --frob\n  `meshctl node list --help`",
		"node show":                     "NODE is missing",
		"node tag web-1":                "KEY=VALUE is missing",
		"node tag web-1 x":              "a tag is KEY=VALUE",
		"mesh status -o xml":            "-o is table, json or yaml",
		"mesh status --timeout 0s":      "--timeout is a positive time",
		"mesh status --timeout soon":    "invalid argument",
		"run a b":                       "a command goes after --",
		"run AWS-RunShellScript":        "say where",
		"run --targets all":             "say what to run",
		"command output":                "COMMAND-ID is missing",
		"command list --limit -1":       "--limit is 0 or more",
		"activation create --limit 0":   "--limit is 1 to 1000",
		"activation delete":             "ACTIVATION-ID is missing",
		"keyring use":                   "KEY-ID is missing",
		"keyring list x":                "unexpected argument",
		"document":                      "say what: meshctl document create|delete|list|set-default|show|update|validate|versions",
		"document create x":             "FILE is missing",
		"document update":               "NAME and FILE is missing",
		"document set-default x":        "VERSION is missing",
		"document versions":             "NAME is missing",
		"document list --tag x":         "a tag is KEY=VALUE",
		"completion tcsh":               `meshctl completion has no command "tcsh"`,
		"env --socket /x --endpoint y":  "choose one",
		"env --socket /x --config /y":   "choose one",
		"env --socket /x":               "cannot use the local socket",
		"env --endpoint http://x":       "is not of the form https://host:port",
		"env --config /no/such/file":    "read the configuration (--config)",
		"mesh status --endpoint ftp://": "is not of the form",

		"mesh status --endpoint 127.0.0.1:7947":       "is not of the form https://host:port",
		"run --retry-failed x --targets all":          "--retry-failed does the same command again",
		"run --retry-failed x -- uptime":              "--retry-failed does the same command again",
		"run --targets all --execution-timeout 4 x":   "--execution-timeout is 5 to 172800 seconds, not 4",
		"run --targets all --execution-timeout 1e6 x": "invalid argument",
	} {
		if r := m.run(strings.Fields(line)...); r.code != exitUsage || r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("meshctl %s: %+v, want %q", line, r, want)
		}
	}
	if len(m.called("")) != 0 {
		t.Error("the mesh was asked")
	}
	if r := m.run("node", "list", "x", "-o", "json"); r.code != 2 || !strings.HasPrefix(r.err, `{"Error":{"Code":"Usage"`) {
		t.Errorf("as an object: %+v", r)
	}
}

func TestNotInThisVersion(t *testing.T) {
	m := newFakeMesh(t)
	for _, line := range []string{
		"parameter put --name x --value y", "parameter",
		"snapshot save /x", "snapshot restore /x",
	} {
		r := m.run(strings.Fields(line)...)
		if r.code != exitUsage || r.out != "" || !strings.HasSuffix(r.err, "is not in this version of fleetmesh\n") || strings.Count(r.err, "\n") != 1 {
			t.Errorf("meshctl %s: %+v", line, r)
		}
	}
}

// Every command says what it does, what its exit codes mean, and is told from the
// others by its first line.
func TestHelp(t *testing.T) {
	m := newFakeMesh(t)
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		line := strings.Fields(cmd.CommandPath() + " --help")[1:]
		r := m.run(line...)
		for _, want := range []string{cmd.CommandPath(), "Exit codes:", "0    done", "4    no node", "130  interrupted"} {
			if r.code != 0 || !strings.Contains(r.out, want) || r.err != "" {
				t.Errorf("%v: no %q in %+v", line, want, r)
			}
		}
		if has := strings.Contains(r.out, "  3    it ran"); has != (cmd.Annotations[annotationNotAll] != "" || !cmd.HasParent()) {
			t.Errorf("%v: exit code 3 is listed: %v", line, has)
		}
		if strings.HasSuffix(cmd.Short, ".") || cmd.Short == "" {
			t.Errorf("%v: short help %q", line, cmd.Short)
		}
	}
	visit((&app{surroundings: m.surroundings(nil, nil)}).rootCommand())
	if r := m.run(); r.code != 0 || !strings.Contains(r.out, "Available Commands") {
		t.Errorf("meshctl alone: %+v", r)
	}
	if r := m.run("--version"); r.code != 0 || !strings.HasPrefix(r.out, "meshctl version ") {
		t.Errorf("--version: %+v", r)
	}
}

func TestCompletion(t *testing.T) {
	m := threeNodes(t)
	for shell, want := range map[string]string{"bash": "__start_meshctl", "zsh": "#compdef meshctl", "fish": "complete -c meshctl", "powershell": "Register-ArgumentCompleter"} {
		if r := m.run("completion", shell); r.code != 0 || !strings.Contains(r.out, want) || r.err != "" {
			t.Errorf("%s: exit %d, %d bytes, %q", shell, r.code, len(r.out), r.err)
		}
	}
	if r := m.run("__complete", "node", "show", "web"); r.out != "web-2\tmi-0123456789abcdef2\nweb-1\tmi-0123456789abcdef1\n:4\n" {
		t.Errorf("nodes: %+v", r)
	}
	if r := m.run("__complete", "node", "show", "web-1", ""); r.out != ":4\n" {
		t.Errorf("a second node: %+v", r)
	}
	if r := m.run("__complete", "run", "--nodes", "db"); !strings.HasPrefix(r.out, "db-1\t") {
		t.Errorf("--nodes: %+v", r)
	}
	commandOn(m, success()...)
	if r := m.run("__complete", "command", "wait", ""); !strings.HasPrefix(r.out, commandID+"\tAWS-RunShellScript Failed") {
		t.Errorf("commands: %+v", r)
	}
	if r := m.run("__complete", "keyring", ""); strings.Contains(r.out, "snapshot") || !strings.Contains(r.out, "use\t") {
		t.Errorf("subcommands: %+v", r)
	}
}
