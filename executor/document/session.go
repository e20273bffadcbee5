package document

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sessionTypes are those of Session documents, with whether they need properties.
var sessionTypes = map[string]bool{"Standard_Stream": false, "InteractiveCommands": true, "NonInteractiveCommands": true, "Port": true}

// sessionInputs are the preferences of a session.
var sessionInputs = []input{
	optional("s3BucketName", textInput), optional("s3KeyPrefix", textInput), optional("s3EncryptionEnabled", booleanInput),
	optional("cloudWatchLogGroupName", textInput), optional("cloudWatchEncryptionEnabled", booleanInput), optional("cloudWatchStreamingEnabled", booleanInput),
	optional("kmsKeyId", textInput), optional("runAsEnabled", booleanInput), optional("runAsDefaultUser", textInput),
	optional("idleSessionTimeout", numberInput), optional("maxSessionDuration", numberInput), optional("shellProfile", mapInput),
}

var (
	sessionPlatforms = []string{"linux", "windows", "macos"}
	// sessionCommand are the properties of a platform, sessionPort those of a
	// forwarded port.
	sessionCommand = []input{
		optional("commands", textsInput), optional("runAsElevated", booleanInput), optional("separateOutputStream", booleanInput),
		optional("stdOutSeparatorPrefix", textInput), optional("stdErrSeparatorPrefix", textInput),
	}
	sessionPort = []input{
		optional("portNumber", textInput), optional("host", textInput), optional("localPortNumber", textInput), optional("localUnixSocket", textInput),
		optional("localConnectionType", textInput), optional("type", textInput),
	}
)

// session reads a Session document after its version.
func (c *checker) session(root *node) error {
	if err := onlyFields(root, "in the document", "$schema", "schemaVersion", "description", "sessionType", "inputs", "parameters", "properties"); err != nil {
		return err
	}
	if err := c.head(root); err != nil {
		return err
	}
	kind, err := textField(root, "sessionType", "in the document")
	if err != nil {
		return err
	}
	needsProperties, known := sessionTypes[kind]
	inputs, properties := root.field("inputs"), root.field("properties")
	switch {
	case kind == "":
		return root.errorf("Missing SessionType in the document.")
	case !known:
		return root.field("sessionType").errorf("Invalid sessionType: %s.", kind)
	case needsProperties && properties == nil:
		return root.errorf("Missing Properties in session type %s document", kind)
	case !needsProperties && inputs == nil:
		return root.errorf("Missing Inputs in session type %s document", kind)
	}
	if inputs != nil {
		if err := c.sessionInputs(inputs); err != nil {
			return err
		}
	}
	if properties == nil {
		return nil
	}
	if properties.kind != '{' {
		return properties.errorf(`"properties" should be a map.`)
	}
	if err := c.references(properties, "in the document", "properties"); err != nil {
		return err
	}
	if kind == "Port" {
		return checkInputs(properties, sessionPort, "in properties")
	}
	for _, f := range properties.fields {
		if !slices.Contains(sessionPlatforms, f.name) {
			return f.value.errorf("Unknown property %q in properties: the platforms are linux, windows and macos.", f.name)
		}
		if err := checkInputs(f.value, sessionCommand, fmt.Sprintf("in properties.%s", f.name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) sessionInputs(inputs *node) error {
	if err := checkInputs(inputs, sessionInputs, "in inputs"); err != nil {
		return err
	}
	if user := inputs.field("runAsDefaultUser"); user != nil && anyReference.MatchString(user.text) {
		return user.errorf(`"runAsDefaultUser" cannot be given by a parameter.`)
	}
	for name, limit := range map[string]int{"idleSessionTimeout": 60, "maxSessionDuration": 1440} {
		value := inputs.field(name)
		if value == nil || value.text == "" || hasReference(value) {
			continue
		}
		if minutes, err := strconv.Atoi(value.text); err != nil || minutes < 1 || minutes > limit {
			return value.errorf("Input %q should be a number of minutes from 1 to %d in inputs.", name, limit)
		}
	}
	if profile := inputs.field("shellProfile"); profile != nil && profile.kind == '{' {
		if err := onlyFields(profile, "in inputs.shellProfile", "linux", "windows", "macos"); err != nil {
			return err
		}
	}
	return c.references(inputs, "in the document", "inputs")
}

// checkInputs refuses members that are not known, or not of their kind.
func checkInputs(n *node, known []input, where string) error {
	if n.kind != '{' {
		return n.errorf("There should be a map %s.", where)
	}
	for _, f := range n.fields {
		i := slices.IndexFunc(known, func(in input) bool { return strings.EqualFold(in.name, f.name) })
		if i < 0 {
			return f.value.errorf("Unknown property %q %s.", f.name, where)
		}
		if err := known[i].check(f.value, where); err != nil {
			return err
		}
	}
	return nil
}
