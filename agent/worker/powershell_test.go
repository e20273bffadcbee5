package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakePowerShell tells how it was called, runs the lines of its script that are for
// it, and ends with the code that they say.
const fakePowerShell = `#!/bin/sh
echo "arguments: $1 ${2##*/} $#"
echo "directory: $(pwd)"
echo "home: $HOME, terminal: ${TERM-none}, variable: $SSM_COMMAND_ID"
echo "name: ${0##*/}"
head -c 3 "$2" | od -An -tx1
tail -c +4 "$2" | head -n 1
echo trouble >&2
exit $(sed -n 's/^exit //p' "$2")
`

func install(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(fakePowerShell), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func powerShell(name string, inputs map[string]any, lines ...string) step {
	all := map[string]any{"runCommand": lines}
	for key, value := range inputs {
		all[key] = value
	}
	return step{Name: name, Action: "aws:runPowerShellScript", Inputs: all}
}

// The script is a file with a byte order mark, the program is called with -f FILE in
// the working directory, and its code is the step's.
func TestRunPowerShellScript(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("HOME", "/root/of/meshd")
	m := newMesh()
	config := testConfig(t.TempDir(), m)
	config.PowerShell = install(t, filepath.Join(t.TempDir(), "my-shell"))
	w := open(t, config)
	dir := t.TempDir()
	for i, c := range []struct {
		inputs    map[string]any
		code      int
		directory string
		status    string
	}{
		{map[string]any{"workingDirectory": dir}, 0, dir, "Success"},
		{nil, 5, "/", "Failed"},
		{map[string]any{"workingDirectory": "not/there"}, 168, "/", "Success"},
		{nil, 3010 % 256, "/", "Failed"}, // nothing reboots here
	} {
		id := fmt.Sprint("job-", i)
		accept(t, w, newJob(id, powerShell("ps", c.inputs, "Write-Output 'hello'", fmt.Sprint("exit ", c.code))))
		end := m.end(t, id)
		want := "arguments: -f _script.ps1 2\ndirectory: " + c.directory + "\nhome: /root/of/meshd, terminal: none, variable: " + id +
			"\nname: my-shell\n ef bb bf\nWrite-Output 'hello'\n"
		if p := end.Plugins[0]; p.Status != c.status || p.ResponseCode != c.code || p.Stdout != want || p.Stderr != "trouble\n" {
			t.Errorf("code %d: %+v\nwant %q", c.code, p, want)
		}
	}
}

// Where PowerShell is not installed the step fails with what is to be done, and the
// next one runs.
func TestWithoutPowerShell(t *testing.T) {
	path := t.TempDir()
	t.Setenv("PATH", path)
	gone := filepath.Join(path, "gone")
	for i, c := range []struct {
		setting string
		on      []string // the PATH
		want    string   // in Stderr; "" where it runs
		name    string
	}{
		{"", nil, "PowerShell is not installed on this node: install the package powershell, so that pwsh is on the PATH of meshd, or name the program in the setting powershell\n", ""},
		{gone, nil, "PowerShell is not installed at " + gone + ", as the setting powershell has it: install the package powershell there, or correct the setting\n", ""},
		{"", []string{"powershell"}, "", "powershell"},
		{"", []string{"pwsh"}, "", "pwsh"}, // and powershell is still there
		{gone, nil, "PowerShell is not installed at ", ""},
	} {
		for _, name := range c.on {
			install(t, filepath.Join(path, name))
		}
		m := newMesh()
		config := testConfig(t.TempDir(), m)
		config.PowerShell = c.setting
		w := open(t, config)
		accept(t, w, newJob("job", powerShell("ps", nil, "Get-Date", "exit 0"), shell("next", "echo next")))
		end := m.end(t, "job")
		p := end.Plugins[0]
		switch {
		case c.want != "" && (p.Status != "Failed" || p.ResponseCode != 1 || !strings.HasPrefix(p.Stderr, c.want)):
			t.Errorf("%d: %+v", i, p)
		case c.want == "" && (p.Status != "Success" || !strings.Contains(p.Stdout, "name: "+c.name+"\n")):
			t.Errorf("%d: %+v", i, p)
		}
		if end.Plugins[1].Stdout != "next\n" {
			t.Errorf("%d: the next step: %+v", i, end.Plugins[1])
		}
	}
}
