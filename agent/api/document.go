package api

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"go.yaml.in/yaml/v3"

	"fleetmesh/executor"
)

const (
	// builtInVersion is the only version of every built-in document.
	builtInVersion = "1"
	// builtInOwner is how Systems Manager calls the owner of AWS-… documents.
	builtInOwner = "Amazon"

	versionDefault = "$DEFAULT"
	versionLatest  = "$LATEST"
)

// documentNameOf returns the name in an ARN, and a plain name as it is.
func documentNameOf(nameOrARN string) string {
	name, _, _ := parseDocumentName(nameOrARN)
	return name
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

// findDocument returns a document by name or ARN and version.
func findDocument(nameOrARN, version string) (executor.BuiltIn, error) {
	name, _, ok := parseDocumentName(nameOrARN)
	if !ok {
		return executor.BuiltIn{}, refuse(codeInvalidDocument, "%q is not the ARN of a document.", nameOrARN)
	}
	builtIn, ok := executor.BuiltInByName(name)
	if !ok {
		return builtIn, refuse(codeInvalidDocument, "The specified SSM document doesn't exist: there is no document %q. ListDocuments shows those that there are.", name)
	}
	switch version {
	case "", versionDefault, versionLatest, builtInVersion:
	default:
		return builtIn, refuse("InvalidDocumentVersion", "The document %s has no version %s.", name, version)
	}
	return builtIn, nil
}

// checkDocumentHash holds a client to the document that it has seen.
func checkDocumentHash(in *ssm.SendCommandInput, content []byte) error {
	given := aws.ToString(in.DocumentHash)
	if given == "" {
		return nil
	}
	var have string
	switch in.DocumentHashType {
	case types.DocumentHashTypeSha1:
		sum := sha1.Sum(content)
		have = hex.EncodeToString(sum[:])
	default:
		sum := sha256.Sum256(content)
		have = hex.EncodeToString(sum[:])
	}
	if !strings.EqualFold(given, have) {
		return refuse(codeInvalidDocument, "The hash of the document is %s, not %s: it is not the document that you have seen.", have, given)
	}
	return nil
}

// checkVersionName: built-in documents have no named versions.
func checkVersionName(name *string) error {
	if aws.ToString(name) == "" {
		return nil
	}
	return refuse("InvalidDocumentVersion", "The document has no version with the name %q.", *name)
}

func (c *call) getDocument(in *ssm.GetDocumentInput) (*ssm.GetDocumentOutput, error) {
	if err := checkVersionName(in.VersionName); err != nil {
		return nil, err
	}
	builtIn, err := findDocument(aws.ToString(in.Name), aws.ToString(in.DocumentVersion))
	if err != nil {
		return nil, err
	}
	out := &ssm.GetDocumentOutput{
		Name: &builtIn.Name, DocumentVersion: aws.String(builtInVersion), CreatedDate: &builtIn.CreatedAt,
		DocumentType: types.DocumentType(builtIn.DocumentType), DocumentFormat: types.DocumentFormatJson, Status: types.DocumentStatusActive,
	}
	switch in.DocumentFormat {
	case "", types.DocumentFormatJson:
		out.Content = aws.String(string(builtIn.Content))
	case types.DocumentFormatYaml:
		content, err := jsonToYAML(builtIn.Content)
		if err != nil {
			return nil, fmt.Errorf("write the document %s as YAML: %w", builtIn.Name, err)
		}
		out.Content, out.DocumentFormat = &content, types.DocumentFormatYaml
	default:
		return nil, refuse(codeInvalidDocument, "The document %s is not a text document: ask for JSON or YAML.", builtIn.Name)
	}
	return out, nil
}

// jsonToYAML writes JSON, which is YAML, in YAML's own style and the same order.
func jsonToYAML(content []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return "", err
	}
	var plain func(*yaml.Node)
	plain = func(n *yaml.Node) {
		n.Style = 0
		for _, child := range n.Content {
			plain(child)
		}
	}
	plain(&document)
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&document); err != nil {
		return "", err
	}
	return out.String(), nil
}

func (c *call) describeDocument(in *ssm.DescribeDocumentInput) (*ssm.DescribeDocumentOutput, error) {
	if err := checkVersionName(in.VersionName); err != nil {
		return nil, err
	}
	builtIn, err := findDocument(aws.ToString(in.Name), aws.ToString(in.DocumentVersion))
	if err != nil {
		return nil, err
	}
	document := builtIn.Document
	out := &types.DocumentDescription{
		Name: &builtIn.Name, Owner: aws.String(builtInOwner), Description: optional(document.Description),
		Hash: &builtIn.Hash, HashType: types.DocumentHashTypeSha256, CreatedDate: &builtIn.CreatedAt, Status: types.DocumentStatusActive,
		DocumentVersion: aws.String(builtInVersion), LatestVersion: aws.String(builtInVersion), DefaultVersion: aws.String(builtInVersion),
		DocumentType: types.DocumentType(builtIn.DocumentType), DocumentFormat: types.DocumentFormatJson,
		SchemaVersion: &document.SchemaVersion, PlatformTypes: platformTypes(document), Tags: []types.Tag{},
	}
	for _, p := range document.Parameters {
		out.Parameters = append(out.Parameters, describeParameter(p))
	}
	return &ssm.DescribeDocumentOutput{Document: out}, nil
}

// describeParameter shows a parameter; Systems Manager knows two types here.
func describeParameter(p executor.Parameter) types.DocumentParameter {
	out := types.DocumentParameter{Name: &p.Name, Description: optional(p.Description), Type: types.DocumentParameterTypeString}
	if p.Type == executor.TypeStringList {
		out.Type = types.DocumentParameterTypeStringList
	}
	if p.Default != nil {
		out.DefaultValue = aws.String(p.DefaultText())
	}
	return out
}

func platformTypes(document *executor.Document) []types.PlatformType {
	var out []types.PlatformType
	for _, platform := range document.Platforms() {
		out = append(out, types.PlatformType(platform))
	}
	return out
}

// documentFilter is one filter of ListDocuments, whichever list it came in.
type documentFilter struct {
	key    string
	values []string
}

const (
	codeInvalidFilterValue = "InvalidFilterValue"

	documentFilterTag = "tag:"
)

// documentOwners are the values of the filter Owner; the mesh's built-in
// documents are Amazon's, and public.
var documentOwners = []string{"Self", "Amazon", "Public", "Private", "ThirdParty", "All"}

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
		case f.key == "Name", f.key == "PlatformTypes", f.key == "DocumentType", f.key == "TargetType", f.key == "SearchKeyword":
		case strings.HasPrefix(f.key, documentFilterTag) && len(f.key) > len(documentFilterTag):
		default:
			return nil, refuse(codeInvalidFilterKey, "The specified filter key %q isn't valid: use Name, Owner, PlatformTypes, DocumentType, TargetType, SearchKeyword or tag:KEY.", f.key)
		}
	}
	return filters, nil
}

// matches reports whether a built-in document passes.
func (f documentFilter) matches(builtIn executor.BuiltIn, platforms []string) bool {
	anyOf := func(fits func(value string) bool) bool { return slices.ContainsFunc(f.values, fits) }
	switch f.key {
	case "Name":
		return anyOf(func(v string) bool { return strings.HasPrefix(builtIn.Name, v) })
	case "Owner":
		return anyOf(func(v string) bool { return v == builtInOwner || v == "Public" || v == "All" })
	case "PlatformTypes":
		return anyOf(func(v string) bool {
			return slices.ContainsFunc(platforms, func(p string) bool { return strings.EqualFold(p, v) })
		})
	case "DocumentType":
		return anyOf(func(v string) bool { return v == builtIn.DocumentType })
	case "SearchKeyword":
		return anyOf(func(v string) bool {
			return strings.Contains(strings.ToLower(builtIn.Name+" "+builtIn.Document.Description), strings.ToLower(v))
		})
	default:
		return false // built-in documents have neither tags nor a target type
	}
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
	out := &ssm.ListDocumentsOutput{DocumentIdentifiers: []types.DocumentIdentifier{}}
	all := slices.SortedFunc(slices.Values(executor.BuiltIns()), func(a, b executor.BuiltIn) int { return cmp.Compare(a.Name, b.Name) })
	for _, builtIn := range all {
		if builtIn.Name < start {
			continue
		}
		document := builtIn.Document
		platforms := document.Platforms()
		if slices.ContainsFunc(filters, func(f documentFilter) bool { return !f.matches(builtIn, platforms) }) {
			continue
		}
		if len(out.DocumentIdentifiers) == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, builtIn.Name)
			return out, err
		}
		out.DocumentIdentifiers = append(out.DocumentIdentifiers, types.DocumentIdentifier{
			Name: &builtIn.Name, Owner: aws.String(builtInOwner), CreatedDate: &builtIn.CreatedAt,
			DocumentVersion: aws.String(builtInVersion), DocumentType: types.DocumentType(builtIn.DocumentType),
			DocumentFormat: types.DocumentFormatJson, SchemaVersion: &document.SchemaVersion, PlatformTypes: platformTypes(document),
			Tags: []types.Tag{},
		})
	}
	return out, nil
}
