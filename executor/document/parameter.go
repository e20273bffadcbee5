package document

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
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

var (
	parameterNames = regexp.MustCompile(`\A[a-zA-Z0-9]+\z`)
	// resourceTypes are names of resources, AWS::EC2::Instance::Id, or lists of
	// them: texts for which a console offers what there is.
	resourceTypes = regexp.MustCompile(`\A(?:AWS(?:::[a-zA-Z0-9]+)+|List<AWS(?:::[a-zA-Z0-9]+)+>)\z`)
)

// Parameter is what a document says of a parameter. Bounds that it does not set
// are nil.
type Parameter struct {
	Name, Description string
	// Type is one of the six; a resource's type, such as AWS::EC2::Instance::Id, is
	// String here, and a list of them StringList.
	Type string
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

	pattern *pattern
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
func (c *checker) parameters(n *node) error {
	if n.kind != '{' {
		return n.errorf(`"parameters" should be a map.`)
	}
	for _, f := range n.fields {
		if !parameterNames.MatchString(f.name) {
			return f.value.errorf("Parameter name %q is not alpha-numeric.", f.name)
		}
		if f.value.kind != '{' {
			return f.value.errorf("The definition of parameter %q is not an object.", f.name)
		}
		parameter, err := c.definition(f.name, f.value)
		if err != nil {
			return err
		}
		c.Parameters = append(c.Parameters, *parameter)
	}
	return nil
}

func (c *checker) definition(name string, n *node) (*Parameter, error) {
	where := fmt.Sprintf("in the definition of parameter %q", name)
	err := onlyFields(n, where, "type", "description", "default", "allowedValues", "allowedPattern",
		"minItems", "maxItems", "minChars", "maxChars", "displayType", "interpolationType")
	if err != nil {
		return nil, err
	}
	p := &Parameter{Name: name}
	for _, text := range []struct {
		member string
		target *string
	}{
		{"type", &p.Type}, {"description", &p.Description}, {"allowedPattern", &p.AllowedPattern},
		{"displayType", &p.DisplayType}, {"interpolationType", &p.InterpolationType},
	} {
		if *text.target, err = textField(n, text.member, where); err != nil {
			return nil, err
		}
	}
	if p.Type == "" {
		return nil, n.errorf(`Missing "type" in parameter definition. It is that of %q.`, name)
	}
	if resourceTypes.MatchString(p.Type) {
		resource := p.Type
		if p.Type = TypeString; resource[0] == 'L' {
			p.Type = TypeStringList
		}
	}
	if !slices.Contains(parameterTypes, p.Type) {
		return nil, n.field("type").errorf("Parameter type: %s is invalid. It is that of %q.", p.Type, name)
	}
	if err := p.bounds(n, where); err != nil {
		return nil, err
	}
	if p.DisplayType != "" && p.DisplayType != "textfield" && p.DisplayType != "textarea" {
		return nil, n.field("displayType").errorf(`"displayType" is neither textfield nor textarea %s.`, where)
	}
	if interpolation := n.field("interpolationType"); interpolation != nil {
		switch {
		case p.InterpolationType != interpolationEnvVar:
			return nil, interpolation.errorf(`"interpolationType" is not ENV_VAR %s.`, where)
		case p.Type != TypeString || c.SchemaVersion != "2.2":
			return nil, interpolation.errorf(`"interpolationType" is for String parameters and schema version 2.2, but it is set %s.`, where)
		}
	}
	if p.AllowedPattern != "" {
		if p.pattern, err = compilePattern(p.AllowedPattern); err != nil {
			return nil, n.field("allowedPattern").errorf(`"allowedPattern" is not a regular expression of Java %s: %s.`, where, err)
		}
	}
	if value := n.field("default"); value != nil {
		if p.Default = defaultOf(p.Type, value); p.Default == nil {
			return nil, value.errorf("Wrong default value for a %q parameters. The parameter is %q.", p.Type, name)
		}
	}
	return p, nil
}

// bounds reads what limits the values.
func (p *Parameter) bounds(n *node, where string) error {
	for _, bound := range []struct {
		member string
		target **int
	}{
		{"minItems", &p.MinItems}, {"maxItems", &p.MaxItems}, {"minChars", &p.MinChars}, {"maxChars", &p.MaxChars},
	} {
		value := n.field(bound.member)
		if value == nil {
			continue
		}
		number, err := strconv.Atoi(value.text)
		if err != nil || number < 0 {
			return value.errorf("%q should be a whole number, not negative, %s.", bound.member, where)
		}
		*bound.target = &number
	}
	if above(p.MinItems, p.MaxItems) || above(p.MinChars, p.MaxChars) {
		return n.errorf("A minimum is above its maximum %s.", where)
	}
	allowed := n.field("allowedValues")
	if allowed == nil {
		return nil
	}
	if allowed.kind != '[' || len(allowed.items) == 0 {
		return allowed.errorf(`"allowedValues" should be a list that is not empty %s.`, where)
	}
	for _, item := range allowed.items {
		p.AllowedValues = append(p.AllowedValues, textOf(item.value()))
	}
	return nil
}

func above(minimum, maximum *int) bool {
	return minimum != nil && maximum != nil && *minimum > *maximum
}

// defaultOf returns a default's value, nil when it does not fit the type.
func defaultOf(parameterType string, n *node) any {
	value := n.value()
	if n.kind == '"' && parameterType != TypeString {
		// A map as JSON text, or a reference to the Parameter Store.
		if anyReference.MatchString(n.text) {
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
