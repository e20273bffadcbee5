package executor

import "context"

// shellScript is aws:runShellScript: runCommand's lines as one file, executed as
// `sh -c FILE` does: a #! line is honoured, without one sh reads the file.
type shellScript struct{}

func (shellScript) Run(ctx context.Context, x *Execution) (Outcome, error) {
	return runScript(ctx, x, scriptFile{name: scriptName})
}

func (shellScript) Resume(ctx context.Context, x *Execution) (Outcome, error) {
	return resumeScript(ctx, x, &scriptFile{name: scriptName})
}
