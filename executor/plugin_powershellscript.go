package executor

import (
	"context"
	"os/exec"
	"slices"
	"strings"
)

// powerShellScript is aws:runPowerShellScript: runCommand's lines as one file,
// executed by PowerShell where that is installed.
type powerShellScript struct {
	program string // "" for one on the PATH
}

// byteOrderMark tells PowerShell that its script is UTF-8.
const byteOrderMark = "\xef\xbb\xbf"

func (p powerShellScript) Run(ctx context.Context, x *Execution) (Outcome, error) {
	program, reason := p.find()
	if reason != "" {
		return Outcome{Result: failedStep(x, reason)}, nil
	}
	return runScript(ctx, x, powerShellFile(program))
}

func (p powerShellScript) Resume(ctx context.Context, x *Execution) (Outcome, error) {
	program, reason := p.find()
	if reason != "" {
		return resumeScript(ctx, x, nil)
	}
	file := powerShellFile(program)
	return resumeScript(ctx, x, &file)
}

func powerShellFile(program string) scriptFile {
	return scriptFile{name: scriptMark + "ps1", prefix: byteOrderMark, interpreter: []string{program, "-f"}, environment: powerShellEnvironment}
}

// find returns the program, or a sentence on what is to be done.
func (p powerShellScript) find() (program, reason string) {
	names := []string{"pwsh", "powershell"}
	if p.program != "" {
		names = []string{p.program}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, ""
		}
	}
	if p.program != "" {
		return "", "PowerShell is not installed at " + p.program + ", as the setting powershell has it: install the package powershell there, or correct the setting"
	}
	return "", "PowerShell is not installed on this node: install the package powershell, so that pwsh is on the PATH of meshd, or name the program in the setting powershell"
}

// powerShellEnvironment is what PowerShell needs of an environment, as SSM's agent
// gives it: a HOME, and no TERM, which it would colour its output for.
func powerShellEnvironment(env []string) []string {
	out := slices.DeleteFunc(slices.Clone(env), func(entry string) bool { return strings.HasPrefix(entry, "TERM=") })
	if !slices.ContainsFunc(out, func(entry string) bool { return strings.HasPrefix(entry, "HOME=") }) {
		out = append(out, "HOME=/")
	}
	return out
}
