package patcher

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// OperatingSystemOf is SSM's word for a machine whose os-release has this NAME and
// VERSION_ID; "" where SSM has none.
func OperatingSystemOf(name, version string) OperatingSystem {
	name = strings.ToLower(strings.TrimSpace(name))
	major, _, _ := strings.Cut(version, ".")
	has := func(part string) bool { return strings.Contains(name, part) }
	switch {
	case has("raspbian"):
		return OperatingSystem(types.OperatingSystemRaspbian)
	case has("debian"):
		return OperatingSystem(types.OperatingSystemDebian)
	case has("ubuntu"):
		return OperatingSystem(types.OperatingSystemUbuntu)
	case has("amazon linux ami"):
		return OperatingSystem(types.OperatingSystemAmazonLinux)
	case has("amazon linux"):
		switch {
		case major == "2":
			return OperatingSystem(types.OperatingSystemAmazonLinux2)
		case major == "2022":
			return OperatingSystem(types.OperatingSystemAmazonLinux2022)
		case len(major) == 4 && major < "2022":
			return OperatingSystem(types.OperatingSystemAmazonLinux)
		}
		return OperatingSystem(types.OperatingSystemAmazonLinux2023)
	case has("red hat enterprise"), name == "rhel":
		return OperatingSystem(types.OperatingSystemRedhatEnterpriseLinux)
	case has("centos"):
		return OperatingSystem(types.OperatingSystemCentOS)
	case has("oracle"):
		return OperatingSystem(types.OperatingSystemOracleLinux)
	case has("rocky"):
		return OperatingSystem(types.OperatingSystemRockyLinux)
	case has("almalinux"), has("alma linux"):
		return OperatingSystem(types.OperatingSystemAlmaLinux)
	case has("suse"), name == "sles", strings.HasPrefix(name, "sles_"), name == "sled":
		return OperatingSystem(types.OperatingSystemSuse)
	case has("macos"), has("mac os"), name == "darwin":
		return OperatingSystem(types.OperatingSystemMacOS)
	case has("windows"):
		return OperatingSystem(types.OperatingSystemWindows)
	}
	return ""
}
