package patcher

import "testing"

func TestOperatingSystemOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, version string
		want          OperatingSystem
	}{
		{"Debian GNU/Linux", "12", "DEBIAN"},
		{"Raspbian GNU/Linux", "11", "RASPBIAN"},
		{"Ubuntu", "22.04", "UBUNTU"},
		{"Amazon Linux AMI", "2018.03", "AMAZON_LINUX"},
		{"Amazon Linux", "2", "AMAZON_LINUX_2"},
		{"Amazon Linux", "2022", "AMAZON_LINUX_2022"},
		{"Amazon Linux", "2023", "AMAZON_LINUX_2023"},
		{"Amazon Linux", "2023.6", "AMAZON_LINUX_2023"},
		{"Red Hat Enterprise Linux Server", "7.9", "REDHAT_ENTERPRISE_LINUX"},
		{"Red Hat Enterprise Linux", "9.4", "REDHAT_ENTERPRISE_LINUX"},
		{"CentOS Stream", "9", "CENTOS"},
		{"CentOS Linux", "7", "CENTOS"},
		{"Oracle Linux Server", "8.9", "ORACLE_LINUX"},
		{"Rocky Linux", "9.4", "ROCKY_LINUX"},
		{"AlmaLinux", "9.4", "ALMA_LINUX"},
		{"SLES", "15.6", "SUSE"},
		{"SLES_SAP", "15.6", "SUSE"},
		{"openSUSE Leap", "15.6", "SUSE"},
		{"openSUSE Tumbleweed", "20260101", "SUSE"},
		{"Alpine Linux", "3.20", ""},
		{"", "", ""},
	} {
		if got := OperatingSystemOf(test.name, test.version); got != test.want {
			t.Errorf("%s %s is %q, want %q", test.name, test.version, got, test.want)
		}
	}
}
