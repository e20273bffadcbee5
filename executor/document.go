package executor

import (
	"time"

	"fleetmesh/executor/document"
)

// The language of documents is the package document's; these are its names for
// those who only run what it resolves.
type (
	Document  = document.Document
	Parameter = document.Parameter
	BuiltIn   = document.BuiltIn
	Task      = document.Task
)

const TypeStringList = document.TypeStringList

// ActionRunPatchBaseline is the action that patches a machine.
const ActionRunPatchBaseline = document.ActionRunPatchBaseline

// ParseDocument reads a Command document in JSON.
func ParseDocument(content []byte) (*Document, error) { return document.Parse(content, document.JSON) }

// ExecutionTimeout is the longest that a command with the parameters may take.
func ExecutionTimeout(d *Document, given map[string][]string) time.Duration {
	return document.ExecutionTimeout(d, given)
}

// BuiltIns returns the built-in documents, sorted by name.
func BuiltIns() []BuiltIn { return document.BuiltIns() }

// BuiltInByName returns a built-in document.
func BuiltInByName(name string) (BuiltIn, bool) { return document.BuiltInByName(name) }
