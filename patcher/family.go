package patcher

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// family is what decides the formats of a baseline's lists and what its filters see.
type family int

const (
	otherFamily  family = iota // Windows, macOS and what SSM has no word for
	aptFamily                  // Debian, Ubuntu, Raspbian
	yumFamily                  // dnf and yum: RHEL and its like, Amazon Linux
	zypperFamily               // SLES, openSUSE
)

// familyOf goes by the package manager; manager is "" where only the operating
// system is known, as when a baseline is validated.
func familyOf(os OperatingSystem, manager string) family {
	switch manager {
	case "apt":
		return aptFamily
	case "dnf", "yum":
		return yumFamily
	case "zypper":
		return zypperFamily
	}
	switch types.OperatingSystem(os) {
	case types.OperatingSystemDebian, types.OperatingSystemUbuntu, types.OperatingSystemRaspbian:
		return aptFamily
	case types.OperatingSystemSuse:
		return zypperFamily
	case types.OperatingSystemAmazonLinux, types.OperatingSystemAmazonLinux2, types.OperatingSystemAmazonLinux2022,
		types.OperatingSystemAmazonLinux2023, types.OperatingSystemCentOS, types.OperatingSystemOracleLinux,
		types.OperatingSystemRedhatEnterpriseLinux, types.OperatingSystemRockyLinux, types.OperatingSystemAlmaLinux:
		return yumFamily
	}
	return otherFamily
}

// subject is one version of a package, installed or offered, as a baseline judges it.
type subject struct {
	Package
	origins           []Origin
	notices           []Notice
	section, priority string
	built             time.Time
	installed         bool
}

// classification is a notice's type as the filter CLASSIFICATION writes it.
func classification(n *Notice) string {
	if n == nil {
		return ""
	}
	return capital(n.Type)
}

// severity is a notice's severity as the filter SEVERITY writes it. Where the family
// has the value None, a notice without a severity has that.
func severity(os OperatingSystem, n *Notice) string {
	if n == nil {
		return ""
	}
	s := capital(n.Severity)
	if s == "" && hasValue(PropertyValues(types.OperatingSystem(os), types.PatchPropertyPatchSeverity, ""), "None") {
		return "None"
	}
	return s
}

// capital writes a publisher's word as SSM does: Bugfix, Newpackage, Important.
func capital(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + strings.ToLower(s[1:])
}

// securityOrigin: an archive for security, as Debian (Label Debian-Security, suite
// stable-security), Ubuntu (suite jammy-security) and their extended ones name it.
func securityOrigin(o Origin) bool {
	return strings.HasSuffix(strings.ToLower(o.Label), "-security") ||
		strings.HasSuffix(o.Suite, "-security") || strings.HasSuffix(o.Codename, "-security")
}

func offeredForSecurity(origins []Origin) bool {
	for _, o := range origins {
		if securityOrigin(o) {
			return true
		}
	}
	return false
}

// security: the publisher says that the version is for security.
func (s *subject) security(f family) bool {
	if f == aptFamily {
		return offeredForSecurity(s.origins)
	}
	for i := range s.notices {
		if strings.EqualFold(s.notices[i].Type, "security") {
			return true
		}
	}
	return false
}

// selected is SSM's implicit rule where non-security updates are not enabled. With
// updateinfo and zypp patches any notice will do, not only one of type security:
// that is how a rule for Bugfix approves something.
func (s *subject) selected(f family) bool {
	if f == aptFamily {
		return offeredForSecurity(s.origins)
	}
	return len(s.notices) > 0
}

// unselected is why selected is false.
func unselected(f family) string {
	switch f {
	case aptFamily:
		return "not for security: no security source offers this version"
	case zypperFamily:
		return "not for security: no patch of a source lists this version"
	}
	return "not for security: no advisory lists this version"
}
