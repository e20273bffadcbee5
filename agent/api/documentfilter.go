package api

import (
	"cmp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor/document"
	"fleetmesh/raftstore"
)

// documentFilter is one filter of ListDocuments, whichever list it came in.
type documentFilter struct {
	key    string
	values []string
}

const (
	codeInvalidFilterValue = "InvalidFilterValue"

	documentFilterTag = "tag:"
)

// documentOwners are the values of the filter Owner. The built-in documents are
// Amazon's, and public; the mesh's own are private until they are shared with all.
var documentOwners = []string{"Self", builtInOwner, "Public", "Private", "ThirdParty", "All"}

func parseDocumentFilters(in *ssm.ListDocumentsInput) ([]documentFilter, error) {
	if len(in.DocumentFilterList) > 0 && len(in.Filters) > 0 {
		return nil, refuse(codeValidation, "DocumentFilterList and Filters exclude each other: give one of them.")
	}
	var filters []documentFilter
	for _, f := range in.DocumentFilterList {
		filters = append(filters, documentFilter{key: string(f.Key), values: []string{aws.ToString(f.Value)}})
	}
	for _, f := range in.Filters {
		filters = append(filters, documentFilter{key: aws.ToString(f.Key), values: f.Values})
	}
	for _, f := range filters {
		switch {
		case len(f.values) == 0:
			return nil, refuse(codeInvalidFilterValue, "The filter %s has no values.", f.key)
		case f.key == "Owner":
			if len(f.values) > 1 || !slices.Contains(documentOwners, f.values[0]) {
				return nil, refuse(codeInvalidFilterValue, "The filter Owner has one value of %s.", strings.Join(documentOwners, ", "))
			}
		case f.key == "PlatformTypes":
			if wrong := f.otherThan(documentPlatforms); wrong != "" {
				return nil, refuse(codeInvalidFilterValue, "The filter value %q is no platform: use %s.", wrong, strings.Join(documentPlatforms, ", "))
			}
		case f.key == "DocumentType":
			if wrong := f.otherThan(document.Types); wrong != "" {
				return nil, refuse(codeInvalidFilterValue, "The filter value %q is no document type: use one of %s.", wrong, strings.Join(document.Types, ", "))
			}
		case f.key == "Name", f.key == "TargetType", f.key == "SearchKeyword":
		case strings.HasPrefix(f.key, documentFilterTag) && len(f.key) > len(documentFilterTag):
		default:
			return nil, refuse(codeInvalidFilterKey, "The specified filter key %q isn't valid: use Name, Owner, PlatformTypes, DocumentType, TargetType, SearchKeyword or tag:KEY.", f.key)
		}
	}
	return filters, nil
}

// documentPlatforms are the values of the filter PlatformTypes, in any case.
var documentPlatforms = []string{string(types.PlatformTypeWindows), string(types.PlatformTypeLinux), string(types.PlatformTypeMacos)}

// otherThan is the first value that is none of known, in any case.
func (f documentFilter) otherThan(known []string) string {
	for _, value := range f.values {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, value) }) {
			return cmp.Or(value, `""`)
		}
	}
	return ""
}

// matches reports whether a document passes, by its default version.
func (f documentFilter) matches(d *oneDocument) bool {
	return slices.ContainsFunc(f.values, func(value string) bool { return f.fits(d, value) })
}

func (f documentFilter) fits(d *oneDocument, value string) bool {
	switch f.key {
	case "Name":
		return strings.HasPrefix(d.head.Name, value)
	case "Owner":
		return ownerFits(d, value)
	case "PlatformTypes":
		return slices.ContainsFunc(d.version.PlatformTypes, func(p string) bool { return strings.EqualFold(p, value) })
	case "DocumentType":
		return strings.EqualFold(d.head.Type, value)
	case "TargetType":
		return d.version.TargetType == value
	case "SearchKeyword":
		text := strings.Join([]string{d.head.Name, d.version.DisplayName, d.version.Description}, "\n")
		return strings.Contains(strings.ToLower(text), strings.ToLower(value))
	}
	tag, there := d.head.Tags[strings.TrimPrefix(f.key, documentFilterTag)]
	return there && tag == value
}

func ownerFits(d *oneDocument, owner string) bool {
	public := d.builtIn() || slices.ContainsFunc(d.head.Shares, func(s raftstore.DocumentShare) bool { return s.AccountID == shareAll })
	switch owner {
	case "All":
		return true
	case "Self":
		return !d.builtIn()
	case "Public":
		return public
	case "Private":
		return !public
	}
	return owner == builtInOwner && d.builtIn()
}

func (c *call) listDocuments(in *ssm.ListDocumentsInput) (*ssm.ListDocumentsOutput, error) {
	filters, err := parseDocumentFilters(in)
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	out := &ssm.ListDocumentsOutput{DocumentIdentifiers: []types.DocumentIdentifier{}}
	next := ""
	err = c.scanDocuments(start, mesh.AccountID, func(d *oneDocument) (more bool, err error) {
		if slices.ContainsFunc(filters, func(f documentFilter) bool { return !f.matches(d) }) {
			return true, nil
		}
		if len(out.DocumentIdentifiers) == pageSize(in.MaxResults) {
			next = d.head.Name
			return false, nil
		}
		identifier, err := d.identify()
		out.DocumentIdentifiers = append(out.DocumentIdentifiers, identifier)
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	out.NextToken, err = c.nextPage(&bound, next)
	return out, err
}

// identify shows a document as lists do.
func (d *oneDocument) identify() (types.DocumentIdentifier, error) {
	requires, err := d.requires()
	return types.DocumentIdentifier{
		Name: &d.head.Name, Owner: &d.owner, CreatedDate: &d.head.CreatedAt, DocumentVersion: d.number(),
		VersionName: optional(d.version.VersionName), DisplayName: optional(d.version.DisplayName), TargetType: optional(d.version.TargetType),
		DocumentType: types.DocumentType(d.head.Type), DocumentFormat: types.DocumentFormat(d.version.Format),
		SchemaVersion: optional(d.version.SchemaVersion), PlatformTypes: platformTypes(d.version.PlatformTypes),
		Requires: requires, Tags: tagList(d.head.Tags),
	}, err
}

// scanDocuments calls fn for the default version, without its content, of each
// document with a name >= start, built in or not, in byte order of names.
func (c *call) scanDocuments(start, account string, fn func(*oneDocument) (more bool, err error)) error {
	builtIns := document.BuiltIns()
	slices.SortFunc(builtIns, func(a, b document.BuiltIn) int { return strings.Compare(a.Name, b.Name) })
	builtIns = slices.DeleteFunc(builtIns, func(b document.BuiltIn) bool { return b.Name < start })
	// builtInsBefore shows those with a name before the given one; "" is the end.
	builtInsBefore := func(name string) (more bool, err error) {
		for len(builtIns) > 0 && (name == "" || builtIns[0].Name < name) {
			d := builtInDocument(builtIns[0])
			builtIns = builtIns[1:]
			if more, err := fn(&d); !more || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	more := true
	var failed error
	err := raftstore.ScanDocuments(c, start, func(head raftstore.Document) bool {
		if more, failed = builtInsBefore(head.Name); !more || failed != nil {
			return false
		}
		d := oneDocument{head: head, owner: account}
		if d.version, failed = raftstore.GetDocumentVersion(c, head.ID, head.DefaultVersion); failed == nil {
			more, failed = fn(&d)
		}
		return more && failed == nil
	})
	if failed == nil {
		failed = err
	}
	if failed != nil || !more {
		return failed
	}
	_, err = builtInsBefore("")
	return err
}
