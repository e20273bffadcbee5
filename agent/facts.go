package agent

import (
	"bufio"
	"os"
	"runtime"
	"strings"

	"fleetmesh/agent/peer"
)

// osRelease reads the pairs of an os-release file (freedesktop.org, os-release);
// lines it does not understand are passed over.
func osRelease(paths ...string) map[string]string {
	values := map[string]string{}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			continue // the next path is the standard's own fallback
		}
		defer file.Close()
		scanner := bufio.NewScanner(file)
		for scanner.Scan() {
			name, value, ok := strings.Cut(strings.TrimSpace(scanner.Text()), "=")
			if !ok || strings.HasPrefix(name, "#") {
				continue
			}
			if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
				value = value[1 : len(value)-1]
			}
			values[name] = value
		}
		return values
	}
	return values
}

// nodeFacts is what this machine says of itself.
func nodeFacts(c Config) peer.NodeFacts {
	release := osRelease("/etc/os-release", "/usr/lib/os-release")
	platform := map[string]string{"linux": "Linux", "windows": "Windows", "darwin": "MacOS"}[runtime.GOOS]
	return peer.NodeFacts{
		IPAddress:       c.Bind,
		Address:         c.Address(),
		GossipAddress:   c.GossipAddress(),
		ComputerName:    c.NodeName,
		PlatformType:    platform,
		PlatformName:    firstOf(release["NAME"], runtime.GOOS),
		PlatformVersion: release["VERSION_ID"],
		AgentVersion:    Version,
	}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
