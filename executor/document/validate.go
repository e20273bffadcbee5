package document

import (
	"fmt"
	"slices"
	"strings"
)

// Format is how a document's content is written.
type Format string

// Formats of SSM's DocumentFormat.
const (
	JSON Format = "JSON"
	YAML Format = "YAML"
	TEXT Format = "TEXT"
)

// SSM's document types that are more than stored.
const (
	typeCommand        = "Command"
	typePolicy         = "Policy"
	typeAutomation     = "Automation"
	typeChangeTemplate = "Automation.ChangeTemplate"
	typeSession        = "Session"
	typeCalendar       = "ChangeCalendar"
	typeCloudFormation = "CloudFormation"
	typeConfiguration  = "ApplicationConfiguration"
	typeSchema         = "ApplicationConfigurationSchema"
)

// Types are all of SSM's DocumentType.
var Types = []string{
	typeCommand, typePolicy, typeAutomation, typeSession, "Package", typeConfiguration, typeSchema, "DeploymentStrategy", typeCalendar,
	typeChangeTemplate, "ProblemAnalysis", "ProblemAnalysisTemplate", typeCloudFormation, "ConformancePackTemplate", "QuickSetup",
	"ManualApprovalPolicy", "AutoApprovalPolicy",
}

// schemas are the schema versions of the types that have them.
var schemas = map[string][]string{
	typeCommand:        {"1.0", "1.2", "2.0", "2.2"},
	typePolicy:         {"2.0", "2.2"},
	typeAutomation:     {"0.3"},
	typeChangeTemplate: {"0.3"},
	typeSession:        {"1.0"},
}

// agentSchemas are those of Command documents that SSM's agent knows.
var agentSchemas = []string{"1.0", "1.2", "2.0", "2.0.1", "2.0.2", "2.0.3", "2.2"}

// Summary is what DescribeDocument and ListDocuments show of a content.
type Summary struct {
	SchemaVersion string // "" for types that have none
	Description   string
	Parameters    []SummaryParameter // in the document's order
	// PlatformTypes are those of Windows, Linux and MacOS on which it can run; nil
	// for types that do not run.
	PlatformTypes []string
}

// SummaryParameter is a parameter as DescribeDocument lists it.
type SummaryParameter struct {
	Name        string
	Type        string // String or StringList: SSM lists every other type as String
	Description string
	// Default is nil for a required parameter; other values than strings are
	// compact JSON.
	Default *string
}

// Validate checks the content of a document of the type (SSM's DocumentType) as
// SSM does when the document is created. Where no type is given, "", the schema
// version must be one of those that only Command documents of old have. The error
// is an *Error.
func Validate(content []byte, format Format, docType string) (*Summary, error) {
	if docType != "" && !slices.Contains(Types, docType) {
		return nil, &Error{Code: CodeInvalidContent, Message: fmt.Sprintf("There is no document type %s: it is one of %s.", docType, strings.Join(Types, ", "))}
	}
	if docType == typeCalendar || docType == typeConfiguration && format == TEXT {
		return validateText(content, format, docType)
	}
	root, err := parse(content, format)
	if err != nil {
		return nil, err
	}
	c := &checker{docType: docType}
	if docType == "" {
		c.docType = typeCommand
	}
	versions, checked := schemas[c.docType]
	if !checked {
		return validateOther(root, docType)
	}
	if err := c.version(root, versions); err != nil {
		return nil, err
	}
	if docType == "" && c.SchemaVersion[0] != '1' {
		return nil, &Error{Code: CodeInvalidSchemaVersion, Message: fmt.Sprintf("Document type is required for schema version %s", c.SchemaVersion)}
	}
	platforms := platformNames
	switch c.docType {
	case typeCommand, typePolicy:
		err = c.command(root)
		platforms = c.Platforms()
	case typeAutomation, typeChangeTemplate:
		err = c.automation(root)
	case typeSession:
		err = c.session(root)
	}
	if err != nil {
		return nil, err
	}
	if c.docType == typeChangeTemplate {
		platforms = nil
	}
	return c.summary(platforms), nil
}

// version reads the schema version, which must be one of versions.
func (c *checker) version(root *node, versions []string) error {
	if root.kind != '{' {
		return root.errorf("The document is not an object.")
	}
	version := root.field("schemaVersion")
	switch {
	case version == nil:
		return root.errorf(`Missing "schemaVersion" in the document.`)
	case version.kind != '"':
		return version.errorf("schemaVersion should be String")
	}
	c.SchemaVersion = version.text
	if slices.Contains(versions, version.text) {
		return nil
	}
	for _, other := range schemas {
		if slices.Contains(other, version.text) {
			return &Error{
				Code: CodeInvalidSchemaVersion, Message: fmt.Sprintf("%s is not a valid schema version for %s document type", version.text, c.docType),
				Line: version.line, Column: version.column,
			}
		}
	}
	return version.errorf("Document schema version is invalid. Value: %s", version.text)
}

func (d *Document) summary(platforms []string) *Summary {
	s := &Summary{SchemaVersion: d.SchemaVersion, Description: d.Description, PlatformTypes: slices.Clone(platforms)}
	for i := range d.Parameters {
		p := &d.Parameters[i]
		shown := SummaryParameter{Name: p.Name, Type: TypeString, Description: p.Description}
		if p.Type == TypeStringList {
			shown.Type = TypeStringList
		}
		if p.Default != nil {
			text := p.DefaultText()
			shown.Default = &text
		}
		s.Parameters = append(s.Parameters, shown)
	}
	return s
}
