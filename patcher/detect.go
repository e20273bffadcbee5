package patcher

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"golang.org/x/sys/unix"
)

// ErrNoManager is wrapped where a machine has no package manager that is known here.
var ErrNoManager = errors.New("no package manager of this machine is supported")

// readOSRelease reads a file like /etc/os-release.
func readOSRelease(in io.Reader) (map[string]string, error) {
	values := map[string]string{}
	scanner := bufio.NewScanner(in)
	for scanner.Scan() {
		name, value, ok := strings.Cut(strings.TrimSpace(scanner.Text()), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
			quote := value[0]
			value = value[1 : len(value)-1]
			if quote == '"' {
				value = strings.NewReplacer(`\"`, `"`, `\$`, "$", `\\`, `\`, "\\`", "`").Replace(value)
			}
		}
		values[name] = value
	}
	return values, scanner.Err()
}

// platformOf makes a Platform of os-release; architecture and kernel are the
// caller's.
func platformOf(release map[string]string) Platform {
	p := Platform{Name: release["NAME"], Release: release["VERSION_ID"], Codename: release["VERSION_CODENAME"]}
	p.OperatingSystem = OperatingSystemOf(p.Name, p.Release)
	if p.OperatingSystem == "" {
		p.OperatingSystem = OperatingSystemOf(release["ID"], p.Release)
	}
	p.Product = productOf(p.OperatingSystem, p.Name, p.Release)
	return p
}

// productOf is the value of the filter PRODUCT.
func productOf(system OperatingSystem, name, release string) string {
	var prefix string
	switch types.OperatingSystem(system) {
	case types.OperatingSystemDebian:
		prefix = "Debian"
	case types.OperatingSystemUbuntu:
		prefix = "Ubuntu"
	case types.OperatingSystemRaspbian:
		prefix = "Raspbian"
	case types.OperatingSystemRedhatEnterpriseLinux:
		prefix = "RedhatEnterpriseLinux"
	case types.OperatingSystemRockyLinux:
		prefix = "RockyLinux"
	case types.OperatingSystemAlmaLinux:
		prefix = "AlmaLinux"
	case types.OperatingSystemOracleLinux:
		prefix = "OracleLinux"
	case types.OperatingSystemCentOS:
		prefix = "CentOS"
	case types.OperatingSystemSuse:
		prefix = "Suse"
	case types.OperatingSystemAmazonLinux, types.OperatingSystemAmazonLinux2, types.OperatingSystemAmazonLinux2022, types.OperatingSystemAmazonLinux2023:
		// 2023.5.20240708 is still AmazonLinux2023; 2018.03 has its month.
		if types.OperatingSystem(system) != types.OperatingSystemAmazonLinux {
			release, _, _ = strings.Cut(release, ".")
		}
		prefix = "AmazonLinux"
	default:
		return ""
	}
	if release == "" {
		return "" // Debian testing and its like have no version
	}
	return prefix + release
}

// Detect reads what machine this is. root is its file system.
func Detect(root string) (Platform, error) {
	p, err := readPlatform(root)
	if err != nil {
		return p, err
	}
	p.Arch = machineArch(root)
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		p.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return p, nil
}

// machineArch is the package manager's word for the machine's architecture.
func machineArch(root string) string {
	words := map[string][2]string{ // dpkg's, rpm's
		"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}, "386": {"i386", "i686"}, "arm": {"armhf", "armv7hl"},
		"ppc64le": {"ppc64el", "ppc64le"}, "s390x": {"s390x", "s390x"}, "riscv64": {"riscv64", "riscv64"},
	}
	word, known := words[runtime.GOARCH]
	switch {
	case !known:
		return runtime.GOARCH
	case kindOf(root) == "apt":
		return word[0]
	}
	return word[1]
}

// kindOf is the machine's package manager: apt, dnf, dnf 5, yum, zypper; "" for none. The
// database decides before programs do: tools of another family may be installed.
func kindOf(root string) string {
	has := func(names ...string) bool {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(root, name)); err == nil {
				return true
			}
		}
		return false
	}
	program := func(name string) bool { return has("/usr/bin/"+name, "/bin/"+name) }
	dpkg := has("/var/lib/dpkg/status") && program("dpkg")
	apt := dpkg && program("apt-get")
	rpm := has("/var/lib/rpm", "/usr/lib/sysimage/rpm") && program("rpm")
	family := otherFamily
	if p, err := readPlatform(root); err == nil {
		family = familyOf(p.OperatingSystem, "")
	}
	switch {
	case apt && (family == aptFamily || !rpm):
		return "apt"
	case rpm && program("zypper") && family != yumFamily:
		return "zypper"
	case rpm && program("dnf5") && !program("dnf-3"):
		return "dnf 5"
	case rpm && (program("dnf") || program("dnf-3")):
		return "dnf"
	case rpm && program("yum"):
		return "yum"
	case apt:
		return "apt"
	}
	return ""
}

func readPlatform(root string) (Platform, error) {
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		file, err := os.Open(filepath.Join(root, name))
		if err != nil {
			continue
		}
		defer file.Close()
		release, err := readOSRelease(file)
		if err != nil {
			return Platform{}, fmt.Errorf("read %s: %w", name, err)
		}
		return platformOf(release), nil
	}
	return Platform{}, errors.New("this machine has no /etc/os-release")
}

// ManagerOf is the machine's package manager.
func ManagerOf(setup Setup) (Manager, error) {
	switch kind := kindOf(setup.Root); kind {
	case "apt":
		return NewApt(setup), nil
	case "dnf":
		return NewDNF(setup), nil
	case "zypper":
		return NewZypper(setup), nil
	case "":
		return nil, fmt.Errorf("%w: there is neither apt, dnf nor zypper", ErrNoManager)
	default:
		return nil, fmt.Errorf("%w: there is only %s, and this version works with apt, dnf 4 and zypper", ErrNoManager, kind)
	}
}
