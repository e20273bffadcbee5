package raftstore

import (
	"encoding/json"
	"fmt"
	"time"
)

// Document is a document of the mesh's own: what is common to its versions. Every
// change of a document, its versions included, writes this record, so that its
// modify index stands for the whole.
type Document struct {
	Meta
	Name string
	// ID, a UUID, is in the keys of the versions: a document that is made anew under
	// the name of a deleted one has none of its versions.
	ID        string
	Type      string // types.DocumentType
	CreatedAt time.Time
	Caller    string
	// LastVersion is the highest number ever given to a version; none is given
	// twice, so that a command's version always means one content.
	LastVersion    int
	LatestVersion  int
	DefaultVersion int
	Tags           map[string]string
	Shares         []DocumentShare // in order of accounts
}

// DocumentShare is an account that the document is shared with.
type DocumentShare struct {
	AccountID string // 12 digits, or all
	Version   string // as SharedDocumentVersion has it
}

// DocumentVersion is what lists show of a version. It never changes.
type DocumentVersion struct {
	Meta
	DocumentID  string
	Number      int
	VersionName string
	DisplayName string
	TargetType  string
	Format      string // types.DocumentFormat of the content
	SHA256      string // of the content, lower-case hex
	// SchemaVersion, Description (its beginning) and PlatformTypes are what the
	// content says.
	SchemaVersion string
	Description   string
	PlatformTypes []string
	// Requires is the request's member as it came over the wire.
	Requires  json.RawMessage `json:",omitempty"`
	CreatedAt time.Time
	Caller    string
}

// documentContent is a version's content, byte for byte as it was sent. It has a
// record of its own, so that lists need not read it.
type documentContent struct {
	Content []byte
}

const (
	documentPrefix        = "document/"
	documentVersionPrefix = "document-version/"
	documentContentPrefix = "document-content/"
	// documentCountKey is written with each new document: who has counted them holds
	// it to what it was.
	documentCountKey = "document-count"

	documentVersion        = 1
	documentVersionVersion = 1
	documentContentVersion = 1
	documentCountVersion   = 1
)

// documentVersionKey ends a version's keys; in the order of numbers.
func documentVersionKey(documentID string, number int) string {
	return fmt.Sprintf("%s/%010d", documentID, number)
}

// GetDocument returns the document with this name, or ErrNotFound.
func GetDocument(r Reader, name string) (Document, error) {
	var d Document
	index, found, err := getRecord(r, documentPrefix+name, documentVersion, &d)
	if err == nil && !found {
		err = ErrNotFound
	}
	d.ModifyIndex = index
	return d, err
}

// ScanDocuments calls fn for each document with a name >= start, in byte order of
// names, until fn returns false.
func ScanDocuments(r Reader, start string, fn func(Document) bool) error {
	var failed error
	from := ""
	if start != "" {
		from = documentPrefix + start
	}
	r.Scan(documentPrefix, from, func(key string, value []byte, index uint64) bool {
		var d Document
		if failed = decodeRecord(key, value, documentVersion, &d); failed != nil {
			return false
		}
		d.ModifyIndex = index
		return fn(d)
	})
	return failed
}

// DocumentCount is how many documents there were at a moment.
type DocumentCount struct {
	Meta
	Documents int `json:"-"`
}

// CountDocuments counts the documents.
func CountDocuments(r Reader) (DocumentCount, error) {
	var c DocumentCount
	index, _, err := getRecord(r, documentCountKey, documentCountVersion, &c)
	c.ModifyIndex = index
	r.Scan(documentPrefix, "", func(string, []byte, uint64) bool {
		c.Documents++
		return true
	})
	return c, err
}

// PutDocumentCount requires that no document was added since they were counted. The
// transaction that adds one does it.
func (t *Txn) PutDocumentCount(c DocumentCount) {
	t.Require(documentCountKey, c.ModifyIndex)
	t.Put(documentCountKey, encodeRecord(documentCountVersion, c))
}

// GetDocumentVersion returns a version of a document, or ErrNotFound.
func GetDocumentVersion(r Reader, documentID string, number int) (DocumentVersion, error) {
	var v DocumentVersion
	index, found, err := getRecord(r, documentVersionPrefix+documentVersionKey(documentID, number), documentVersionVersion, &v)
	if err == nil && !found {
		err = ErrNotFound
	}
	v.ModifyIndex = index
	return v, err
}

// DocumentVersions returns all versions of a document, the oldest first.
func DocumentVersions(r Reader, documentID string) ([]DocumentVersion, error) {
	var versions []DocumentVersion
	var failed error
	r.Scan(documentVersionPrefix+documentID+"/", "", func(key string, value []byte, index uint64) bool {
		var v DocumentVersion
		if failed = decodeRecord(key, value, documentVersionVersion, &v); failed != nil {
			return false
		}
		v.ModifyIndex = index
		versions = append(versions, v)
		return true
	})
	return versions, failed
}

// GetDocumentContent returns the content of a version, or ErrNotFound.
func GetDocumentContent(r Reader, documentID string, number int) ([]byte, error) {
	var c documentContent
	_, found, err := getRecord(r, documentContentPrefix+documentVersionKey(documentID, number), documentContentVersion, &c)
	if err == nil && !found {
		err = ErrNotFound
	}
	return c.Content, err
}

// PutDocument writes d, requiring that it is unchanged since it was read.
func (t *Txn) PutDocument(d Document) {
	t.Require(documentPrefix+d.Name, d.ModifyIndex)
	t.Put(documentPrefix+d.Name, encodeRecord(documentVersion, d))
}

// PutNewDocumentVersion writes a version with its content. The same transaction
// puts the document, which guards the number.
func (t *Txn) PutNewDocumentVersion(v DocumentVersion, content []byte) {
	key := documentVersionKey(v.DocumentID, v.Number)
	t.Put(documentVersionPrefix+key, encodeRecord(documentVersionVersion, v))
	t.Put(documentContentPrefix+key, encodeRecord(documentContentVersion, documentContent{Content: content}))
}

// DeleteDocumentVersion deletes a version. The same transaction puts or deletes
// the document.
func (t *Txn) DeleteDocumentVersion(documentID string, number int) {
	key := documentVersionKey(documentID, number)
	t.Delete(documentVersionPrefix + key)
	t.Delete(documentContentPrefix + key)
}

// DeleteDocument deletes d, requiring that it is unchanged; its versions are the
// caller's to delete.
func (t *Txn) DeleteDocument(d Document) {
	t.Require(documentPrefix+d.Name, d.ModifyIndex)
	t.Delete(documentPrefix + d.Name)
}
