package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
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
	out, err := meshd(t, "init", "--data-dir", "node", "--bind", "127.0.0.1", "--tag", "Rôle/x=", "--tag", "note=a b=c", "--tag", "long="+strings.Repeat("é", 256))
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
		{[]string{"init", "--data-dir", dir, "--tag", "role!=x"}, true, "is made of letters"},
		{[]string{"init", "--data-dir", dir, "--tag", "role=x\ny"}, true, "is made of letters"},
		{[]string{"init", "--data-dir", dir, "--tag", "AWS:role=x"}, true, "must not begin with aws:"},
		{[]string{"init", "--data-dir", dir, "--tag", "role=" + strings.Repeat("é", 257)}, true, "up to 256"},
		{[]string{"join", "--data-dir", dir}, true, "give --token"},
		{[]string{"join", "--data-dir", dir, "--token", "x"}, true, "--token: "},
		{[]string{"join", "--data-dir", dir, "--token", "x", "--id", "y"}, true, "not both"},
		{[]string{"join", "--data-dir", dir, "--id", "i", "--code", "c", "--peer", "h", "--ca-fingerprint", "sha256:ab"}, true, "--ca-fingerprint: "},
		{[]string{"join", "--data-dir", dir, "--id", "i", "--code", "c", "--peer", "https://h/", "--ca-fingerprint", strings.Repeat("ab", 32)}, true, "--peer: "},
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

func TestPartsOfATokenAsPeopleHaveThem(t *testing.T) {
	want := "sha256:" + strings.Repeat("0af9", 16)
	for _, text := range []string{want, strings.TrimPrefix(want, "sha256:"), strings.TrimSuffix(strings.Repeat("0A:F9:", 16), ":"), "SHA256:" + strings.Repeat("0AF9", 16) + "\n"} {
		if got, err := fingerprint(text); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "sha256:", want[1:] + "0", want + "0", "sha1:" + strings.Repeat("0a", 20)} {
		if got, err := fingerprint(text); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
	got, err := peers([]string{"10.0.0.1", "10.0.0.1:1", "node-1", "node-1:2", "::1", "[::1]", "[::1]:3"}, 7947)
	if want := []string{"10.0.0.1:7947", "10.0.0.1:1", "node-1:7947", "node-1:2", "[::1]:7947", "[::1]:7947", "[::1]:3"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, text := range []string{"", ":1", "h:0", "h:65536", "h:x", "https://h", "h/x", "a b", "a:b:c"} {
		if got, err := peers([]string{text}, 7947); err == nil {
			t.Errorf("%q is taken as %q", text, got)
		}
	}
}
