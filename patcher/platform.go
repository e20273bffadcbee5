package patcher

// OperatingSystem is SSM's word for a family of machines, types.OperatingSystem:
// DEBIAN, UBUNTU, REDHAT_ENTERPRISE_LINUX, SUSE …
type OperatingSystem string

// Platform is the machine as baselines speak of it.
type Platform struct {
	OperatingSystem OperatingSystem // "" where SSM has no word for it
	// Product is the value of the filter PRODUCT: Debian12, Ubuntu22.04,
	// RedhatEnterpriseLinux9.4, Suse15.6, AmazonLinux2023.
	Product  string
	Name     string // NAME of os-release
	Release  string // VERSION_ID of os-release
	Codename string // VERSION_CODENAME, where there is one
	Arch     string // the package manager's word: amd64, x86_64
	Kernel   string // that runs, as uname -r says
}
