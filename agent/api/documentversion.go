package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/uuid"

	"fleetmesh/executor/document"
	"fleetmesh/raftstore"
)

// MaxDocuments and MaxDocumentVersions are Systems Manager's quotas. More versions
// could not be deleted in one transaction.
const (
	MaxDocuments        = 500
	MaxDocumentVersions = 1000
)

const (
	// maxListedDescription is how many characters of a description lists keep.
	maxListedDescription = 1000
	// maxRunnable bounds the JSON that a content comes to, in bytes: it goes into each
	// command's record (raftstore.MaxTxnSize), and aliases of YAML can make it large.
	maxRunnable = 2 * maxDocumentSize
)

// reservedNames begin the names of AWS's own documents, and of the mesh's, in
// whatever case.
var reservedNames = []string{"aws", "amazon", "amzn", "fleetmesh-"}

// newVersion is what a request gives for a version.
type newVersion struct {
	content                          string
	format                           types.DocumentFormat
	versionName, display, targetType *string
	attachments                      []types.AttachmentsSource
}

// check validates the content for a document of the type, which may be "" as in a
// request, and makes a version of it, without number.
func (n *newVersion) check(docType string) (raftstore.DocumentVersion, error) {
	var v raftstore.DocumentVersion
	if len(n.attachments) > 0 {
		return v, refuse(codeValidation, "This version of the mesh keeps no attachments, so nothing is created. Leave out Attachments.")
	}
	if len(n.content) > maxDocumentSize {
		return v, refuse(codeDocumentSize, "The content has %d bytes; the limit of a document is %d.", len(n.content), maxDocumentSize)
	}
	format := document.Format(n.format)
	if format == "" {
		format = document.JSON
	}
	content := []byte(n.content)
	summary, err := document.Validate(content, format, docType)
	if err != nil {
		return v, documentRefusal(err)
	}
	if docType == "" || docType == string(types.DocumentTypeCommand) {
		if _, err := runnable(content, format); err != nil {
			return v, err
		}
	}
	sum := sha256.Sum256(content)
	return raftstore.DocumentVersion{
		VersionName: aws.ToString(n.versionName), DisplayName: aws.ToString(n.display), TargetType: aws.ToString(n.targetType),
		Format: string(format), SHA256: hex.EncodeToString(sum[:]), SchemaVersion: summary.SchemaVersion,
		Description: firstCharacters(summary.Description, maxListedDescription), PlatformTypes: summary.PlatformTypes,
	}, nil
}

// documentRefusal gives an error of executor/document its name on the wire.
func documentRefusal(err error) error {
	var refused *document.Error
	if errors.As(err, &refused) {
		return refuse(refused.Code, "%s", refused.Error())
	}
	return err
}

// runnable is a Command document's content as commands carry it: compact JSON.
func runnable(content []byte, format document.Format) (json.RawMessage, error) {
	if format != document.JSON {
		var err error
		if content, err = document.Convert(content, format, document.JSON); err != nil {
			return nil, documentRefusal(err)
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, content); err != nil {
		return nil, refuse(document.CodeInvalidContent, "The content is not JSON that every program reads: %s.", err)
	}
	if compact.Len() > maxRunnable {
		return nil, refuse(codeDocumentSize, "The content comes to %d bytes of JSON; the limit is %d. Use fewer aliases.", compact.Len(), maxRunnable)
	}
	return compact.Bytes(), nil
}

func (c *call) createDocument(in *ssm.CreateDocumentInput) (*ssm.CreateDocumentOutput, error) {
	name := aws.ToString(in.Name)
	for _, prefix := range reservedNames {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return nil, refuse(codeValidation, "The document name %q is not allowed: names that begin with %s are reserved for documents of %s.", name, prefix, builtInOwner)
		}
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if err := checkTagKeys(tags, "document"); err != nil {
		return nil, err
	}
	switch _, err := raftstore.GetDocument(c, name); {
	case err == nil:
		return nil, refuse("DocumentAlreadyExists", "The specified document already exists: %s. UpdateDocument makes a new version of it.", name)
	case !errors.Is(err, raftstore.ErrNotFound):
		return nil, err
	}
	content := newVersion{
		content: aws.ToString(in.Content), format: in.DocumentFormat, versionName: in.VersionName,
		display: in.DisplayName, targetType: in.TargetType, attachments: in.Attachments,
	}
	version, err := content.check(string(in.DocumentType))
	if err != nil {
		return nil, err
	}
	docType := string(in.DocumentType)
	if docType == "" {
		docType = string(types.DocumentTypeCommand) // the only type that may be left out
	}
	count, err := raftstore.CountDocuments(c)
	if err != nil {
		return nil, fmt.Errorf("count the documents: %w", err)
	}
	if count.Documents >= c.face.cfg.Documents {
		return nil, refuse("DocumentLimitExceeded", "The mesh has %d documents, as many as it may have. Delete some (DeleteDocument), or raise the setting document-limit.", count.Documents)
	}
	c.txn.PutDocumentCount(count)
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head := raftstore.Document{Name: name, ID: uuid.NewString(), Type: docType, CreatedAt: c.now, Caller: c.who.name, DefaultVersion: 1, Tags: tags}
	version.Requires = c.member("Requires")
	described, err := c.addVersion(head, version, []byte(content.content), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	described.Status = types.DocumentStatusCreating
	return &ssm.CreateDocumentOutput{DocumentDescription: described}, nil
}

// member returns a member of the request as it came; nil when it is not there.
func (c *call) member(name string) json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(c.in.Body, &members); err != nil {
		return nil // cannot be: the body was decoded
	}
	return members[name]
}

// addVersion writes a document with a new version, which becomes the latest.
func (c *call) addVersion(head raftstore.Document, version raftstore.DocumentVersion, content []byte, owner string) (*types.DocumentDescription, error) {
	head.LastVersion++
	head.LatestVersion = head.LastVersion
	version.DocumentID, version.Number, version.CreatedAt, version.Caller = head.ID, head.LastVersion, c.now, c.who.name
	c.txn.PutDocument(head)
	c.txn.PutNewDocumentVersion(version, content)
	c.resource = head.Name
	return (&oneDocument{head: head, version: version, owner: owner, content: content}).describe()
}

func (c *call) updateDocument(in *ssm.UpdateDocumentInput) (*ssm.UpdateDocumentOutput, error) {
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(aws.ToString(in.Name), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	if based := aws.ToString(in.DocumentVersion); based != "" {
		if number, ok := numberOf(head, based); !ok || number != head.LatestVersion {
			return nil, refuse(codeInvalidDocumentVersion, "Version provided for document %s is not latest. The latest is %d: look at it and give that number, or $LATEST.", head.Name, head.LatestVersion)
		}
	}
	versions, err := raftstore.DocumentVersions(c, head.ID)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("the document %s has no version", head.Name)
	}
	latest := versions[len(versions)-1]
	content := newVersion{
		content: aws.ToString(in.Content), format: in.DocumentFormat, versionName: in.VersionName,
		display: in.DisplayName, targetType: in.TargetType, attachments: in.Attachments,
	}
	version, err := content.check(head.Type)
	if err != nil {
		return nil, err
	}
	for _, schema := range []string{latest.SchemaVersion, version.SchemaVersion} {
		if head.Type == string(types.DocumentTypeCommand) && strings.HasPrefix(schema, "1.") {
			return nil, refuse(codeInvalidDocumentSchema, "Documents of schema version %s have one version only: create a document of another name, or of schema version 2.2.", schema)
		}
	}
	named := func(v raftstore.DocumentVersion) bool { return v.VersionName == version.VersionName }
	switch {
	case version.SHA256 == latest.SHA256:
		return nil, refuse("DuplicateDocumentContent", "The content is that of the latest version of the document %s, %d. Change the content, or keep that version.", head.Name, latest.Number)
	case version.VersionName != "" && slices.ContainsFunc(versions, named):
		return nil, refuse("DuplicateDocumentVersionName", "The version name %q has already been used in the document %s. Give another one.", version.VersionName, head.Name)
	case len(versions) >= c.face.cfg.DocumentVersions:
		return nil, refuse("DocumentVersionLimitExceeded", "The document %s has %d versions, as many as it may have. Delete some (DeleteDocument with DocumentVersion).", head.Name, len(versions))
	}
	if in.DisplayName == nil {
		version.DisplayName = latest.DisplayName
	}
	if in.TargetType == nil {
		version.TargetType = latest.TargetType
	}
	version.Requires = latest.Requires
	described, err := c.addVersion(head, version, []byte(content.content), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	described.Status = types.DocumentStatusUpdating
	return &ssm.UpdateDocumentOutput{DocumentDescription: described}, nil
}

func (c *call) updateDocumentDefaultVersion(in *ssm.UpdateDocumentDefaultVersionInput) (*ssm.UpdateDocumentDefaultVersionOutput, error) {
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(aws.ToString(in.Name), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	number, err := c.versionNumber(head, aws.ToString(in.DocumentVersion), "")
	if err != nil {
		return nil, err
	}
	version, err := raftstore.GetDocumentVersion(c, head.ID, number)
	if err != nil {
		return nil, err
	}
	if head.DefaultVersion != number {
		head.DefaultVersion = number
		c.txn.PutDocument(head)
		c.resource = head.Name
	}
	return &ssm.UpdateDocumentDefaultVersionOutput{Description: &types.DocumentDefaultVersionDescription{
		Name: &head.Name, DefaultVersion: aws.String(strconv.Itoa(number)), DefaultVersionName: optional(version.VersionName),
	}}, nil
}

// deleteDocument deletes a document or one version of it. Commands keep what they
// run, so none is touched.
func (c *call) deleteDocument(in *ssm.DeleteDocumentInput) (*ssm.DeleteDocumentOutput, error) {
	mesh, err := c.readMesh()
	if err != nil {
		return nil, err
	}
	head, err := c.ownDocument(aws.ToString(in.Name), mesh.AccountID)
	if err != nil {
		return nil, err
	}
	versions, err := raftstore.DocumentVersions(c, head.ID)
	if err != nil {
		return nil, err
	}
	c.resource = head.Name
	if aws.ToString(in.DocumentVersion) != "" || aws.ToString(in.VersionName) != "" {
		return &ssm.DeleteDocumentOutput{}, c.deleteVersion(head, versions, aws.ToString(in.DocumentVersion), aws.ToString(in.VersionName))
	}
	switch {
	case len(head.Shares) > 0:
		return nil, refuse(codeInvalidDocumentOperation, "The document %s is shared with %s. End that first (ModifyDocumentPermission with AccountIdsToRemove).", head.Name, shareNames(head.Shares))
	case head.Type == string(types.DocumentTypeApplicationConfigurationSchema) && !in.Force:
		return nil, refuse(codeInvalidDocumentOperation, "Documents of type %s are deleted with Force only: configurations may be checked by them.", head.Type)
	}
	if err := c.checkNotAssociated(head.Name); err != nil {
		return nil, err
	}
	for _, v := range versions {
		c.txn.DeleteDocumentVersion(head.ID, v.Number)
	}
	c.txn.DeleteDocument(head)
	return &ssm.DeleteDocumentOutput{}, nil
}

// deleteVersion deletes one version; the newest that is left is the latest then.
func (c *call) deleteVersion(head raftstore.Document, versions []raftstore.DocumentVersion, version, versionName string) error {
	number, err := chooseVersion(head, versions, version, versionName)
	if err != nil {
		return err
	}
	if number == head.DefaultVersion {
		return refuse(codeInvalidDocumentOperation, "Version %d is the default of the document %s and cannot be deleted alone: make another one the default first (UpdateDocumentDefaultVersion), or delete the whole document.", number, head.Name)
	}
	head.LatestVersion = 0
	for _, v := range versions {
		if v.Number != number {
			head.LatestVersion = v.Number
		}
	}
	c.txn.DeleteDocumentVersion(head.ID, number)
	c.txn.PutDocument(head)
	return nil
}

func (c *call) listDocumentVersions(in *ssm.ListDocumentVersionsInput) (*ssm.ListDocumentVersionsOutput, error) {
	d, err := c.findDocument(aws.ToString(in.Name), "", "")
	if err != nil {
		return nil, err
	}
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	versions := []raftstore.DocumentVersion{d.version}
	if !d.builtIn() {
		if versions, err = raftstore.DocumentVersions(c, d.head.ID); err != nil {
			return nil, err
		}
	}
	slices.Reverse(versions) // the newest first
	if from, err := strconv.Atoi(start); err == nil {
		versions = slices.DeleteFunc(versions, func(v raftstore.DocumentVersion) bool { return v.Number > from })
	}
	out := &ssm.ListDocumentVersionsOutput{DocumentVersions: []types.DocumentVersionInfo{}}
	for i, v := range versions {
		if i == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, strconv.Itoa(v.Number))
			return out, err
		}
		d.version = v
		out.DocumentVersions = append(out.DocumentVersions, types.DocumentVersionInfo{
			Name: &d.head.Name, DocumentVersion: d.number(), VersionName: optional(v.VersionName), DisplayName: optional(v.DisplayName),
			CreatedDate: &v.CreatedAt, DocumentFormat: types.DocumentFormat(v.Format), IsDefaultVersion: d.isDefault(), Status: types.DocumentStatusActive,
		})
	}
	return out, nil
}

// maskContent is a document's request without its content, which may be large and
// is kept: the audit log has its hash.
func maskContent(body []byte) json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil
	}
	var content string
	if err := json.Unmarshal(members["Content"], &content); err != nil {
		return nil
	}
	sum := sha256.Sum256([]byte(content))
	shown, err := json.Marshal("sha256:" + hex.EncodeToString(sum[:]))
	if err != nil {
		return nil
	}
	members["Content"] = shown
	masked, err := json.Marshal(members)
	if err != nil || !utf8.Valid(masked) {
		return nil
	}
	return masked
}
