package document

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// expect checks how a content is refused; want is the message's beginning, or ""
// for one that is accepted.
func expect(t *testing.T, name, content string, format Format, docType, code, want string) {
	t.Helper()
	_, err := Validate([]byte(content), format, docType)
	var refusal *Error
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != "" && (!errors.As(err, &refusal) || refusal.Code != code || !strings.HasPrefix(refusal.Message, want)):
		t.Errorf("%s\ngot  %v\nwant %s: %s", name, err, code, want)
	}
}

func TestSchemaVersions(t *testing.T) {
	const (
		steps   = `"mainSteps":[{"name":"a","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}]`
		runbook = `"mainSteps":[{"name":"a","action":"aws:pause","inputs":{}}]`
		config  = `"runtimeConfig":{"aws:runShellScript":{"properties":[{"runCommand":["id"]}]}}`
		session = `"sessionType":"Standard_Stream","inputs":{}`
	)
	for _, c := range []struct{ docType, version, body, code, want string }{
		{"Command", "1.0", config, "", ""},
		{"Command", "1.2", config, "", ""},
		{"Command", "2.0", steps, "", ""},
		{"Command", "2.2", steps, "", ""},
		{"Command", "2.2", config, CodeInvalidContent, `Unknown property "runtimeConfig".`},
		{"Command", "1.2", steps, CodeInvalidContent, `Unknown property "mainSteps".`},
		{"Command", "0.3", runbook, CodeInvalidSchemaVersion, "0.3 is not a valid schema version for Command document type"},
		{"Command", "2.0.1", steps, CodeInvalidContent, "Document schema version is invalid. Value: 2.0.1"},
		{"Command", "3.0", steps, CodeInvalidContent, "Document schema version is invalid. Value: 3.0"},
		{"", "1.2", config, "", ""},
		{"", "2.0", steps, CodeInvalidSchemaVersion, "Document type is required for schema version 2.0"},
		{"Policy", "2.0", steps, "", ""},
		{"Policy", "1.2", config, CodeInvalidSchemaVersion, "1.2 is not a valid schema version for Policy document type"},
		{"Automation", "0.3", runbook, "", ""},
		{"Automation", "2.2", steps, CodeInvalidSchemaVersion, "2.2 is not a valid schema version for Automation document type"},
		{"Automation.ChangeTemplate", "0.3", runbook + `,"emergencyChange":false`, "", ""},
		{"Session", "1.0", session, "", ""},
		{"Session", "2.0", session, CodeInvalidSchemaVersion, "2.0 is not a valid schema version for Session document type"},
		{"Nonsense", "1.0", session, CodeInvalidContent, "There is no document type Nonsense"},
	} {
		expect(t, c.docType+" "+c.version, `{"schemaVersion":"`+c.version+`",`+c.body+`}`, JSON, c.docType, c.code, c.want)
	}
	// An agent has more versions than the service.
	if _, err := Parse([]byte(`{"schemaVersion":"2.0.1",`+steps+`}`), JSON); err != nil {
		t.Error(err)
	}
}

func TestPluginInputs(t *testing.T) {
	for _, c := range []struct{ action, inputs, want string }{
		{"runShellScript", `{"runCommand":["id"]}`, ""},
		{"runShellScript", `{"runCommand":"id","timeoutSeconds":"{{ p }}","workingDirectory":"","onFailure":"exit","finallyStep":"true"}`, ""},
		{"runShellScript", `{"RunCommand":["{{ p }}",["a",1,true]],"TimeoutSeconds":60,"maxAttempts":3}`, ""},
		{"runShellScript", `{}`, `Missing input "runCommand" in step "s".`},
		{"runShellScript", `{"commands":["id"]}`, `Missing input "runCommand"`},
		{"runShellScript", `{"runCommand":{"a":"b"}}`, `Input "runCommand" should be a list of strings in step "s".`},
		{"runShellScript", `{"runCommand":[{"a":"b"}]}`, `Input "runCommand" should be a list of strings`},
		{"runShellScript", `{"runCommand":["a"],"timeoutSeconds":"soon"}`, `Input "timeoutSeconds" should be a number`},
		{"runShellScript", `{"runCommand":["a"],"workingDirectory":["/"]}`, `Input "workingDirectory" should be a string`},
		{"runShellScript", `{"runCommand":["a"],"finallyStep":"perhaps"}`, `Input "finallyStep" should be true or false`},
		{"runPowerShellScript", `{"runCommand":["Get-Date"]}`, ""},
		{"runDocument", `{"documentType":"SSMDocument","documentPath":"AWS-RunShellScript","documentParameters":{"commands":["{{ p }}"]}}`, ""},
		{"runDocument", `{"documentType":"LocalPath","documentPath":"x","documentParameters":"commands: [id]"}`, ""},
		{"runDocument", `{"documentType":"{{ p }}"}`, ""},
		{"runDocument", `{"documentType":"Other","documentPath":"x"}`, `Input "documentType" should be one of SSMDocument, LocalPath`},
		{"runDocument", `{"documentType":"LocalPath","documentPath":"x","documentParameters":["a"]}`, `Input "documentParameters" should be a map`},
		{"runDocument", `{"documentPath":"x"}`, `Missing input "documentType"`},
		{"downloadContent", `{"sourceType":"S3","sourceInfo":"{\"path\":\"https://x/{{ p }}\"}"}`, ""},
		{"downloadContent", `{"sourceType":"Ftp","sourceInfo":"{}"}`, `Input "sourceType" should be one of GitHub, Git, HTTP, S3, SSMDocument`},
		{"configurePackage", `{"name":"x","action":"Install"}`, ""},
		{"configurePackage", `{"name":"x","action":"Explode"}`, `Input "action" should be one of Install, Uninstall`},
		{"softwareInventory", `{}`, ""},
		{"runShellScript", `{"runCommand":["echo {{ ssm-secure:token:3 }}"]}`, "{{ ssm-secure:token:3 }} cannot be used in step \"s\" at mainSteps[0].inputs.runCommand[0]: a secret"},
		{"downloadContent", `{"sourceType":"GitHub","sourceInfo":"{\"tokenInfo\":\"{{ssm-secure:token}}\"}"}`, ""},
		{"downloadContent", `{"SourceType":"GitHub","SourceInfo":{"tokenInfo":"{{ssm-secure:token}}"}}`, ""},
		{"downloadContent", `{"sourceType":"GitHub","sourceInfo":"{}","destinationPath":"{{ssm-secure:token}}"}`, "{{ ssm-secure:token }} cannot be used in step"},
		{"configurePackage", `{"name":"x","action":"Install","additionalArguments":"{\"SSM_A\":\"{{ssm-secure:token}}\"}"}`, ""},
		{"refreshAssociation", `{"associationIds":[]}`, ""},
	} {
		content := `{"schemaVersion":"2.2","parameters":{"p":{"type":"String"}},"mainSteps":[{"name":"s","action":"aws:` + c.action + `","inputs":` + c.inputs + `}]}`
		expect(t, c.action+" "+c.inputs, content, JSON, "Command", CodeInvalidContent, c.want)
	}
	for _, action := range []string{"runShellScript", "runPowerShellScript"} {
		content := `{"schemaVersion":"2.2","mainSteps":[{"name":"s","action":"aws:` + action + `"}]}`
		expect(t, action+" without inputs", content, JSON, "Command", CodeInvalidContent, `Missing input "runCommand" in step "s".`)
	}
	expect(t, "a secret in a precondition", `{"schemaVersion":"2.2","parameters":{"p":{"type":"String"}},"mainSteps":[{"name":"s","action":"aws:runShellScript","inputs":{"runCommand":["id"]},"precondition":{"StringEquals":["{{ p }}","{{ssm-secure:x}}"]}}]}`,
		JSON, "Command", CodeInvalidContent, "{{ ssm-secure:x }} cannot be used in step")
	// A step may have settings and no inputs.
	expect(t, "settings", `{"schemaVersion":"2.2","mainSteps":[{"name":"s","action":"aws:cloudWatch","settings":{"startType":"Disabled"}}]}`, JSON, "Command", "", "")
}

func TestSession(t *testing.T) {
	document := func(body string) string {
		return `{"schemaVersion":"1.0","parameters":{"p":{"type":"String","default":"22"}},` + body + `}`
	}
	for body, want := range map[string]string{
		`"sessionType":"Standard_Stream","inputs":{"s3BucketName":"","s3EncryptionEnabled":true,"runAsEnabled":false,"idleSessionTimeout":"20","maxSessionDuration":"","shellProfile":{"linux":"bash"}}`: "",
		`"sessionType":"Standard_Stream","inputs":{"runAsEnabled":"{{ p }}"}`:                                                                                        "",
		`"sessionType":"InteractiveCommands","properties":{"linux":{"commands":"{{ p }}","runAsElevated":true},"windows":{"commands":"x"},"macos":{"commands":"x"}}`: "",
		`"sessionType":"NonInteractiveCommands","properties":{"linux":{"commands":"x","separateOutputStream":"true","stdoutSeparatorPrefix":"x"}}`:                   "",
		`"sessionType":"Port","properties":{"portNumber":"{{p}}","localPortNumber":0,"type":"LocalPortForwarding"}`:                                                  "",
		`"inputs":{}`:                                                                "Missing SessionType in the document.",
		`"sessionType":"X","inputs":{}`:                                              "Invalid sessionType",
		`"sessionType":"Standard_Stream"`:                                            "Missing Inputs in session type Standard_Stream document",
		`"sessionType":"Port"`:                                                       "Missing Properties in session type Port document",
		`"sessionType":"InteractiveCommands","inputs":{}`:                            "Missing Properties in session type InteractiveCommands document",
		`"sessionType":"Port","properties":[]`:                                       `"properties" should be a map.`,
		`"sessionType":"Port","properties":{"port":"1"}`:                             `Unknown property "port" in properties.`,
		`"sessionType":"Port","properties":{"portNumber":"{{ q }}"}`:                 `Parameter "q" is not declared. It is used in the document at properties.portNumber.`,
		`"sessionType":"InteractiveCommands","properties":{"solaris":{}}`:            `Unknown property "solaris" in properties`,
		`"sessionType":"InteractiveCommands","properties":{"linux":{"command":"x"}}`: `Unknown property "command" in properties.linux.`,
		`"sessionType":"Standard_Stream","inputs":{"runAsDefaultUser":"{{ p }}"}`:    `"runAsDefaultUser" cannot be given by a parameter.`,
		`"sessionType":"Standard_Stream","inputs":{"idleSessionTimeout":"61"}`:       `Input "idleSessionTimeout" should be a number of minutes from 1 to 60`,
		`"sessionType":"Standard_Stream","inputs":{"maxSessionDuration":"0"}`:        `Input "maxSessionDuration" should be a number of minutes from 1 to 1440`,
		`"sessionType":"Standard_Stream","inputs":{"s3EncryptionEnabled":"perhaps"}`: `Input "s3EncryptionEnabled" should be true or false`,
		`"sessionType":"Standard_Stream","inputs":{"s3Bucket":"x"}`:                  `Unknown property "s3Bucket" in inputs.`,
		`"sessionType":"Standard_Stream","inputs":{"shellProfile":{"bsd":""}}`:       `Unknown property "bsd" in inputs.shellProfile.`,
		`"sessionType":"Standard_Stream","inputs":{},"mainSteps":[]`:                 `Unknown property "mainSteps" in the document.`,
	} {
		expect(t, body, document(body), JSON, "Session", CodeInvalidContent, want)
	}
}

func TestOtherTypes(t *testing.T) {
	calendar := "BEGIN:VCALENDAR\r\nPRODID:-//x//EN\r\nVERSION:2.0\r\nX-CALENDAR-TYPE:DEFAULT_OPEN\r\nBEGIN:VEVENT\r\nSUMMARY:long\r\n  line\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	for i, c := range []struct {
		docType string
		format  Format
		content string
		want    string
	}{
		{"Package", JSON, `{"schemaVersion":"2.0","packages":{}}`, ""},
		{"Package", JSON, `{`, "JSON not well-formed."},
		{"Package", JSON, `[]`, "The document is not an object."},
		{"QuickSetup", YAML, "a: 1", ""},
		{"ApplicationConfiguration", TEXT, "anything", ""},
		{"ApplicationConfiguration", JSON, `[1]`, ""},
		{"ApplicationConfiguration", TEXT, "\xff", "The document is not UTF-8."},
		{"CloudFormation", JSON, `{"Resources":{}}`, `[message: "object has missing required properties`},
		{"CloudFormation", JSON, `{"schemaVersion":"1.0","templateBody":""}`, ""},
		{"ConformancePackTemplate", JSON, `{"schemaVersion":"1.0","templateBody":""}`, ""},
		{"ApplicationConfigurationSchema", JSON, `{"$schema":"x","type":["object","null"],"required":["a"],"properties":{"a":{"anyOf":[{"type":"string"},true]}},"additionalProperties":false}`, ""},
		{"ApplicationConfigurationSchema", JSON, `[]`, "The document is no JSON Schema: it should be an object at the top."},
		{"ApplicationConfigurationSchema", JSON, `{"properties":{"a":{"type":"text"}}}`, `The document is no JSON Schema: "type" should be one of null`},
		{"ApplicationConfigurationSchema", JSON, `{"properties":[]}`, `The document is no JSON Schema: "properties" should be a map of schemas at the top.`},
		{"ApplicationConfigurationSchema", JSON, `{"required":"a"}`, `The document is no JSON Schema: "required" should be a list of strings`},
		{"ApplicationConfigurationSchema", JSON, `{"allOf":[]}`, `The document is no JSON Schema: "allOf" should be a list of schemas`},
		{"ApplicationConfigurationSchema", JSON, `{"not":{"title":1}}`, `The document is no JSON Schema: "title" should be a string at not.`},
		{"ChangeCalendar", TEXT, calendar, ""},
		{"ChangeCalendar", JSON, `{}`, "A ChangeCalendar document is written as TEXT, not as JSON."},
		{"ChangeCalendar", TEXT, "", "The calendar does not end with END:VCALENDAR."},
		{"ChangeCalendar", TEXT, "VERSION:2.0", "The calendar does not begin with BEGIN:VCALENDAR."},
		{"ChangeCalendar", TEXT, "BEGIN:VCALENDAR\nX", "The calendar is no iCalendar text: the line has no colon."},
		{"ChangeCalendar", TEXT, strings.Replace(calendar, "END:VEVENT", "END:VALARM", 1), "The calendar ends VALARM, which is not open."},
		{"ChangeCalendar", TEXT, strings.Replace(calendar, "END:VCALENDAR", "", 1), "The calendar does not end with END:VCALENDAR."},
		{"ChangeCalendar", TEXT, calendar + "BEGIN:VCALENDAR", "Something follows the end of the calendar."},
		{"ChangeCalendar", TEXT, strings.Replace(calendar, "DEFAULT_OPEN", "OPEN", 1), "The calendar needs X-CALENDAR-TYPE"},
		{"Command", TEXT, "x", "A document of this type cannot be written as TEXT"},
	} {
		expect(t, fmt.Sprint(i, c.docType), c.content, c.format, c.docType, CodeInvalidContent, c.want)
	}
	for _, docType := range []string{"Command", "Package"} {
		expect(t, "size", `{"a":"`+strings.Repeat("x", maxSize)+`"}`, JSON, docType, CodeMaxSizeExceeded, "The document has 65544 bytes; the limit is 65536.")
	}
	expect(t, "size", "BEGIN:VCALENDAR"+strings.Repeat("x", maxSize), TEXT, "ChangeCalendar", CodeMaxSizeExceeded, "The document has 65551 bytes")
}

func TestSummary(t *testing.T) {
	s, err := Validate([]byte(`
schemaVersion: "2.2"
description: What it does
parameters:
  zeta: {type: StringList, description: first, default: [a, "<b>"]}
  alpha: {type: Integer, default: 3}
  needed: {type: "AWS::EC2::Instance::Id"}
  ids: {type: "List<AWS::EC2::Instance::Id>", maxItems: "5", default: null}
mainSteps:
- {name: s, action: "aws:runShellScript", inputs: {runCommand: [id]}}
`), YAML, "Command")
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %v", s.SchemaVersion, s.Description, s.PlatformTypes)
	for _, p := range s.Parameters {
		text := "none"
		if p.Default != nil {
			text = *p.Default
		}
		got += fmt.Sprintf("; %s %s %q %s", p.Name, p.Type, p.Description, text)
	}
	const want = `2.2 What it does [Linux MacOS]; zeta StringList "first" ["a","<b>"]; alpha String "" 3; needed String "" none; ids StringList "" none`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A byte order mark is seen by nobody who looks at the document, so it is named.
func TestByteOrderMark(t *testing.T) {
	const text = `{"schemaVersion":"2.2","mainSteps":[{"name":"s","action":"aws:runShellScript","inputs":{"runCommand":["id"]}}]}`
	const mark = "\xef\xbb\xbf"
	expect(t, "JSON", mark+text, JSON, "Command", CodeInvalidContent, "The document begins with a byte order mark (U+FEFF, as UTF-8 with BOM): write it in UTF-8 without one.")
	expect(t, "YAML may have one", mark+text, YAML, "Command", "", "")
	expect(t, "UTF-16", "\xff\xfe{\x00", YAML, "Command", CodeInvalidContent, "The document begins with a byte order mark (of UTF-16)")
}
