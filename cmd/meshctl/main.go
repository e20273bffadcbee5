// Command meshctl is the human face of a mesh: the SDK's own SSM client, and the
// Mesh.* operations for what SSM has no word for. Data goes to stdout, talk to
// stderr; exit.go says what the exit codes mean.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/term"
)

// version is set when a release is built.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, thisProcess(), os.Args[1:]))
}

// surroundings is all that a command takes from its process, so that tests can
// run commands within theirs.
type surroundings struct {
	in       io.Reader
	out, err io.Writer
	// inTerminal, outTerminal and errTerminal say which of them are terminals;
	// width is the terminal's, in columns.
	inTerminal, outTerminal, errTerminal bool
	width                                int
	getenv                               func(string) string
	home                                 func() (string, error)
	root                                 bool
	// defaultSocket is where an installed node listens.
	defaultSocket string
	now           func() time.Time
	zone          *time.Location
}

func thisProcess() surroundings {
	s := surroundings{
		in: os.Stdin, out: os.Stdout, err: os.Stderr,
		inTerminal:    term.IsTerminal(int(os.Stdin.Fd())),
		outTerminal:   term.IsTerminal(int(os.Stdout.Fd())),
		errTerminal:   term.IsTerminal(int(os.Stderr.Fd())),
		getenv:        os.Getenv,
		home:          homeDirectory,
		root:          os.Geteuid() == 0,
		defaultSocket: "/run/meshd/meshd.sock",
		now:           time.Now,
		zone:          time.Local,
	}
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			s.width = width
			break
		}
	}
	return s
}

// homeDirectory is $HOME, or what the user database says where that is unset, as
// under a service manager.
func homeDirectory() (string, error) {
	if home := os.Getenv("HOME"); home != "" {
		return home, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	return u.HomeDir, nil
}

// programVersion is the release's, or what the build recorded.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
