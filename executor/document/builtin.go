package document

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"
)

//go:embed builtin/*.json
var builtInFiles embed.FS

// BuiltIn is a document that every node has as a part of the program. It has one
// version, "1", and cannot be changed.
type BuiltIn struct {
	Name         string
	DocumentType string // Command
	Content      []byte // JSON; not to be changed
	Hash         string // lower-case hex SHA-256 of Content
	CreatedAt    time.Time
	// Document is Content parsed: it has the description, parameters, platforms
	// and schema version.
	Document *Document
}

// builtInNames are those of the files in builtin, with the days they were written.
var builtInNames = []struct {
	name    string
	created time.Time
}{
	{"AWS-RunPatchBaseline", time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)},
	{"AWS-RunPatchBaselineAssociation", time.Date(2026, time.November, 24, 0, 0, 0, 0, time.UTC)},
	{"AWS-RunPowerShellScript", time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)},
	{"AWS-RunShellScript", time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)},
	{"Fleetmesh-RunDocumentAndReboot", time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)},
	{"Fleetmesh-RunShellScriptAndReboot", time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)},
}

var builtIns = sync.OnceValues(func() ([]BuiltIn, error) {
	all := make([]BuiltIn, len(builtInNames))
	for i, known := range builtInNames {
		content, err := builtInFiles.ReadFile("builtin/" + known.name + ".json")
		if err != nil {
			return nil, fmt.Errorf("built-in document %s: %w", known.name, err)
		}
		document, err := Parse(content, JSON)
		if err != nil {
			return nil, fmt.Errorf("built-in document %s: %w", known.name, err)
		}
		sum := sha256.Sum256(content)
		all[i] = BuiltIn{Name: known.name, DocumentType: "Command", Content: content, Hash: hex.EncodeToString(sum[:]), CreatedAt: known.created, Document: document}
	}
	return all, nil
})

// BuiltIns returns the built-in documents, sorted by name.
func BuiltIns() []BuiltIn {
	all, _ := builtIns() // a test holds that there is no error
	return slices.Clone(all)
}

// BuiltInByName returns a built-in document.
func BuiltInByName(name string) (BuiltIn, bool) {
	for _, b := range BuiltIns() {
		if b.Name == name {
			return b, true
		}
	}
	return BuiltIn{}, false
}
