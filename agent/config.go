package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"fleetmesh/agent/api"
	"fleetmesh/gossip"
)

// Version is the program's, in the form of an SSM agent's; Build names the commit
// that it was built from. The linker sets both.
var (
	Version = "0.1.0"
	Build   = "unknown"
)

// Config is a node's settings, as in meshd.yaml; every key is also a flag of
// `meshd run`.
type Config struct {
	// DataDir is the node's directory. It is not in the file: the file lies in it.
	DataDir string `yaml:"-"`
	// Now is the machine's clock, for tests; nil is the system's. Everything that
	// this node asks the time of day goes by it, but for the shims.
	Now func() time.Time `yaml:"-"`

	// Gossip are gossip's timings; all zero, its defaults. They are for programs that
	// run many nodes on few CPUs.
	Gossip gossip.Timings `yaml:"-"`

	// NodeName is the node's Name and ComputerName. Default: the host name.
	NodeName string `yaml:"node-name"`
	// Bind is the one IP address that the node listens on and is reached at.
	// Several nodes on one machine differ by it. Default: the machine's address.
	Bind string `yaml:"bind"`
	// GossipPort (tcp and udp) and APIPort (TLS) must be the same on all nodes.
	GossipPort int `yaml:"gossip-port"`
	APIPort    int `yaml:"api-port"`
	// Peers are addresses of other nodes' gossip, host or host:port, to try besides
	// those that this node remembers: after all nodes have got new addresses at once.
	Peers Addresses `yaml:"peers,omitempty"`
	// Socket is the local socket's path, mode 0600. Default: meshd.sock in DataDir.
	Socket string `yaml:"socket,omitempty"`
	// LogLevel is debug, info, warn or error. Debug costs some CPU and much disk.
	LogLevel string `yaml:"log-level"`

	// Voters is how many nodes vote at rest: 1, 3 or 5. More survive more failures
	// and make each write wait for more disks. The leader's setting counts.
	Voters int `yaml:"voters"`
	// StandBys is how many nodes follow without a vote, ready to replace a dead
	// voter at once. Each costs the leader's network one copy of every write.
	StandBys int `yaml:"stand-bys"`
	// VoterDeadAfter is how long a voter must be silent before a stand-by replaces
	// it. Lower: less time with less tolerance; higher: a reboot moves no votes.
	VoterDeadAfter Duration `yaml:"voter-dead-after"`

	// RampUp starts each command on one node, then on two more, and so on up to its
	// MaxConcurrency, as Systems Manager does. Off: the first batch is as large as
	// MaxConcurrency. The leader's setting counts.
	RampUp bool `yaml:"ramp-up"`

	// DocumentLimit is how many documents of its own the mesh keeps, and
	// DocumentVersionLimit how many versions each may have; Systems Manager's quotas
	// by default. Each version has up to 64 KiB on every voter. The leader's setting
	// counts.
	DocumentLimit        int `yaml:"document-limit"`
	DocumentVersionLimit int `yaml:"document-version-limit"`
	// WindowLimit is how many maintenance windows the mesh keeps, WindowTaskLimit and
	// WindowTargetLimit how many tasks and targets each may have; Systems Manager's
	// quotas by default. The leader looks at all windows at each change of one. The
	// leader's setting counts.
	WindowLimit       int `yaml:"window-limit"`
	WindowTaskLimit   int `yaml:"window-task-limit"`
	WindowTargetLimit int `yaml:"window-target-limit"`
	// DocumentsAtOnce is how many documents run on this node at the same time;
	// the others wait in its queue. Higher: less waiting, more load.
	DocumentsAtOnce int `yaml:"documents-at-once"`
	// SpareShim keeps one process started ahead, so that a script starts some
	// milliseconds of CPU sooner, for about 4 MiB of memory.
	SpareShim bool `yaml:"spare-shim"`
	// OutputLimit is how many bytes of a step's stdout, and of its stderr, this
	// node keeps; what comes after is dropped with a mark.
	OutputLimit int64 `yaml:"output-limit"`
	// OutputRetention is how long whole outputs stay on this node.
	OutputRetention Duration `yaml:"output-retention"`
	// OutputSpace is how many bytes of the disk the files of all jobs may take; beyond
	// it the oldest go earlier. The steps that run share half of it.
	OutputSpace int64 `yaml:"output-space"`
	// FreeSpace is how many bytes of the disk outputs leave free: where less is, only
	// the first 64 KiB of new ones are kept. A step that begins where less than one
	// and a half times of it is makes the oldest go.
	FreeSpace int64 `yaml:"free-space"`

	// CommandRetention is how long the mesh keeps an ended command. CommandSpace is
	// how many bytes of each voter's store all ended commands may take; beyond it the
	// oldest go earlier, but none that ended within the last hour. AuditRetention is
	// how long audit entries stay. The leader's settings count.
	CommandRetention Duration `yaml:"command-retention"`
	CommandSpace     int64    `yaml:"command-space"`
	AuditRetention   Duration `yaml:"audit-retention"`
	// PatchStaleAfter is how old what a node has told of its patches may be before it
	// counts as stale and for nothing. Shorter: compliance is of fresher data; longer:
	// rarer scans will do. The leader's setting counts.
	PatchStaleAfter Duration `yaml:"patch-stale-after"`

	// RebootCommand starts the machine anew when a document asks for it; /bin/sh runs
	// it. Empty: this node does not reboot, and steps that ask for it fail.
	RebootCommand string `yaml:"reboot-command"`
	// RebootGrace is how long a reboot waits for other documents that run on this
	// node. Longer: fewer of them are interrupted; no new ones begin meanwhile.
	RebootGrace Duration `yaml:"reboot-grace"`
	// RebootTimeout is how long the machine may take to go down, for each of three
	// attempts; then the step that asked has failed.
	RebootTimeout Duration `yaml:"reboot-timeout"`
	// BootIDFile has what names the boot of the machine. A container, which has the
	// kernel's in common with its host, needs one of its own.
	BootIDFile string `yaml:"boot-id-file,omitempty"`
	// PowerShell is the program of aws:runPowerShellScript. Default: pwsh, else
	// powershell, on the PATH.
	PowerShell string `yaml:"powershell,omitempty"`
}

// Duration is a time.Duration that YAML reads and writes as text ("30s").
type Duration time.Duration

// UnmarshalYAML reads Go's duration syntax.
func (d *Duration) UnmarshalYAML(node *yaml.Node) error {
	var text string
	if err := node.Decode(&text); err != nil {
		return err
	}
	return d.Set(text)
}

// MarshalYAML writes Go's duration syntax.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Set, String and Type make it a flag's value.
func (d *Duration) Set(text string) error {
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 30s or 720h", text)
	}
	*d = Duration(parsed)
	return nil
}

func (d *Duration) String() string { return time.Duration(*d).String() }

// Type names the value in help texts.
func (d *Duration) Type() string { return "duration" }

// Addresses is a list of hosts, each with a port or without.
type Addresses []string

// Set, String and Type make it a flag's value, with commas between the addresses.
func (a *Addresses) Set(text string) error {
	*a = nil
	for address := range strings.SplitSeq(text, ",") {
		if address = strings.TrimSpace(address); address != "" {
			*a = append(*a, address)
		}
	}
	return nil
}

func (a *Addresses) String() string { return strings.Join(*a, ",") }

// Type names the value in help texts.
func (a *Addresses) Type() string { return "addresses" }

// DefaultConfig is what a node runs with where nothing else is said.
func DefaultConfig() Config {
	return Config{
		GossipPort:     7946,
		APIPort:        7947,
		LogLevel:       "info",
		Voters:         5,
		StandBys:       1,
		VoterDeadAfter: Duration(30 * time.Second),
		DocumentLimit:  api.MaxDocuments, DocumentVersionLimit: api.MaxDocumentVersions,
		WindowLimit: api.MaxWindows, WindowTaskLimit: api.MaxWindowTasks, WindowTargetLimit: api.MaxWindowTargets,
		DocumentsAtOnce: 5,
		SpareShim:       true,
		OutputLimit:     64 << 20,
		OutputRetention: Duration(30 * 24 * time.Hour),
		OutputSpace:     2 << 30,
		FreeSpace:       32 << 20,

		CommandRetention: Duration(30 * 24 * time.Hour),
		CommandSpace:     1 << 30,
		AuditRetention:   Duration(400 * 24 * time.Hour),
		PatchStaleAfter:  Duration(api.DefaultPatchStaleAfter),

		RebootCommand: "shutdown -r now",
		RebootGrace:   Duration(5 * time.Minute),
		RebootTimeout: Duration(5 * time.Minute),
	}
}

// ErrConfig is wrapped by every error about a setting; its text names the key.
var ErrConfig = errors.New("bad configuration")

// ReadConfig reads a file over the defaults. Unknown keys and wrong types are
// refused with their line.
func ReadConfig(path string) (Config, error) {
	c := DefaultConfig()
	return c, c.Overlay(path)
}

// Overlay reads a file over c: keys that it does not have stay as they are.
func (c *Config) Overlay(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w in %s: %w", ErrConfig, path, err)
	}
	return nil
}

// outputSpaceEach is the least space for the outputs of one job that runs, in
// bytes: what is always kept of some steps, and as much for those that have ended.
const outputSpaceEach = 1 << 20

// Validate checks each value and the relations between them.
func (c *Config) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	ip := net.ParseIP(c.Bind)
	switch {
	case c.NodeName == "" || len(c.NodeName) > 255:
		return bad("node-name must have 1 to 255 characters")
	case ip == nil:
		return bad("bind must be an IP address, not %q", c.Bind)
	case ip.IsUnspecified():
		return bad("bind must be the one address that other nodes reach this node at, not %s", c.Bind)
	case c.GossipPort < 1 || c.GossipPort > 65535:
		return bad("gossip-port must be 1 to 65535, not %d", c.GossipPort)
	case c.APIPort < 1 || c.APIPort > 65535:
		return bad("api-port must be 1 to 65535, not %d", c.APIPort)
	case c.GossipPort == c.APIPort:
		return bad("gossip-port and api-port must differ, both are %d", c.APIPort)
	case c.Voters != 1 && c.Voters != 3 && c.Voters != 5:
		return bad("voters must be 1, 3 or 5, not %d: an even number survives no more failures than the odd one below it", c.Voters)
	case c.StandBys < 0 || c.StandBys > 10:
		return bad("stand-bys must be 0 to 10, not %d", c.StandBys)
	case time.Duration(c.VoterDeadAfter) < 5*time.Second:
		return bad("voter-dead-after must be at least 5s, or a slow disk costs a voter its vote; it is %s", &c.VoterDeadAfter)
	case c.DocumentLimit < 1 || c.DocumentLimit > 100000:
		return bad("document-limit must be 1 to 100000, not %d", c.DocumentLimit)
	case c.DocumentVersionLimit < 1 || c.DocumentVersionLimit > api.MaxDocumentVersions:
		return bad("document-version-limit must be 1 to %d, not %d: all versions of a document are deleted at once", api.MaxDocumentVersions, c.DocumentVersionLimit)
	case c.WindowLimit < 1 || c.WindowLimit > 1000:
		return bad("window-limit must be 1 to 1000, not %d", c.WindowLimit)
	case c.WindowTaskLimit < 1 || c.WindowTaskLimit > 100:
		return bad("window-task-limit must be 1 to 100, not %d: the tasks of an opening are frozen at once", c.WindowTaskLimit)
	case c.WindowTargetLimit < 1 || c.WindowTargetLimit > 500:
		return bad("window-target-limit must be 1 to 500, not %d: the targets of a window are deleted at once", c.WindowTargetLimit)
	case c.DocumentsAtOnce < 1 || c.DocumentsAtOnce > 1000:
		return bad("documents-at-once must be 1 to 1000, not %d", c.DocumentsAtOnce)
	case c.OutputLimit < 64<<10:
		return bad("output-limit must be at least 65536 bytes, not %d", c.OutputLimit)
	case time.Duration(c.OutputRetention) < time.Hour:
		return bad("output-retention must be at least 1h, not %s", &c.OutputRetention)
	case c.OutputSpace < int64(c.DocumentsAtOnce)*outputSpaceEach:
		return bad("output-space must be at least %d bytes for each of the %d documents at once, not %d", outputSpaceEach, c.DocumentsAtOnce, c.OutputSpace)
	case c.FreeSpace < roomForJobs:
		return bad("free-space must be at least %d bytes, below which this node takes no jobs, not %d", roomForJobs, c.FreeSpace)
	case time.Duration(c.CommandRetention) < time.Hour:
		return bad("command-retention must be at least 1h, not %s", &c.CommandRetention)
	case c.CommandSpace < 16<<20:
		return bad("command-space must be at least 16777216 bytes, not %d", c.CommandSpace)
	case time.Duration(c.PatchStaleAfter) < time.Hour:
		return bad("patch-stale-after must be at least 1h, not %s", &c.PatchStaleAfter)
	case time.Duration(c.AuditRetention) < 24*time.Hour:
		return bad("audit-retention must be at least 24h, not %s", &c.AuditRetention)
	case c.AuditRetention < c.CommandRetention:
		return bad("audit-retention must not be shorter than command-retention, %s: who sent a command can then be told as long as it is kept; it is %s", &c.CommandRetention, &c.AuditRetention)
	case time.Duration(c.RebootGrace) < time.Second || time.Duration(c.RebootGrace) > 48*time.Hour:
		return bad("reboot-grace must be 1s to 48h, not %s", &c.RebootGrace)
	case time.Duration(c.RebootTimeout) < time.Second || time.Duration(c.RebootTimeout) > time.Hour:
		return bad("reboot-timeout must be 1s to 1h, not %s", &c.RebootTimeout)
	case c.BootIDFile != "" && !filepath.IsAbs(c.BootIDFile):
		return bad("boot-id-file must be an absolute path, not %q", c.BootIDFile)
	case c.PowerShell != "" && !filepath.IsAbs(c.PowerShell):
		return bad("powershell must be an absolute path, not %q", c.PowerShell)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		return bad("log-level must be debug, info, warn or error, not %q", c.LogLevel)
	}
	return nil
}

// now is what the machine's clock says.
func (c *Config) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// gossipSeeds are Peers with their ports.
func (c *Config) gossipSeeds() []string {
	seeds := make([]string, 0, len(c.Peers))
	for _, peer := range c.Peers {
		if _, _, err := net.SplitHostPort(peer); err != nil {
			peer = net.JoinHostPort(strings.Trim(peer, "[]"), strconv.Itoa(c.GossipPort))
		}
		seeds = append(seeds, peer)
	}
	return seeds
}

// Address is host:port of the TLS port.
func (c *Config) Address() string { return net.JoinHostPort(c.Bind, strconv.Itoa(c.APIPort)) }

// GossipAddress is host:port of gossip.
func (c *Config) GossipAddress() string { return net.JoinHostPort(c.Bind, strconv.Itoa(c.GossipPort)) }

// SocketPath is where the local socket lies.
func (c *Config) SocketPath() string {
	if c.Socket != "" {
		return c.Socket
	}
	return filepath.Join(c.DataDir, "meshd.sock")
}

// ConfigPath is where init and join keep the settings.
func ConfigPath(dataDir string) string { return filepath.Join(dataDir, "meshd.yaml") }

// complete fills what follows from the machine and validates.
func (c *Config) complete() error {
	if c.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host name (or give --node-name): %w", err)
		}
		c.NodeName = name
	}
	if c.Bind == "" {
		address, err := machineAddress()
		if err != nil {
			return err
		}
		c.Bind = address
	}
	// One spelling of an address everywhere: peers compare addresses as text.
	if ip, err := netip.ParseAddr(c.Bind); err == nil && ip.Zone() == "" {
		c.Bind = ip.Unmap().String()
	}
	return c.Validate()
}

// machineAddress is the first global unicast address of an interface that is
// up, IPv4 before IPv6. It asks no network.
func machineAddress() (string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list network interfaces (or give --bind): %w", err)
	}
	var v6 string
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			continue // an interface that goes away while we look is not ours to bind
		}
		for _, a := range addresses {
			network, ok := a.(*net.IPNet)
			if !ok || !network.IP.IsGlobalUnicast() {
				continue
			}
			if network.IP.To4() != nil {
				return network.IP.String(), nil
			}
			if v6 == "" {
				v6 = network.IP.String()
			}
		}
	}
	if v6 != "" {
		return v6, nil
	}
	return "", errors.New("this machine has no address but loopback; give --bind with the address that other nodes reach it at")
}

// Check validates a file's settings with this machine's defaults for what the
// file leaves out, without changing anything.
func (c Config) Check() error { return c.complete() }

// encode is the file's text.
func (c *Config) encode() ([]byte, error) {
	var buffer bytes.Buffer
	buffer.WriteString("# The settings of this node; `meshd check-config` checks them, docs/operations.md explains them.\n")
	encoder := yaml.NewEncoder(&buffer)
	encoder.SetIndent(2)
	if err := encoder.Encode(c); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return buffer.Bytes(), nil
}
