package patcher

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// PropertyValues are the values of a property for an operating system, as
// DescribePatchProperties lists them; set distinguishes Windows' products of the
// system from applications. Nothing where the system has no such property.
func PropertyValues(os types.OperatingSystem, property types.PatchProperty, set types.PatchSet) []string {
	if os == types.OperatingSystemWindows && set == types.PatchSetApplication {
		return slices.Clone(applicationProperties[property])
	}
	return slices.Clone(properties[os][property])
}

// Properties are the properties that an operating system has.
func Properties(os types.OperatingSystem) []types.PatchProperty {
	var names []types.PatchProperty
	for _, p := range types.PatchProperty("").Values() {
		if len(properties[os][p]) > 0 {
			names = append(names, p)
		}
	}
	return names
}

// FilterKeys are the filters that rules of an operating system may have. SECTION is
// not among the properties: its values are free.
func FilterKeys(os types.OperatingSystem) []types.PatchFilterKey {
	switch familyOf(OperatingSystem(os), "") {
	case aptFamily:
		return []types.PatchFilterKey{types.PatchFilterKeyProduct, types.PatchFilterKeyPriority, types.PatchFilterKeySection}
	case yumFamily, zypperFamily:
		return []types.PatchFilterKey{types.PatchFilterKeyProduct, types.PatchFilterKeyClassification, types.PatchFilterKeySeverity}
	}
	if os == types.OperatingSystemMacOS {
		return []types.PatchFilterKey{types.PatchFilterKeyProduct, types.PatchFilterKeyClassification}
	}
	return []types.PatchFilterKey{types.PatchFilterKeyPatchSet, types.PatchFilterKeyProduct, types.PatchFilterKeyProductFamily,
		types.PatchFilterKeyClassification, types.PatchFilterKeyMsrcSeverity}
}

func hasValue(values []string, v string) bool { return slices.Contains(values, v) }

// knownValue: value is one of the property's. Products of systems that still get
// releases are told by their form too, so that a baseline can name the next one.
func knownValue(os types.OperatingSystem, property types.PatchProperty, value string) bool {
	if value == "*" || hasValue(properties[os][property], value) {
		return true
	}
	if os == types.OperatingSystemWindows && hasValue(applicationProperties[property], value) {
		return true
	}
	form := productForms[os]
	return property == types.PatchPropertyProduct && form != nil && form.MatchString(value)
}

// productForms are the products of a system by form: RockyLinux9, RockyLinux9.4 and,
// for all minor versions, RockyLinux9.*.
var productForms = map[types.OperatingSystem]*regexp.Regexp{
	types.OperatingSystemRedhatEnterpriseLinux: regexp.MustCompile(`^RedhatEnterpriseLinux\d+(\.(\d+|\*))?$`),
	types.OperatingSystemRockyLinux:            regexp.MustCompile(`^RockyLinux\d+(\.(\d+|\*))?$`),
	types.OperatingSystemAlmaLinux:             regexp.MustCompile(`^AlmaLinux\d+(\.(\d+|\*))?$`),
	types.OperatingSystemOracleLinux:           regexp.MustCompile(`^OracleLinux\d+(\.(\d+|\*))?$`),
	types.OperatingSystemCentOS:                regexp.MustCompile(`^CentOS(Stream)?\d+(\.(\d+|\*))?$`),
	types.OperatingSystemSuse:                  regexp.MustCompile(`^(Suse|OpenSuse|OpensuseLeap|OpensuseTumbleweed)\d+(\.(\d+|\*))?$`),
	types.OperatingSystemDebian:                regexp.MustCompile(`^Debian\d+(\.(\d+|\*))?$`),
	types.OperatingSystemRaspbian:              regexp.MustCompile(`^Raspbian\d+(\.(\d+|\*))?$`),
	types.OperatingSystemUbuntu:                regexp.MustCompile(`^Ubuntu\d\d\.\d\d$`),
	types.OperatingSystemMacOS:                 regexp.MustCompile(`^MacOS\d+(\.\d+)?(\.(\d+|x|\*))?$`),
	types.OperatingSystemWindows:               regexp.MustCompile(`^Windows(Server)?\d+(R2)?(\.\d+)?[A-Za-z0-9]*$`),
}

// rpmClassifications are the types of notices in updateinfo.
var rpmClassifications = []string{"Security", "Bugfix", "Enhancement", "Recommended", "Newpackage"}

var rpmSeverities = []string{"Critical", "Important", "Moderate", "Low", "None"}

var aptPriorities = []string{"Required", "Important", "Standard", "Optional", "Extra"}

// properties are what SSM lists; they are never changed.
var properties = map[types.OperatingSystem]map[types.PatchProperty][]string{
	types.OperatingSystemAmazonLinux: {
		types.PatchPropertyProduct: strings.Fields("AmazonLinux2012.03 AmazonLinux2012.09 AmazonLinux2013.03 AmazonLinux2013.09 " +
			"AmazonLinux2014.03 AmazonLinux2014.09 AmazonLinux2015.03 AmazonLinux2015.09 AmazonLinux2016.03 AmazonLinux2016.09 " +
			"AmazonLinux2017.03 AmazonLinux2017.09 AmazonLinux2018.03"),
		types.PatchPropertyPatchClassification: rpmClassifications,
		types.PatchPropertyPatchSeverity:       {"Critical", "Important", "Medium", "Low"},
	},
	types.OperatingSystemAmazonLinux2: {
		types.PatchPropertyProduct:             {"AmazonLinux2", "AmazonLinux2.0"},
		types.PatchPropertyPatchClassification: rpmClassifications,
		types.PatchPropertyPatchSeverity:       {"Critical", "Important", "Medium", "Low"},
	},
	types.OperatingSystemAmazonLinux2022: {
		types.PatchPropertyProduct:             {"AmazonLinux2022"},
		types.PatchPropertyPatchClassification: rpmClassifications,
		types.PatchPropertyPatchSeverity:       {"Critical", "Important", "Medium", "Low", "None"},
	},
	types.OperatingSystemAmazonLinux2023: {
		types.PatchPropertyProduct:             {"AmazonLinux2023"},
		types.PatchPropertyPatchClassification: rpmClassifications,
		types.PatchPropertyPatchSeverity:       {"Critical", "Important", "Medium", "Low", "None"},
	},
	types.OperatingSystemRedhatEnterpriseLinux: rpmProperties(releases("RedhatEnterpriseLinux", 6, 5, 10, 7, 0, 9, 8, 0, 10, 9, 0, 8, 10, 0, 2)),
	types.OperatingSystemRockyLinux:            rpmProperties(releases("RockyLinux", 8, 4, 10, 9, 0, 7, 10, 0, 1)),
	types.OperatingSystemAlmaLinux:             rpmProperties(releases("AlmaLinux", 8, 3, 10, 9, 0, 7, 10, 0, 1)),
	types.OperatingSystemOracleLinux:           rpmProperties(releases("OracleLinux", 7, 0, 9, 8, 0, 10, 9, 0, 7, 10, 0, 1)),
	types.OperatingSystemCentOS:                rpmProperties(releases("CentOS", 6, 5, 10, 7, 0, 9, 8, 0, 5, 9, 0, -1, 10, 0, -1)),
	types.OperatingSystemSuse: {
		types.PatchPropertyProduct:             releases("Suse", 12, 0, 5, 15, 0, 7, 16, 0, 0),
		types.PatchPropertyPatchClassification: {"Security", "Recommended", "Optional", "Feature", "Document", "Yast"},
		types.PatchPropertyPatchSeverity:       {"Critical", "Important", "Moderate", "Low"},
	},
	types.OperatingSystemDebian: {
		types.PatchPropertyProduct:       strings.Fields("Debian8 Debian9 Debian10 Debian11 Debian12 Debian13"),
		types.PatchPropertyPatchPriority: aptPriorities,
	},
	types.OperatingSystemUbuntu: {
		types.PatchPropertyProduct: strings.Fields("Ubuntu14.04 Ubuntu16.04 Ubuntu18.04 Ubuntu20.04 Ubuntu20.10 Ubuntu22.04 " +
			"Ubuntu23.04 Ubuntu23.10 Ubuntu24.04 Ubuntu24.10 Ubuntu25.04"),
		types.PatchPropertyPatchPriority: aptPriorities,
	},
	types.OperatingSystemRaspbian: {
		types.PatchPropertyProduct:       strings.Fields("Raspbian9 Raspbian10 Raspbian11 Raspbian12"),
		types.PatchPropertyPatchPriority: aptPriorities,
	},
	types.OperatingSystemMacOS: {
		types.PatchPropertyProduct:             strings.Fields("MacOS10.14.x MacOS10.15.x MacOS11.x MacOS12.x MacOS13.x MacOS14.x MacOS15.x"),
		types.PatchPropertyPatchClassification: {"softwareupdate", "installer", "brew", "brew_cask"},
	},
	types.OperatingSystemWindows: {
		types.PatchPropertyProduct: strings.Fields("Windows7 Windows8 Windows8.1 Windows8Embedded Windows10 Windows10LTSB Windows11 " +
			"WindowsServer2008 WindowsServer2008R2 WindowsServer2012 WindowsServer2012R2 WindowsServer2016 WindowsServer2019 " +
			"WindowsServer2022 WindowsServer2025"),
		types.PatchPropertyPatchProductFamily: {"Windows"},
		types.PatchPropertyPatchClassification: strings.Fields("CriticalUpdates SecurityUpdates DefinitionUpdates Drivers FeaturePacks " +
			"ServicePacks Tools UpdateRollups Updates Upgrades"),
		types.PatchPropertyPatchMsrcSeverity: {"Critical", "Important", "Moderate", "Low", "Unspecified"},
	},
}

// applicationProperties are those of Microsoft's applications on Windows.
var applicationProperties = map[types.PatchProperty][]string{
	types.PatchPropertyProduct: {"Active Directory Rights Management Services Client 2.0", "Exchange Server 2016", "Exchange Server 2019",
		"Microsoft SQL Server 2016", "Microsoft SQL Server 2017", "Microsoft SQL Server 2019", "Microsoft SQL Server 2022",
		"Office 2010", "Office 2013", "Office 2016", "Office 2019", "SharePoint Server 2016", "SharePoint Server 2019"},
	types.PatchPropertyPatchProductFamily:  {"Active Directory", "Exchange", "Office", "SharePoint", "SQL Server"},
	types.PatchPropertyPatchClassification: properties[types.OperatingSystemWindows][types.PatchPropertyPatchClassification],
	types.PatchPropertyPatchMsrcSeverity:   properties[types.OperatingSystemWindows][types.PatchPropertyPatchMsrcSeverity],
}

func rpmProperties(products []string) map[types.PatchProperty][]string {
	return map[types.PatchProperty][]string{
		types.PatchPropertyProduct:             products,
		types.PatchPropertyPatchClassification: rpmClassifications,
		types.PatchPropertyPatchSeverity:       rpmSeverities,
	}
}

// releases lists the products of name: of each major version itself and its minor
// ones from first to last; spans are triples of major, first, last.
func releases(name string, spans ...int) []string {
	var products []string
	for ; len(spans) >= 3; spans = spans[3:] {
		major := name + strconv.Itoa(spans[0])
		products = append(products, major)
		for minor := spans[1]; minor <= spans[2]; minor++ {
			products = append(products, major+"."+strconv.Itoa(minor))
		}
	}
	return products
}
