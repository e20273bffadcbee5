package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// meshd runs one command line as main does.
func meshd(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(arguments)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

func TestDataDirectoryIsKnownByItsWholePath(t *testing.T) {
	// A shim runs in the script's directory: below a relative path it would find
	// nothing, and no script would start.
	home := t.TempDir()
	t.Chdir(home)
	out, err := meshd(t, "init", "--data-dir", "node", "--bind", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if whole := filepath.Join(home, "node"); !strings.Contains(out, "meshd run --data-dir "+whole+"\n") {
		t.Errorf("init does not name %s:\n%s", whole, out)
	}
	dir := "node"
	if err := requireDataDir(&dir); err != nil || dir != filepath.Join(home, "node") {
		t.Errorf("got %q, %v", dir, err)
	}
}

func TestWrongUsageIsToldFromFailure(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "meshd.yaml")
	if err := os.WriteFile(broken, []byte("bind: 127.0.0.1\nvoters: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		arguments []string
		usage     bool
		says      string
	}{
		{[]string{"start"}, true, `no command "start"`},
		{[]string{"run"}, true, "--data-dir is required"},
		{[]string{"init"}, true, "--data-dir is required"},
		{[]string{"init", "here"}, true, "takes no arguments"},
		{[]string{"init", "--data-dir", dir, "--tag", "role"}, true, "KEY=VALUE"},
		{[]string{"init", "--data-dir", dir, "--tag", "a=1", "--tag", "a=2"}, true, "given twice"},
		{[]string{"join", "--data-dir", dir}, true, "give --token"},
		{[]string{"join", "--data-dir", dir, "--token", "x"}, true, "--token: "},
		{[]string{"join", "--data-dir", dir, "--token", "x", "--id", "y"}, true, "not both"},
		{[]string{"check-config"}, true, "takes one file"},
		{[]string{"check-config", broken}, true, "voters"},
		{[]string{"run", "--data-dir", filepath.Join(dir, "none")}, false, "meshd init"},
		{[]string{"run", "--nonsense"}, true, "nonsense"},
	} {
		_, err := meshd(t, test.arguments...)
		var usage usageError
		if err == nil || errors.As(err, &usage) != test.usage || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%q: %v (wrong usage: %t)", test.arguments, err, errors.As(err, &usage))
		}
	}
}
