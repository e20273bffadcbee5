package patcher

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func TestPlatforms(t *testing.T) {
	for _, c := range []struct {
		text    string
		system  types.OperatingSystem
		product string
	}{
		{"NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n", types.OperatingSystemDebian, "Debian12"},
		{"NAME=\"Debian GNU/Linux\"\nID=debian\n", types.OperatingSystemDebian, ""},
		{"NAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=ubuntu\nID_LIKE=debian\n", types.OperatingSystemUbuntu, "Ubuntu22.04"},
		{"NAME=\"Raspbian GNU/Linux\"\nVERSION_ID=\"11\"\nID=raspbian\n", types.OperatingSystemRaspbian, "Raspbian11"},
		{"NAME=\"Red Hat Enterprise Linux\"\nVERSION_ID=\"9.4\"\nID=\"rhel\"\n", types.OperatingSystemRedhatEnterpriseLinux, "RedhatEnterpriseLinux9.4"},
		{"NAME=\"Rocky Linux\"\nVERSION_ID=\"9.4\"\nID=\"rocky\"\n", types.OperatingSystemRockyLinux, "RockyLinux9.4"},
		{"NAME=\"AlmaLinux\"\nVERSION_ID=\"8.10\"\nID=\"almalinux\"\n", types.OperatingSystemAlmaLinux, "AlmaLinux8.10"},
		{"NAME=\"Oracle Linux Server\"\nVERSION_ID=\"8.9\"\nID=\"ol\"\n", types.OperatingSystemOracleLinux, "OracleLinux8.9"},
		{"NAME=\"CentOS Stream\"\nVERSION_ID=\"9\"\nID=\"centos\"\n", types.OperatingSystemCentOS, "CentOS9"},
		{"NAME=\"CentOS Linux\"\nVERSION_ID=\"7\"\nID=\"centos\"\n", types.OperatingSystemCentOS, "CentOS7"},
		{"NAME=\"SLES\"\nVERSION_ID=\"15.6\"\nID=\"sles\"\n", types.OperatingSystemSuse, "Suse15.6"},
		{"NAME=\"openSUSE Leap\"\nVERSION_ID=\"15.6\"\nID=\"opensuse-leap\"\n", types.OperatingSystemSuse, "Suse15.6"},
		{"NAME=\"Amazon Linux\"\nVERSION_ID=\"2023\"\nID=\"amzn\"\n", types.OperatingSystemAmazonLinux2023, "AmazonLinux2023"},
		{"NAME=\"Amazon Linux\"\nVERSION_ID=\"2\"\nID=\"amzn\"\n", types.OperatingSystemAmazonLinux2, "AmazonLinux2"},
		{"NAME=\"Amazon Linux AMI\"\nVERSION_ID=\"2018.03\"\nID=\"amzn\"\n", types.OperatingSystemAmazonLinux, "AmazonLinux2018.03"},
		{"NAME='Linux Mint'\nVERSION_ID='21'\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "", ""},
		{"# a comment\n\nbroken\n", "", ""},
	} {
		root := t.TempDir()
		put(t, root, "/usr/lib/os-release", c.text)
		p, err := Detect(root)
		if err != nil || p.OperatingSystem != OperatingSystem(c.system) || p.Product != c.product || p.Arch == "" || p.Kernel == "" {
			t.Errorf("%q: %+v, %v", c.text, p, err)
		}
	}
	if _, err := Detect(t.TempDir()); err == nil {
		t.Error("a machine without os-release is known")
	}
}

func TestManagerOfAMachine(t *testing.T) {
	const debian, rocky, suse, amazon = "NAME=Debian\nID=debian\n", "NAME=\"Rocky Linux\"\nVERSION_ID=9\n", "NAME=SLES\nVERSION_ID=15.6\n", "NAME=\"Amazon Linux\"\nVERSION_ID=2\n"
	for _, c := range []struct {
		release, files, want string
	}{
		{debian, "/var/lib/dpkg/status /usr/bin/dpkg /usr/bin/apt-get", "apt"},
		// Tools of another family on a Debian machine, and the other way round.
		{debian, "/var/lib/dpkg/status /usr/bin/dpkg /usr/bin/apt-get /var/lib/rpm/x /usr/bin/rpm /usr/bin/dnf", "apt"},
		{rocky, "/var/lib/dpkg/status /usr/bin/dpkg /usr/bin/apt-get /var/lib/rpm/x /usr/bin/rpm /usr/bin/dnf /usr/bin/yum", "dnf"},
		{rocky, "/usr/lib/sysimage/rpm/x /usr/bin/rpm /usr/bin/dnf-3", "dnf"},
		{"NAME=Fedora\n", "/usr/lib/sysimage/rpm/x /usr/bin/rpm /usr/bin/dnf /usr/bin/dnf5", "dnf 5"},
		{amazon, "/var/lib/rpm/x /usr/bin/rpm /usr/bin/yum", "yum"},
		{suse, "/var/lib/rpm/x /usr/bin/rpm /usr/bin/zypper /usr/bin/dnf", "zypper"},
		{"NAME=Alpine\n", "/sbin/apk", ""},
	} {
		root := t.TempDir()
		put(t, root, "/etc/os-release", c.release)
		for file := range strings.FieldsSeq(c.files) {
			put(t, root, file, "")
		}
		if got := kindOf(root); got != c.want {
			t.Errorf("%s with %s: %q, want %q", strings.TrimSpace(c.release), c.files, got, c.want)
		}
		m, err := ManagerOf(Setup{Root: root})
		if (m == nil) != (err != nil) || err != nil && !errors.Is(err, ErrNoManager) {
			t.Errorf("%q: %v, %v", c.want, m, err)
		}
	}
}
