// Command bench measures a mesh of real processes, and the floors and peers to
// compare it with, in one run: what the machine itself needs for the same work is
// measured right before and after each table, so that the ratios hold on any
// machine. `make bench` starts it; docs/contributing.md tells how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"fleetmesh/agent/worker"
)

// section is a group of tables that can be asked for by name.
type section struct {
	name string
	what string
	// quick says that it belongs to a quick run too, with fewer runs.
	quick bool
	run   func(context.Context, *bench) error
}

var sections = []section{
	{"fanout", "run `true` on 10, 50 and 100 nodes", true, benchFanout},
	{"rivals", "the same by clustershell, ansible and serf", false, benchRivals},
	{"store", "writes to the store, with etcd", true, benchStore},
	{"failover", "SIGKILL of the leader", true, benchFailover},
	{"membership", "50 nodes find each other and miss a killed one, with serf", false, benchMembership},
	{"idle", "memory and CPU at rest", true, benchIdle},
	{"patch", "a scan for patches, beside apt and dnf", false, benchPatch},
	{"scale", "1,000 nodes in one process; bytes by command and output", false, benchScale},
}

// bench is one run of the program.
type bench struct {
	report *report
	bin    string // where meshd lies
	dir    string // for everything that is made
	quick  bool
	nodes  int // of the sections fanout and scale; 0: all their sizes
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case worker.ShimCommand: // scripts of the nodes in this process
			os.Exit(worker.ShimMain(os.Args[2:]))
		case floorAgentCommand:
			exit(floorAgent(os.Args[2:]))
		case scaleCommand:
			exit(scaleMain(os.Args[2:]))
		}
	}
	exit(run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run() error {
	b := &bench{}
	which := flag.String("tables", "full", "quick, full, or a list of: "+sectionNames())
	out := flag.String("out", "bench", "directory of the results")
	flag.StringVar(&b.bin, "bin", "bin", "directory of meshd")
	flag.IntVar(&b.nodes, "nodes", 0, "nodes of the sections fanout and scale, where not all their sizes are wanted")
	flag.Parse()
	wanted, err := choose(*which)
	if err != nil {
		return err
	}
	b.quick = *which == "quick"
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "fmbench"); err != nil { // short: sockets lie in it
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := raiseFileLimit(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	b.report = newReport(describeMachine(b.bin))
	b.report.printHead(os.Stdout)
	began := time.Now()
	var failed []error
	for _, s := range wanted {
		fmt.Printf("\n-- %s: %s\n", s.name, s.what)
		if err := s.run(ctx, b); err != nil {
			err = fmt.Errorf("section %s: %w", s.name, err)
			fmt.Fprintln(os.Stderr, "bench:", err)
			b.report.Failures = append(b.report.Failures, err.Error())
			failed = append(failed, err)
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	b.report.Took = time.Since(began).Round(time.Second).String()
	paths, err := b.report.write(*out, *which)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s; written to %s\n", b.report.summary(), strings.Join(paths, " and "))
	return errors.Join(failed...)
}

func sectionNames() string {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// choose returns the sections of a run.
func choose(which string) ([]section, error) {
	var wanted []section
	names := strings.Split(which, ",")
	for _, s := range sections {
		if which == "full" || which == "quick" && s.quick || slices.Contains(names, s.name) {
			wanted = append(wanted, s)
		}
	}
	for _, name := range names {
		if name != "full" && name != "quick" && !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) {
			return nil, fmt.Errorf("no section %q; there are quick, full and %s", name, sectionNames())
		}
	}
	return wanted, nil
}

// times is how often something is measured: fewer times in a quick run.
func (b *bench) times(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// raiseFileLimit lets this process, and what it starts, open as many files as the
// system allows it to.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}
