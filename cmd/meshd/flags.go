package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fleetmesh/agent"
)

// addSettings gives a command one flag for each key of meshd.yaml.
func addSettings(flags *pflag.FlagSet, c *agent.Config) {
	addAddress(flags, c)
	flags.Var(&c.Peers, "peers", "addresses of other nodes' gossip to try besides those that are remembered, when all addresses have changed")
	flags.StringVar(&c.Socket, "socket", c.Socket, "path of the local socket (default meshd.sock in the data directory)")
	flags.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	flags.IntVar(&c.Voters, "voters", c.Voters, "how many nodes vote at rest: 1, 3 or 5 (the leader's setting counts)")
	flags.IntVar(&c.StandBys, "stand-bys", c.StandBys, "how many nodes follow without a vote")
	flags.Var(&c.VoterDeadAfter, "voter-dead-after", "silence after which a stand-by replaces a voter")
	flags.BoolVar(&c.RampUp, "ramp-up", c.RampUp, "start commands on one node, then on two more, up to MaxConcurrency (the leader's setting counts)")
	flags.IntVar(&c.DocumentLimit, "document-limit", c.DocumentLimit, "how many documents of its own the mesh keeps (the leader's setting counts)")
	flags.IntVar(&c.DocumentVersionLimit, "document-version-limit", c.DocumentVersionLimit, "how many versions a document may have (the leader's setting counts)")
	flags.IntVar(&c.WindowLimit, "window-limit", c.WindowLimit, "how many maintenance windows the mesh keeps (the leader's setting counts)")
	flags.IntVar(&c.WindowTaskLimit, "window-task-limit", c.WindowTaskLimit, "how many tasks a maintenance window may have (the leader's setting counts)")
	flags.IntVar(&c.WindowTargetLimit, "window-target-limit", c.WindowTargetLimit, "how many targets a maintenance window may have (the leader's setting counts)")
	flags.IntVar(&c.DocumentsAtOnce, "documents-at-once", c.DocumentsAtOnce, "how many documents run on this node at a time")
	flags.BoolVar(&c.SpareShim, "spare-shim", c.SpareShim, "keep one process started ahead, so that scripts start sooner")
	flags.Int64Var(&c.OutputLimit, "output-limit", c.OutputLimit, "bytes of a step's stdout, and of its stderr, that are kept")
	flags.Var(&c.OutputRetention, "output-retention", "how long whole outputs stay on this node")
	flags.Int64Var(&c.OutputSpace, "output-space", c.OutputSpace, "bytes of the disk that all outputs may take; beyond it the oldest go")
	flags.Int64Var(&c.FreeSpace, "free-space", c.FreeSpace, "bytes of the disk that outputs leave free")
	flags.Var(&c.CommandRetention, "command-retention", "how long the mesh keeps ended commands (the leader's setting counts)")
	flags.Int64Var(&c.CommandSpace, "command-space", c.CommandSpace, "bytes of the store that ended commands may take; beyond it the oldest go (the leader's setting counts)")
	flags.Var(&c.AuditRetention, "audit-retention", "how long the mesh keeps audit entries (the leader's setting counts)")
	flags.Var(&c.PatchStaleAfter, "patch-stale-after", "how old what a node told of its patches may be before it counts for nothing (the leader's setting counts)")
	flags.StringVar(&c.RebootCommand, "reboot-command", c.RebootCommand, "what starts the machine anew when a document asks for it; empty: nothing does")
	flags.Var(&c.RebootGrace, "reboot-grace", "how long a reboot waits for other documents that run on this node")
	flags.Var(&c.RebootTimeout, "reboot-timeout", "how long the machine may take to go down, for each of three attempts")
	flags.StringVar(&c.BootIDFile, "boot-id-file", c.BootIDFile, "file that names the boot of the machine (default the kernel's)")
	flags.StringVar(&c.PowerShell, "powershell", c.PowerShell, "program of aws:runPowerShellScript (default: pwsh on the PATH)")
}

// addAddress gives a command the settings that init and join need.
func addAddress(flags *pflag.FlagSet, c *agent.Config) {
	flags.StringVar(&c.Bind, "bind", c.Bind, "IP address of this node (default: the machine's address)")
	flags.StringVar(&c.NodeName, "node-name", c.NodeName, "name of this node (default: the host name)")
	flags.IntVar(&c.GossipPort, "gossip-port", c.GossipPort, "port of gossip, tcp and udp, the same on all nodes")
	flags.IntVar(&c.APIPort, "api-port", c.APIPort, "TLS port of the API, the peers and Raft, the same on all nodes")
}

func addDataDir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "data-dir", "", "the node's directory (required)")
}

// requireDataDir makes the directory's path absolute: scripts run in directories
// of their own, and their shims find the node's files by it.
func requireDataDir(dir *string) error {
	if *dir == "" {
		return usageError{fmt.Errorf("--data-dir is required")}
	}
	absolute, err := filepath.Abs(*dir)
	if err != nil {
		return fmt.Errorf("find the data directory %s: %w", *dir, err)
	}
	*dir = absolute
	return nil
}

// tagText is the API's own rule. A first node with other tags could not be tagged
// any more.
var tagText = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)

// tagFlag is --tag K=V, repeatable.
type tagFlag map[string]string

func (t tagFlag) String() string { return "" }
func (t tagFlag) Type() string   { return "K=V" }

func (t tagFlag) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("a tag is written KEY=VALUE, not %q", text)
	}
	if old, twice := t[key]; twice {
		return fmt.Errorf("tag %q is given twice, as %q and %q", key, old, value)
	}
	switch {
	case utf8.RuneCountInString(key) > 128 || utf8.RuneCountInString(value) > 256:
		return fmt.Errorf("the key of a tag has up to 128 characters, its value up to 256: %.40q…", text)
	case !tagText.MatchString(key) || !tagText.MatchString(value):
		return fmt.Errorf("a tag is made of letters, digits, blanks and _.:/=+-@, not %q", text)
	case strings.HasPrefix(strings.ToLower(key), "aws:"):
		return fmt.Errorf("the key of a tag must not begin with aws:, as %q does", key)
	}
	t[key] = value
	return nil
}
