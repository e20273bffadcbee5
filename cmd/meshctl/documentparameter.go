package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/executor/document"
)

// parameterDetail is a parameter: what DescribeDocument says, and what only the
// content does.
type parameterDetail struct {
	Name, Type, Description string
	Default                 *string // nil where the parameter is required
	definition              parameterDefinition
}

// parameterDefinition is a parameter as a document of any type defines it.
type parameterDefinition struct {
	Type           string            `json:"type"`
	AllowedValues  []json.RawMessage `json:"allowedValues"`
	AllowedPattern string            `json:"allowedPattern"`
	MinItems       *json.Number      `json:"minItems"`
	MaxItems       *json.Number      `json:"maxItems"`
	MinChars       *json.Number      `json:"minChars"`
	MaxChars       *json.Number      `json:"maxChars"`
}

// parametersOf returns a document's parameters in its own order.
func parametersOf(d *types.DocumentDescription, content string) []parameterDetail {
	// A definition that cannot be read leaves what the description says.
	definitions := map[string]parameterDefinition{}
	for _, format := range []document.Format{document.JSON, document.YAML} {
		asJSON, err := document.Convert([]byte(content), format, document.JSON)
		var parsed struct {
			Parameters map[string]json.RawMessage `json:"parameters"`
		}
		if err != nil || json.Unmarshal(asJSON, &parsed) != nil {
			continue
		}
		for name, raw := range parsed.Parameters {
			var definition parameterDefinition
			if json.Unmarshal(raw, &definition) == nil {
				definitions[name] = definition
			}
		}
		break
	}
	var out []parameterDetail
	for _, p := range d.Parameters {
		detail := parameterDetail{
			Name: aws.ToString(p.Name), Type: string(p.Type), Description: aws.ToString(p.Description), Default: p.DefaultValue,
			definition: definitions[aws.ToString(p.Name)],
		}
		if detail.definition.Type != "" {
			detail.Type = detail.definition.Type
		}
		out = append(out, detail)
	}
	return out
}

// defaultText tells an empty default from none.
func (p *parameterDetail) defaultText() string {
	switch {
	case p.Default == nil:
		return "(required)"
	case *p.Default == "":
		return `""`
	}
	return *p.Default
}

// allowed is what values may be, in few words.
func (p *parameterDetail) allowed() string {
	var parts []string
	if len(p.definition.AllowedValues) > 0 {
		values := make([]string, len(p.definition.AllowedValues))
		for i, raw := range p.definition.AllowedValues {
			values[i] = string(raw)
			var text string
			if json.Unmarshal(raw, &text) == nil && text != "" {
				values[i] = text
			}
		}
		parts = append(parts, strings.Join(values, "|"))
	}
	if p.definition.AllowedPattern != "" {
		parts = append(parts, p.definition.AllowedPattern)
	}
	between := func(least, most *json.Number, what string) {
		switch {
		case least != nil && most != nil:
			parts = append(parts, fmt.Sprintf("%s to %s %s", *least, *most, what))
		case least != nil:
			parts = append(parts, fmt.Sprintf("at least %s %s", *least, what))
		case most != nil:
			parts = append(parts, fmt.Sprintf("at most %s %s", *most, what))
		}
	}
	between(p.definition.MinItems, p.definition.MaxItems, "values")
	between(p.definition.MinChars, p.definition.MaxChars, "characters")
	return strings.Join(parts, ", ")
}

// explainParameters makes of the mesh's refusal of parameters what a person needs:
// which name is wrong, which is meant, what is missing, and what there is. line says
// that the parameter commands is what the user wrote after --.
func (c *client) explainParameters(ctx context.Context, in *ssm.SendCommandInput, refusal failure, line bool) error {
	out := &outcome{exit: refusal.Exit, code: refusal.Code, message: refusal.Message}
	described, err := c.ssm.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: in.DocumentName, DocumentVersion: in.DocumentVersion})
	if err != nil || described.Document == nil {
		return out // the refusal itself says more than that error
	}
	parameters := parametersOf(described.Document, "")
	if line && !slices.ContainsFunc(parameters, func(p parameterDetail) bool { return p.Name == "commands" }) {
		out.message = fmt.Sprintf("the document %s takes no command line: it has no parameter \"commands\" for what stands after --", aws.ToString(in.DocumentName))
		out.hint = fmt.Sprintf("leave %s out to run the command line itself, or leave out what stands after --", aws.ToString(in.DocumentName))
		if len(parameters) > 0 {
			out.hint += fmt.Sprintf("\n  its parameters are: %s; give them by --parameter NAME=VALUE", parameterList(parameters))
		}
		return out
	}
	if wrong := wrongNames(parameters, in.Parameters); wrong != "" {
		out.message = wrong
	}
	out.hint = fmt.Sprintf("its parameters are: %s\n  `meshctl document show %s` describes them", parameterList(parameters), aws.ToString(in.DocumentName))
	return out
}

// parameterList names the parameters; those in brackets may be left out.
func parameterList(parameters []parameterDetail) string {
	if len(parameters) == 0 {
		return "none"
	}
	names := make([]string, len(parameters))
	for i, p := range parameters {
		names[i] = p.Name
		if p.Default != nil {
			names[i] = "[" + p.Name + "]"
		}
	}
	return strings.Join(names, ", ")
}

// wrongNames tells of names that are not the document's, and of missing ones; "" where
// names are not what is wrong.
func wrongNames(parameters []parameterDetail, given map[string][]string) string {
	var sentences, known []string
	for _, p := range parameters {
		known = append(known, p.Name)
	}
	meant := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if slices.Contains(known, name) {
			continue
		}
		sentence := fmt.Sprintf("the document has no parameter %q", name)
		if near := nearest(name, known); near != "" {
			sentence += fmt.Sprintf("; did you mean %q?", near)
			meant[near] = true
		}
		sentences = append(sentences, sentence)
	}
	for _, p := range parameters {
		if _, there := given[p.Name]; !there && p.Default == nil && !meant[p.Name] {
			sentences = append(sentences, fmt.Sprintf("the parameter %q is required and not given: --parameter %s=…", p.Name, p.Name))
		}
	}
	return strings.Join(sentences, "\n")
}

// nearest is the name that somebody may have meant, "" when none is near.
func nearest(name string, known []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, k := range known {
		distance := editDistance(strings.ToLower(name), strings.ToLower(k))
		if strings.HasPrefix(strings.ToLower(k), strings.ToLower(name)) && len(name) >= 3 {
			distance = min(distance, 1)
		}
		if distance < least && distance < len(k) {
			best, least = k, distance
		}
	}
	return best
}

// editDistance is how many characters differ between two names (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
