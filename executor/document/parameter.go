package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Types of parameters.
const (
	TypeString     = "String"
	TypeStringList = "StringList"
	typeInteger    = "Integer"
	typeBoolean    = "Boolean"
	typeStringMap  = "StringMap"
	typeMapList    = "MapList"
)

var parameterTypes = []string{TypeString, TypeStringList, typeInteger, typeBoolean, typeStringMap, typeMapList}

// Parameter is what a document says of a parameter. Bounds that it does not set
// are nil.
type Parameter struct {
	Name, Type, Description string
	// Default is nil for a required parameter, else a string, []any of strings,
	// json.Number, bool, map[string]any or []any of those, as Type says.
	Default            any
	AllowedValues      []string
	AllowedPattern     string
	MinItems, MaxItems *int
	MinChars, MaxChars *int
	DisplayType        string
	// InterpolationType is "" or ENV_VAR: scripts get the value in a variable of
	// their environment instead of in their text.
	InterpolationType string

	pattern *regexp.Regexp
}

const interpolationEnvVar = "ENV_VAR"

// DefaultText is the default as DescribeDocument shows it.
func (p *Parameter) DefaultText() string {
	if p.Default == nil {
		return ""
	}
	return textOf(p.Default)
}

// parameters reads the document's definitions.
func (p *documentParser) parameters(n *node) error {
	if n.kind != '{' {
		return p.errorAt(n.offset, `"parameters" should be a map.`)
	}
	for _, f := range n.fields {
		if !parameterNames.MatchString(f.name) {
			return p.errorAt(f.value.offset, "Parameter name %q is not alpha-numeric.", f.name)
		}
		if f.value.kind != '{' {
			return p.errorAt(f.value.offset, "The definition of parameter %q is not an object.", f.name)
		}
		parameter, err := p.definition(f.name, f.value)
		if err != nil {
			return err
		}
		p.Parameters = append(p.Parameters, *parameter)
	}
	return nil
}

func (p *documentParser) definition(name string, n *node) (*Parameter, error) {
	where := fmt.Sprintf("in the definition of parameter %q", name)
	err := p.onlyFields(n, where, "", "type", "description", "default", "allowedValues", "allowedPattern",
		"minItems", "maxItems", "minChars", "maxChars", "displayType", "interpolationType")
	if err != nil {
		return nil, err
	}
	parameter := &Parameter{Name: name}
	for _, text := range []struct {
		member string
		target *string
	}{
		{"type", &parameter.Type}, {"description", &parameter.Description}, {"allowedPattern", &parameter.AllowedPattern},
		{"displayType", &parameter.DisplayType}, {"interpolationType", &parameter.InterpolationType},
	} {
		if *text.target, err = p.textOf(n, text.member); err != nil {
			return nil, err
		}
	}
	for _, bound := range []struct {
		member string
		target **int
	}{
		{"minItems", &parameter.MinItems}, {"maxItems", &parameter.MaxItems}, {"minChars", &parameter.MinChars}, {"maxChars", &parameter.MaxChars},
	} {
		value := n.field(bound.member)
		if value == nil {
			continue
		}
		number, err := strconv.Atoi(value.text)
		if err != nil || number < 0 {
			return nil, p.errorAt(value.offset, "%q should be a whole number, not negative, %s.", bound.member, where)
		}
		*bound.target = &number
	}
	if allowed := n.field("allowedValues"); allowed != nil {
		if allowed.kind != '[' || len(allowed.items) == 0 {
			return nil, p.errorAt(allowed.offset, `"allowedValues" should be a list that is not empty %s.`, where)
		}
		for _, item := range allowed.items {
			parameter.AllowedValues = append(parameter.AllowedValues, textOf(item.value()))
		}
	}
	switch {
	case parameter.Type == "":
		return nil, p.errorAt(n.offset, `Missing "type" in parameter definition. It is that of %q.`, name)
	case !slices.Contains(parameterTypes, parameter.Type):
		return nil, p.errorAt(n.offset, "Parameter type: %s is invalid. It is that of %q.", parameter.Type, name)
	case parameter.DisplayType != "" && parameter.DisplayType != "textfield" && parameter.DisplayType != "textarea":
		return nil, p.errorAt(n.offset, `"displayType" is neither textfield nor textarea %s.`, where)
	case parameter.InterpolationType != "" && parameter.InterpolationType != interpolationEnvVar:
		return nil, p.errorAt(n.offset, `"interpolationType" is not ENV_VAR %s.`, where)
	case parameter.InterpolationType != "" && (parameter.Type != TypeString || p.SchemaVersion != "2.2"):
		return nil, p.errorAt(n.offset, `"interpolationType" is for String parameters and schema version 2.2, but it is set %s.`, where)
	case above(parameter.MinItems, parameter.MaxItems), above(parameter.MinChars, parameter.MaxChars):
		return nil, p.errorAt(n.offset, "A minimum is above its maximum %s.", where)
	}
	if parameter.AllowedPattern != "" {
		if parameter.pattern, err = regexp.Compile(`\A(?:` + parameter.AllowedPattern + `)\z`); err != nil {
			return nil, p.errorAt(n.offset, `"allowedPattern" is not a regular expression of the RE2 language %s.`, where)
		}
	}
	if value := n.field("default"); value != nil {
		if parameter.Default = defaultOf(parameter.Type, value); parameter.Default == nil {
			return nil, p.errorAt(value.offset, "Wrong default value for a %q parameters. The parameter is %q.", parameter.Type, name)
		}
	}
	return parameter, nil
}

func above(minimum, maximum *int) bool {
	return minimum != nil && maximum != nil && *minimum > *maximum
}

// defaultOf returns a default's value, nil when it does not fit the type.
func defaultOf(parameterType string, n *node) any {
	value := n.value()
	if n.kind == '"' && parameterType != TypeString {
		// A map as JSON text, or a reference to the Parameter Store.
		if storeReference.MatchString(n.text) {
			return n.text
		}
		if parameterType != typeStringMap && parameterType != typeMapList {
			return nil
		}
		var ok bool
		if value, ok = parseText(n.text); !ok {
			return nil
		}
	}
	if !fits(parameterType, value) {
		return nil
	}
	return value
}

// fits tells whether a value is of a parameter's type.
func fits(parameterType string, value any) bool {
	list, isList := value.([]any)
	switch parameterType {
	case TypeString:
		_, ok := value.(string)
		return ok
	case TypeStringList:
		return isList && !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(string); return !ok })
	case typeInteger:
		number, _ := value.(json.Number)
		_, err := number.Int64()
		return err == nil
	case typeBoolean:
		_, ok := value.(bool)
		return ok
	case typeStringMap:
		_, ok := value.(map[string]any)
		return ok
	case typeMapList:
		return isList && !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(map[string]any); return !ok })
	}
	return false
}

// parseText reads a value that is given as JSON text.
func parseText(text string) (any, bool) {
	content := documentText(text)
	if len(content) > maxDocumentSize {
		return nil, false
	}
	n, err := content.parseJSON()
	if err != nil {
		return nil, false
	}
	return n.value(), true
}

// textOf is a value inside a longer text: compact JSON, if it is no string.
func textOf(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "" // cannot be: value comes from JSON
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// parse makes a value of the parameter's type of what a command gives: a list of
// strings, for every type.
func (p *Parameter) parse(given []string) (any, bool) {
	if p.Type == TypeStringList {
		list := make([]any, len(given))
		for i, s := range given {
			list[i] = s
		}
		return list, true
	}
	if p.Type == typeMapList && len(given) != 1 {
		list := make([]any, len(given))
		for i, s := range given {
			list[i], _ = parseText(s)
		}
		return list, fits(p.Type, list)
	}
	if len(given) != 1 {
		return nil, false
	}
	if p.Type == TypeString {
		return given[0], true
	}
	value, ok := parseText(given[0])
	if !ok {
		return nil, false
	}
	if _, single := value.(map[string]any); single && p.Type == typeMapList {
		value = []any{value}
	}
	return value, fits(p.Type, value)
}

// CheckParameters checks what a command gives for the document's parameters. The
// error is one or more sentences, without values: they may be secrets.
func (d *Document) CheckParameters(given map[string][]string) error {
	var problems []string
	for i := range d.Parameters {
		p := &d.Parameters[i]
		values, there := given[p.Name]
		if !there {
			if p.Default == nil {
				problems = append(problems, fmt.Sprintf("Parameter %q is required and not given.", p.Name))
			}
			continue
		}
		problems = append(problems, p.check(values)...)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if d.parameter(name) == nil {
			problems = append(problems, fmt.Sprintf("Parameter %q is not one of the document's, which are: %s.", name, d.parameterNames()))
		}
	}
	if problems == nil {
		return nil
	}
	return sentence(strings.Join(problems, " "))
}

func (d *Document) parameterNames() string {
	if len(d.Parameters) == 0 {
		return "none"
	}
	names := make([]string, len(d.Parameters))
	for i := range d.Parameters {
		names[i] = d.Parameters[i].Name
	}
	return strings.Join(names, ", ")
}

// check returns what is wrong with the given values.
func (p *Parameter) check(given []string) []string {
	refuse := func(format string, args ...any) []string {
		return []string{fmt.Sprintf("Parameter %q ", p.Name) + fmt.Sprintf(format, args...)}
	}
	if _, ok := p.parse(given); !ok {
		if p.Type == TypeString {
			return refuse("is a String and must have exactly one value, not %d.", len(given))
		}
		return refuse("has a value that is not of its type %s.", p.Type)
	}
	if below(len(given), p.MinItems) {
		return refuse("must have at least %s.", count(*p.MinItems, "value"))
	}
	if beyond(len(given), p.MaxItems) {
		return refuse("must have at most %s.", count(*p.MaxItems, "value"))
	}
	for _, value := range given {
		switch characters := utf8.RuneCountInString(value); {
		case storeReference.MatchString(value):
			return refuse("refers to the Parameter Store, which this version does not have: give the value itself.")
		case strings.ContainsRune(value, 0):
			return refuse("holds the character NUL, which no script can.")
		case below(characters, p.MinChars):
			return refuse("must have at least %s.", count(*p.MinChars, "character"))
		case beyond(characters, p.MaxChars):
			return refuse("must have at most %s.", count(*p.MaxChars, "character"))
		case p.AllowedValues != nil && !slices.Contains(p.AllowedValues, value):
			return refuse("must be one of: %s.", strings.Join(p.AllowedValues, ", "))
		case p.pattern != nil && !p.pattern.MatchString(value):
			return refuse("must match the pattern %s as a whole.", p.AllowedPattern)
		}
	}
	return nil
}

func below(n int, minimum *int) bool  { return minimum != nil && n < *minimum }
func beyond(n int, maximum *int) bool { return maximum != nil && n > *maximum }

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// values returns every parameter's value: what is given, where it fits, else the
// default.
func (d *Document) values(given map[string][]string) map[string]any {
	values := make(map[string]any, len(d.Parameters))
	for i := range d.Parameters {
		p := &d.Parameters[i]
		values[p.Name] = p.Default
		if texts, there := given[p.Name]; there && p.check(texts) == nil {
			values[p.Name], _ = p.parse(texts)
		}
	}
	return values
}
