package document

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// oldBoolean is what other readers of YAML take for a boolean.
var oldBoolean = regexp.MustCompile(`\A(?i:y|n|yes|no|on|off)\z`)

// Convert writes a document's content in another format. Meaning and the order
// of keys stay, comments do not; scripts become YAML's block literals. A content
// that has the format already is returned as it is. The error is an *Error.
func Convert(content []byte, from, to Format) ([]byte, error) {
	if from == to {
		return content, nil
	}
	if from == TEXT || to == TEXT {
		return nil, &Error{Code: "InvalidDocument", Message: fmt.Sprintf("The document is written as %s, which cannot be turned into %s.", from, to)}
	}
	root, err := parse(content, from)
	if err != nil {
		return nil, err
	}
	var out []byte
	switch to {
	case JSON:
		out, err = writeJSON(root)
	case YAML:
		out, err = writeYAML(root)
	default:
		return nil, &Error{Code: "InvalidDocument", Message: fmt.Sprintf("There is no document format %s.", to)}
	}
	if err != nil {
		return nil, &Error{Code: CodeInvalidContent, Message: fmt.Sprintf("The document cannot be written as %s: %s.", to, err)}
	}
	return out, nil
}

// writeYAML proves what it writes by reading it again: block literals are for
// people, and should YAML have no faithful one for a text, all are quoted.
func writeYAML(root *node) ([]byte, error) {
	out, err := encodeYAML(root, false)
	if err != nil {
		out, err = encodeYAML(root, true)
	}
	return out, err
}

func encodeYAML(root *node, quoted bool) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(yamlNode(root, quoted)); err != nil {
		return nil, err
	}
	if err := encoder.Close(); err != nil {
		return nil, err
	}
	again, err := parseYAML(out.Bytes())
	if err != nil {
		return nil, err
	}
	if !reflect.DeepEqual(root.value(), again.value()) {
		return nil, errors.New("a value has no faithful form")
	}
	return out.Bytes(), nil
}

// yamlNode makes a node of YAML. quoted writes every text in double quotes.
func yamlNode(n *node, quoted bool) *yaml.Node {
	switch n.kind {
	case 'n':
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	case 't', 'f':
		text, _ := n.scalar()
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: text}
	case '0':
		tag := "!!int"
		if strings.ContainsAny(n.text, ".eE") || len(n.text) > 18 {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: n.text}
	case '[':
		list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if len(n.items) == 0 {
			list.Style = yaml.FlowStyle
		}
		for _, item := range n.items {
			list.Content = append(list.Content, yamlNode(item, quoted))
		}
		return list
	case '{':
		object := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if len(n.fields) == 0 {
			object.Style = yaml.FlowStyle
		}
		for _, f := range n.fields {
			object.Content = append(object.Content, yamlText(f.name, true, quoted), yamlNode(f.value, quoted))
		}
		return object
	}
	return yamlText(n.text, false, quoted)
}

func yamlText(text string, key, quoted bool) *yaml.Node {
	y := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	switch {
	case quoted, oldBoolean.MatchString(text), strings.HasPrefix(text, "\t"): // no literal begins with a tab
		y.Style = yaml.DoubleQuotedStyle
	case !key && strings.Contains(text, "\n"):
		y.Style = yaml.LiteralStyle
	}
	return y
}
