package main

import (
	"slices"
	"strings"
)

// reserved words mean something to a shell when they come first.
var reserved = []string{"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in", "select", "then", "time", "until", "while"}

// shellQuote writes s so that a POSIX shell reads it as one word, s.
func shellQuote(s string) string {
	if s != "" && strings.IndexFunc(s, unsafe) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func unsafe(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_@%+:,./-", r)
}

// commandLine is the script line that runs the arguments: a single one is a line
// already, several are the words of one.
func commandLine(arguments []string) string {
	if len(arguments) == 1 {
		return arguments[0]
	}
	words := make([]string, len(arguments))
	for i, argument := range arguments {
		words[i] = shellQuote(argument)
		if i == 0 && slices.Contains(reserved, argument) {
			words[i] = "'" + argument + "'"
		}
	}
	return strings.Join(words, " ")
}
