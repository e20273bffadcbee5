package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCommandLine(t *testing.T) {
	for want, arguments := range map[string][]string{
		"df -h | tail -1":       {"df -h | tail -1"},
		"ls -l /tmp":            {"ls", "-l", "/tmp"},
		`echo 'a b' '' '$HOME'`: {"echo", "a b", "", "$HOME"},
		`'FOO=bar' env`:         {"FOO=bar", "env"},
		`'if' x`:                {"if", "x"},
		`echo if 'it'\''s'`:     {"echo", "if", "it's"},
	} {
		if got := commandLine(arguments); got != want {
			t.Errorf("%q: %s, want %s", arguments, got, want)
		}
	}
}

// What a real shell reads is what was given, whatever it is.
func TestShellReadsWhatWasQuoted(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal("these tests need a sh, as every node does: ", err)
	}
	text := rapid.StringOf(rapid.OneOf(
		rapid.SampledFrom([]rune("'\"\\$`!*?[]{}()<>|&;#~=%^ \t\nabc-é世\x01\x7f")), rapid.Rune().Filter(func(r rune) bool { return r != 0 }),
	))
	rapid.Check(t, func(t *rapid.T) {
		var batch [][]string // several in one shell: processes are slow
		var script strings.Builder
		for range 20 {
			arguments := rapid.SliceOfN(text, 1, 4).Draw(t, "arguments")
			batch = append(batch, arguments)
			script.WriteString(commandLine(append([]string{"printf", `%s\0`}, arguments...)) + "\nprintf '\\0\\0'\n")
		}
		out, err := exec.Command(sh, "-c", script.String()).Output()
		if err != nil {
			t.Fatalf("sh: %v", err)
		}
		var want strings.Builder
		for _, arguments := range batch {
			want.WriteString(strings.Join(arguments, "\x00") + "\x00\x00\x00")
		}
		if string(out) != want.String() {
			t.Fatalf("the shell read %q, want %q", out, want.String())
		}
	})
}

// A first word that means something to a shell is still a command's name.
func TestReservedWordsAreNames(t *testing.T) {
	for _, word := range reserved {
		if line := commandLine([]string{word, "x"}); !slices.Contains([]string{"'" + word + "' x"}, line) {
			t.Errorf("%s: %s", word, line)
		}
	}
}
