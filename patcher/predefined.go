package patcher

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// predefinedJSON holds AWS's own baselines: their names, ids and rules are facts that
// documents and tools rely on. The descriptions are ours.
//
//go:embed predefined/baselines.json
var predefinedJSON []byte

// PredefinedBaseline is a baseline that everybody has and nobody changes.
type PredefinedBaseline struct {
	Baseline
	Description string
	// Default of its operating system, until another is registered.
	Default bool
}

// Predefined returns the predefined baselines, by name. The caller may change what it
// gets.
func Predefined() []PredefinedBaseline {
	var all []PredefinedBaseline
	if err := json.Unmarshal(predefinedJSON, &all); err != nil {
		panic(fmt.Sprintf("the embedded baselines are broken: %v", err)) // a test reads them
	}
	return all
}

// PredefinedByID finds a predefined baseline by its ARN, or by the pb-… at its end.
func PredefinedByID(id string) (PredefinedBaseline, bool) {
	bare := id[strings.LastIndexByte(id, '/')+1:]
	if strings.HasPrefix(bare, "pb-") {
		for _, b := range Predefined() {
			if strings.HasSuffix(b.BaselineId, "/"+bare) {
				return b, true
			}
		}
	}
	return PredefinedBaseline{}, false
}

// PredefinedDefault is the default baseline of an operating system before any other
// is registered.
func PredefinedDefault(os types.OperatingSystem) (PredefinedBaseline, bool) {
	for _, b := range Predefined() {
		if b.Default && b.OperatingSystem == os {
			return b, true
		}
	}
	return PredefinedBaseline{}, false
}
