package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor/document"
	"fleetmesh/internal/awsjson"
	"fleetmesh/raftstore"
)

const (
	// builtInOwner is how Systems Manager calls the owner of AWS-… documents.
	builtInOwner = "Amazon"

	versionDefault = "$DEFAULT"
	versionLatest  = "$LATEST"

	codeInvalidDocumentVersion   = "InvalidDocumentVersion"
	codeInvalidDocumentOperation = "InvalidDocumentOperation"
	codeInvalidDocumentSchema    = "InvalidDocumentSchemaVersion"
)

// oneDocument is a version of a document as operations show it: one of the
// mesh's own or a built-in one, which has a single version and is not to be changed.
type oneDocument struct {
	head    raftstore.Document
	version raftstore.DocumentVersion
	owner   string // the mesh's account, or Amazon
	content []byte // nil where only lists are concerned
}

func (d *oneDocument) builtIn() bool { return d.owner == builtInOwner }

// number is the version as the API writes it.
func (d *oneDocument) number() *string { return aws.String(strconv.Itoa(d.version.Number)) }

func (d *oneDocument) isDefault() bool { return d.version.Number == d.head.DefaultVersion }

func (d *oneDocument) format() document.Format { return document.Format(d.version.Format) }

// builtInDocument is a built-in document as if it were stored.
func builtInDocument(b document.BuiltIn) oneDocument {
	return oneDocument{
		owner: builtInOwner, content: b.Content,
		head: raftstore.Document{Name: b.Name, Type: b.DocumentType, CreatedAt: b.CreatedAt, LastVersion: 1, LatestVersion: 1, DefaultVersion: 1},
		version: raftstore.DocumentVersion{
			Number: 1, Format: string(document.JSON), SHA256: b.Hash, SchemaVersion: b.Document.SchemaVersion,
			Description: b.Document.Description, PlatformTypes: b.Document.Platforms(), CreatedAt: b.CreatedAt,
		},
	}
}

// parseDocumentName takes an ARN apart:
// arn:aws:ssm:<region>:<account, empty for AWS's own>:document/<name>.
func parseDocumentName(nameOrARN string) (name, account string, ok bool) {
	if !strings.HasPrefix(nameOrARN, "arn:") {
		return nameOrARN, "", true
	}
	parts := strings.SplitN(nameOrARN, ":", 6)
	if len(parts) != 6 || parts[2] != "ssm" {
		return nameOrARN, "", false
	}
	name, ok = strings.CutPrefix(parts[5], "document/")
	return name, parts[4], ok && name != ""
}

// documentNameOf returns the name in an ARN, and a plain name as it is.
func documentNameOf(nameOrARN string) string {
	name, _, _ := parseDocumentName(nameOrARN)
	return name
}

func noDocument(name string) error {
	return refuse(codeInvalidDocument, "The specified SSM document doesn't exist: there is no document %q. ListDocuments shows those that there are.", name)
}

// ownDocument returns one of the mesh's own documents, to change or to show it.
// An ARN must be of the mesh's account.
func (c *call) ownDocument(nameOrARN, account string) (raftstore.Document, error) {
	name, of, ok := parseDocumentName(nameOrARN)
	if !ok {
		return raftstore.Document{}, refuse(codeInvalidDocument, "%q is not the ARN of a document.", nameOrARN)
	}
	if _, builtIn := document.BuiltInByName(name); builtIn {
		return raftstore.Document{}, refuse(codeInvalidDocumentOperation, "The document %s is a part of the program and belongs to %s: it cannot be changed, deleted, tagged or shared. Create one of your own from its content (GetDocument).", name, builtInOwner)
	}
	if of != "" && of != account {
		return raftstore.Document{}, refuse(codeInvalidDocument, "There are no documents of account %s here: the mesh's is %s.", of, account)
	}
	head, err := raftstore.GetDocument(c, name)
	if errors.Is(err, raftstore.ErrNotFound) {
		return head, noDocument(name)
	}
	return head, err
}

// findDocument returns a version of a document: its number, $LATEST, $DEFAULT or
// nothing, or its name. Where both are given they must mean the same.
func (c *call) findDocument(nameOrARN, version, versionName string) (*oneDocument, error) {
	name, _, _ := parseDocumentName(nameOrARN)
	if b, ok := document.BuiltInByName(name); ok {
		found := builtInDocument(b)
		if _, err := chooseVersion(found.head, []raftstore.DocumentVersion{found.version}, version, versionName); err != nil {
			return nil, err
		}
		return &found, nil
	}
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(nameOrARN, mesh.AccountID)
	if err != nil {
		return nil, err
	}
	number, err := c.versionNumber(head, version, versionName)
	if err != nil {
		return nil, err
	}
	return c.readVersion(head, number, mesh.AccountID)
}

// readVersion reads a version that there is, with its content.
func (c *call) readVersion(head raftstore.Document, number int, owner string) (*oneDocument, error) {
	found := &oneDocument{head: head, owner: owner}
	var err error
	if found.version, err = raftstore.GetDocumentVersion(c, head.ID, number); err != nil {
		return nil, fmt.Errorf("read version %d of document %s: %w", number, head.Name, err)
	}
	if found.content, err = raftstore.GetDocumentContent(c, head.ID, number); err != nil {
		return nil, fmt.Errorf("read the content of version %d of document %s: %w", number, head.Name, err)
	}
	return found, nil
}

// versionNumber says which version is meant, reading as little as possible.
func (c *call) versionNumber(head raftstore.Document, version, versionName string) (int, error) {
	if versionName == "" {
		number, ok := numberOf(head, version)
		if ok && (number == head.DefaultVersion || number == head.LatestVersion) {
			return number, nil
		}
		if _, err := raftstore.GetDocumentVersion(c, head.ID, number); ok && err == nil {
			return number, nil
		} else if ok && !errors.Is(err, raftstore.ErrNotFound) {
			return 0, err
		}
	}
	versions, err := raftstore.DocumentVersions(c, head.ID)
	if err != nil {
		return 0, err
	}
	return chooseVersion(head, versions, version, versionName)
}

// numberOf translates a version as the API writes it.
func numberOf(head raftstore.Document, version string) (number int, ok bool) {
	switch version {
	case "", versionDefault:
		return head.DefaultVersion, true
	case versionLatest:
		return head.LatestVersion, true
	}
	number, err := strconv.Atoi(version)
	return number, err == nil
}

// chooseVersion returns the number of the version that is meant.
func chooseVersion(head raftstore.Document, versions []raftstore.DocumentVersion, version, versionName string) (int, error) {
	number, ok := numberOf(head, version)
	for _, v := range versions {
		switch {
		case versionName == "" && ok && v.Number == number:
			return number, nil
		case versionName != "" && v.VersionName == versionName && (version == "" || ok && v.Number == number):
			return v.Number, nil
		case versionName != "" && v.VersionName == versionName:
			return 0, refuse(codeInvalidDocumentVersion, "The version of the document %s with the name %q is %d, not %s: give one of them.", head.Name, versionName, v.Number, version)
		}
	}
	if versionName != "" {
		return 0, refuse(codeInvalidDocumentVersion, "The document %s has no version with the name %q. ListDocumentVersions shows its versions.", head.Name, versionName)
	}
	return 0, refuse(codeInvalidDocumentVersion, "The document %s has no version %s. ListDocumentVersions shows its versions.", head.Name, version)
}

func (c *call) getDocument(in *ssm.GetDocumentInput) (*ssm.GetDocumentOutput, error) {
	d, err := c.findDocument(aws.ToString(in.Name), aws.ToString(in.DocumentVersion), aws.ToString(in.VersionName))
	if err != nil {
		return nil, err
	}
	requires, err := d.requires()
	if err != nil {
		return nil, err
	}
	content, format, err := d.contentAs(document.Format(in.DocumentFormat))
	if err != nil {
		return nil, err
	}
	return &ssm.GetDocumentOutput{
		Name: &d.head.Name, DocumentVersion: d.number(), VersionName: optional(d.version.VersionName), DisplayName: optional(d.version.DisplayName),
		CreatedDate: &d.version.CreatedAt, DocumentType: types.DocumentType(d.head.Type), Requires: requires, Status: types.DocumentStatusActive,
		Content: aws.String(string(content)), DocumentFormat: types.DocumentFormat(format),
	}, nil
}

// contentAs returns the content in a format; "" is JSON, but for text.
func (d *oneDocument) contentAs(format document.Format) ([]byte, document.Format, error) {
	have := d.format()
	switch {
	case format == have, format == "" && have == document.TEXT:
		return d.content, have, nil
	case format == "":
		format = document.JSON
		if have == document.JSON {
			return d.content, have, nil
		}
	case have == document.TEXT:
		return nil, "", refuse(codeInvalidDocument, "The document %s is text: ask for the format TEXT.", d.head.Name)
	case format == document.TEXT:
		return nil, "", refuse(codeInvalidDocument, "The document %s is not a text document: ask for JSON or YAML.", d.head.Name)
	}
	content, err := document.Convert(d.content, have, format)
	if err != nil {
		return nil, "", fmt.Errorf("write the document %s as %s: %w", d.head.Name, format, err)
	}
	return content, format, nil
}

func (c *call) describeDocument(in *ssm.DescribeDocumentInput) (*ssm.DescribeDocumentOutput, error) {
	d, err := c.findDocument(aws.ToString(in.Name), aws.ToString(in.DocumentVersion), aws.ToString(in.VersionName))
	if err != nil {
		return nil, err
	}
	described, err := d.describe()
	if err != nil {
		return nil, err
	}
	return &ssm.DescribeDocumentOutput{Document: described}, nil
}

// describe shows a version in full. What it says of itself was checked when it
// was created; should this program not accept it any more, it is shown without.
func (d *oneDocument) describe() (*types.DocumentDescription, error) {
	requires, err := d.requires()
	if err != nil {
		return nil, err
	}
	out := &types.DocumentDescription{
		Name: &d.head.Name, Owner: &d.owner, Description: optional(d.version.Description),
		DisplayName: optional(d.version.DisplayName), VersionName: optional(d.version.VersionName), TargetType: optional(d.version.TargetType),
		Hash: &d.version.SHA256, HashType: types.DocumentHashTypeSha256, CreatedDate: &d.version.CreatedAt, Status: types.DocumentStatusActive,
		DocumentVersion: d.number(), LatestVersion: aws.String(strconv.Itoa(d.head.LatestVersion)), DefaultVersion: aws.String(strconv.Itoa(d.head.DefaultVersion)),
		DocumentType: types.DocumentType(d.head.Type), DocumentFormat: types.DocumentFormat(d.version.Format),
		SchemaVersion: optional(d.version.SchemaVersion), PlatformTypes: platformTypes(d.version.PlatformTypes),
		Requires: requires, Tags: tagList(d.head.Tags),
	}
	summary, err := document.Validate(d.content, d.format(), d.head.Type)
	if err != nil {
		return out, nil
	}
	out.Description = optional(summary.Description)
	for _, p := range summary.Parameters {
		out.Parameters = append(out.Parameters, types.DocumentParameter{
			Name: &p.Name, Type: types.DocumentParameterType(p.Type), Description: optional(p.Description), DefaultValue: p.Default,
		})
	}
	return out, nil
}

// requires decodes what the user sent.
func (d *oneDocument) requires() ([]types.DocumentRequires, error) {
	if len(d.version.Requires) == 0 {
		return nil, nil
	}
	var out []types.DocumentRequires
	if err := awsjson.Unmarshal(d.version.Requires, &out); err != nil {
		return nil, fmt.Errorf("read what version %d of document %s requires: %w", d.version.Number, d.head.Name, storeFault(err))
	}
	return out, nil
}

func platformTypes(platforms []string) []types.PlatformType {
	var out []types.PlatformType
	for _, platform := range platforms {
		out = append(out, types.PlatformType(platform))
	}
	return out
}
