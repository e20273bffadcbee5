package awsjson

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

const mw = "mw-0123456789abcdef0"

func TestValidate(t *testing.T) {
	const (
		namePattern = "Member must satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.:/]{3,128}$"
		send        = `{"DocumentName":"AWS-RunShellScript",`
	)
	for _, c := range []struct{ name, operation, body, code, message string }{
		{"nothing asked for", "DescribeInstanceInformation", `{}`, "", ""},
		{"all well", "SendCommand", send + `"Targets":[{"Key":"tag:role","Values":["web"]}],"TimeoutSeconds":30,"Parameters":{"commands":["id"]},"MaxErrors":"10%"}`, "", ""},
		{"null is absent", "SendCommand", send + `"InstanceIds":null,"TimeoutSeconds":null}`, "", ""},
		{"spaces around", "ListCommands", " {\n} ", "", ""},
		{"recursive", "GetInventory", `{"Aggregators":[{"Expression":"a","Aggregators":[{"Expression":"b"}]}]}`, "", ""},
		{"blob", "RegisterTaskWithMaintenanceWindow", `{"WindowId":"` + mw + `","TaskArn":"x","TaskType":"LAMBDA","TaskInvocationParameters":{"Lambda":{"Payload":"AAH/"}}}`, "", ""},
		{"union", "StartExecutionPreview", `{"DocumentName":"AWS-X","ExecutionInputs":{"Automation":{}}}`, "", ""},
		{"timestamp", "CreateActivation", `{"IamRole":"r","ExpirationDate":1.7e9}`, "", ""},

		{"required", "SendCommand", `{}`, "ValidationException",
			"1 validation error detected: Value null at 'documentName' failed to satisfy constraint: Member must not be null"},
		{"required, null given", "CancelCommand", `{"CommandId":null}`, "ValidationException",
			"1 validation error detected: Value null at 'commandId' failed to satisfy constraint: Member must not be null"},
		{"nested required", "DescribeInstanceInformation", `{"Filters":[{"Key":"k","Values":["v"]},{"Key":"k"}]}`, "ValidationException",
			"1 validation error detected: Value null at 'filters.2.member.values' failed to satisfy constraint: Member must not be null"},
		{"null element", "SendCommand", send + `"InstanceIds":[null]}`, "ValidationException",
			"1 validation error detected: Value null at 'instanceIds.1.member' failed to satisfy constraint: Member must not be null"},
		{"pattern", "SendCommand", `{"DocumentName":"a b"}`, "ValidationException",
			"1 validation error detected: Value 'a b' at 'documentName' failed to satisfy constraint: " + namePattern},
		{"pattern of the whole value", "SendCommand", send + `"InstanceIds":["i-01234567\n"]}`, "ValidationException",
			"1 validation error detected: Value 'i-01234567\n' at 'instanceIds.1.member' failed to satisfy constraint: Member must satisfy regular expression pattern: (^i-(\\w{8}|\\w{17})$)|(^mi-\\w{17}$)"},
		{"two at one value, path", "DescribeInstanceInformation", `{"Filters":[{"Key":"","Values":[]}]}`, "ValidationException",
			"2 validation errors detected: Value '' at 'filters.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value '[]' at 'filters.1.member.values' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"length", "SendCommand", send + `"Comment":"` + strings.Repeat("é", 101) + `"}`, "ValidationException",
			"1 validation error detected: Value '" + strings.Repeat("é", 101) + "' at 'comment' failed to satisfy constraint: Member must have length less than or equal to 100"},
		{"length counts characters", "SendCommand", send + `"Comment":"` + strings.Repeat("🙂", 100) + `"}`, "", ""},
		{"escapes are one character", "SendCommand", send + `"Comment":"` + strings.Repeat(`\u00e9`, 100) + `"}`, "", ""},
		{"range", "SendCommand", send + `"TimeoutSeconds":29}`, "ValidationException",
			"1 validation error detected: Value '29' at 'timeoutSeconds' failed to satisfy constraint: Member must have value greater than or equal to 30"},
		{"range above", "SendCommand", send + `"TimeoutSeconds":2592001}`, "ValidationException",
			"1 validation error detected: Value '2592001' at 'timeoutSeconds' failed to satisfy constraint: Member must have value less than or equal to 2592000"},
		{"enum", "AddTagsToResource", `{"ResourceType":"Cat","ResourceId":"x","Tags":[]}`, "ValidationException",
			"1 validation error detected: Value 'Cat' at 'resourceType' failed to satisfy constraint: Member must satisfy enum value set: " +
				"[Document, ManagedInstance, MaintenanceWindow, Parameter, PatchBaseline, OpsItem, OpsMetadata, Automation, Association]"},
		{"too many", "CancelCommand", `{"CommandId":"0123456789abcdef0123456789abcdef0123","InstanceIds":[` + strings.Repeat(`"i-01234567",`, 50) + `"i-01234567"]}`, "ValidationException",
			"1 validation error detected: Value '[" + strings.Repeat(`"i-01234567",`, 10)[:119] + "…' at 'instanceIds' failed to satisfy constraint: Member must have length less than or equal to 50"},
		{"map of too many, and key", "StartAutomationExecution", `{"DocumentName":"AWS-X","Parameters":{"` + strings.Repeat("k", 51) + `":[]}}`, "ValidationException",
			"1 validation error detected: Value '" + strings.Repeat("k", 51) + "' at 'parameters." + strings.Repeat("k", 51) + "' failed to satisfy constraint: Member must have length less than or equal to 50"},
		{"empty map", "StartAutomationExecution", `{"DocumentName":"AWS-X","Parameters":{}}`, "ValidationException",
			"1 validation error detected: Value '{}' at 'parameters' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"unknown member", "SendCommand", send + `"InstanceIDs":[{"deep":1}]}`, "ValidationException",
			"1 validation error detected: Value at 'InstanceIDs' failed to satisfy constraint: Member is unknown to SendCommand, which has InstanceIds"},
		{"unknown member, nested", "SendCommand", send + `"Targets":[{"Kind":"x"}]}`, "ValidationException",
			"1 validation error detected: Value at 'targets.1.member.Kind' failed to satisfy constraint: Member is unknown to SendCommand"},
		{"old filters start lower-case", "ListCommands", `{"Filters":[{"Key":"Status","Value":"x"}]}`, "ValidationException",
			"4 validation errors detected: Value at 'filters.1.member.Key' failed to satisfy constraint: Member is unknown to ListCommands, which has key; " +
				"Value at 'filters.1.member.Value' failed to satisfy constraint: Member is unknown to ListCommands, which has value; " +
				"Value null at 'filters.1.member.key' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'filters.1.member.value' failed to satisfy constraint: Member must not be null"},
		{"empty union", "StartExecutionPreview", `{"DocumentName":"AWS-X","ExecutionInputs":{}}`, "ValidationException",
			"1 validation error detected: Value at 'executionInputs' failed to satisfy constraint: Member must have exactly one of its members set"},

		{"wrong type", "SendCommand", `{"DocumentName":1}`, "SerializationException", "the value at 'documentName' is not a string"},
		{"wrong type, list", "SendCommand", send + `"InstanceIds":"i-1"}`, "SerializationException", "the value at 'instanceIds' is not a list"},
		{"wrong type, map", "SendCommand", send + `"Parameters":["commands"]}`, "SerializationException", "the value at 'parameters' is not an object"},
		{"wrong type, element", "SendCommand", send + `"Parameters":{"commands":"id"}}`, "SerializationException", "the value at 'parameters.commands' is not a list"},
		{"wrong type, structure", "SendCommand", send + `"Targets":["x"]}`, "SerializationException", "the value at 'targets.1.member' is not an object"},
		{"fraction", "SendCommand", send + `"TimeoutSeconds":30.5}`, "SerializationException", "the value at 'timeoutSeconds' is not a whole number of 32 bits"},
		{"large", "SendCommand", send + `"TimeoutSeconds":4294967326}`, "SerializationException", "the value at 'timeoutSeconds' is not a whole number of 32 bits"},
		{"quoted number", "SendCommand", send + `"TimeoutSeconds":"30"}`, "SerializationException", "the value at 'timeoutSeconds' is not a whole number of 32 bits"},
		{"quoted boolean", "ListCommandInvocations", `{"Details":"true"}`, "SerializationException", "the value at 'details' is not true or false"},
		{"text for time", "CreateActivation", `{"IamRole":"r","ExpirationDate":"2030-01-01T00:00:00Z"}`, "SerializationException", "the value at 'expirationDate' is not a number of epoch seconds"},
		{"not base64", "RegisterTaskWithMaintenanceWindow", `{"TaskInvocationParameters":{"Lambda":{"Payload":"hunter2!"}}}`, "SerializationException", "the value at 'taskInvocationParameters.lambda.payload' is not a base64 string"},
		{"duplicate", "SendCommand", send + `"DocumentName":"x"}`, "SerializationException", "the member '/DocumentName' is there twice"},
		{"duplicate, nested", "SendCommand", send + `"Parameters":{"a":[],"a":[]}}`, "SerializationException", "the member '/Parameters/a' is there twice"},
		{"duplicate inside an unknown one", "SendCommand", send + `"X":{"a":1,"a":2}}`, "SerializationException", "the member '/X/a' is there twice"},
		{"syntax comes first", "SendCommand", `{"DocumentName":"a b",}`, "SerializationException", "malformed JSON at byte 21"},
		{"cut off", "SendCommand", `{"DocumentName":`, "SerializationException", "malformed JSON at byte 16"},
		{"empty", "SendCommand", ``, "SerializationException", "malformed JSON"},
		{"two values", "ListCommands", `{}{}`, "SerializationException", "there is more than one value in the request"},
		{"a list", "ListCommands", `[]`, "SerializationException", "the request is not an object"},
		{"null", "ListCommands", `null`, "SerializationException", "the request is not an object"},
		{"invalid UTF-8", "ListCommands", "{\"CommandId\":\"\xff\"}", "SerializationException", "malformed JSON at byte 14"},
		{"deep", "GetInventory", strings.Repeat(`{"Aggregators":[`, 40), "SerializationException", "the request nests deeper than 64 levels"},
		{"large body", "ListCommands", strings.Repeat(" ", maxSize) + "{}", "SerializationException", "the request is larger than 4194304 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, message := "", ""
			if err := Validate(c.operation, []byte(c.body)); err != nil {
				var e *smithy.GenericAPIError
				if !errors.As(err, &e) {
					t.Fatalf("not an API error: %v", err)
				}
				code, message = e.Code, e.Message
			}
			if code != c.code || message != c.message {
				t.Errorf("got  %s %s\nwant %s %s", code, message, c.code, c.message)
			}
		})
	}
}

func TestValidateUnknownOperation(t *testing.T) {
	for _, name := range []string{"", "sendCommand", "SendCommandX", "Mesh.Status", strings.Repeat("x", 10000)} {
		err := Validate(name, []byte(`{}`))
		if !errors.Is(err, ErrUnknownOperation) || len(err.Error()) > 300 {
			t.Errorf("%.20s: %v", name, err)
		}
	}
}

// TestValidateListsAtMostTen also bounds the message, whatever is wrong.
func TestValidateListsAtMostTen(t *testing.T) {
	long := strings.Repeat("x", 100000)
	body := `{"` + long + `":1,"DocumentName":"` + long + `!","InstanceIds":[` + strings.Repeat(`"`+long[:1000]+`",`, 30) + `"bad"]}`
	err := Validate("SendCommand", []byte(body))
	if err == nil || !strings.HasPrefix(err.Error(), "api error ValidationException: 33 validation errors detected: ") ||
		!strings.HasSuffix(err.Error(), "; and 23 more") || strings.Count(err.Error(), "failed to satisfy") != 10 || len(err.Error()) > 8000 {
		t.Errorf("got %v", err)
	}
}

// TestValidateHidesSecrets: no value of a sensitive member is in a message.
func TestValidateHidesSecrets(t *testing.T) {
	for operation, body := range map[string]string{
		"SendCommand":                 `{"DocumentName":"abc","Parameters":{"commands":"hunter2"}}`,
		"CreateMaintenanceWindow":     `{"Description":"hunter2` + strings.Repeat("x", 200) + `"}`,
		"CreatePatchBaseline":         `{"Sources":[{"Name":"abc","Products":["a"],"Configuration":"` + strings.Repeat("hunter2", 200) + `"}]}`,
		"PutParameter":                `{"Value":{"hunter2":1},"Nmae":"hunter2"}`,
		"UpdateMaintenanceWindow":     `{"WindowId":"x","Description":["hunter2"]}`,
		"DescribeInstanceInformation": `{"MaxResults":"hunter2"}`,
		"RegisterTaskWithMaintenanceWindow": `{"TaskInvocationParameters":{"StepFunctions":{"Input":"` + strings.Repeat("hunter2", 1000) + `"},` +
			`"Lambda":{"Payload":"` + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("hunter2", 1000))) + `"}},"TaskParameters":{"k":{"Values":["` + strings.Repeat("hunter2", 100) + `"]}}}`,
	} {
		err := Validate(operation, []byte(body))
		if err == nil {
			t.Errorf("%s: no error", operation)
			continue
		}
		for _, secret := range []string{"hunter2", "aHVudGVyM"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", operation, err)
			}
		}
	}
}

func TestMask(t *testing.T) {
	const hidden = "HIDDEN_DUE_TO_SECURITY_REASONS"
	for _, c := range []struct{ name, operation, body, want string }{
		{"script", "SendCommand", `{"DocumentName":"d", "Parameters":{"commands":["hunter2"]},"Targets":[{"Key":"k","Values":["v"]}]}`,
			`{"DocumentName":"d","Parameters":"` + hidden + `","Targets":[{"Key":"k","Values":["v"]}]}`},
		{"parameter", "PutParameter", `{"Name":"n","Value":"hunter2","Overwrite":true,"Type":null}`, `{"Name":"n","Value":"` + hidden + `","Overwrite":true,"Type":null}`},
		{"nested", "CreatePatchBaseline", `{"Sources":[{"Name":"n","Configuration":"hunter2"}]}`, `{"Sources":[{"Name":"n","Configuration":"` + hidden + `"}]}`},
		{"no secret", "CreateActivation", `{"ExpirationDate":1.5,"RegistrationLimit":2,"Tags":[{"Key":"a","Value":"b"}]}`, `{"ExpirationDate":1.5,"RegistrationLimit":2,"Tags":[{"Key":"a","Value":"b"}]}`},
		{"unknown member", "CreateActivation", `{"Secret":"hunter2"}`, `{"Secret":"` + hidden + `"}`},
		{"wrong type", "CreateActivation", `{"IamRole":{"x":"hunter2"},"Tags":{"Key":"hunter2"}}`, `{"IamRole":"` + hidden + `","Tags":"` + hidden + `"}`},
		{"map of no secrets", "StartAutomationExecution", `{"Parameters":{"a":["b"]}}`, `{"Parameters":{"a":["b"]}}`},
		{"no JSON", "SendCommand", `{"Parameters":"hunter2"`, `"` + hidden + `"`},
		{"more than one", "SendCommand", `{} "hunter2"`, `"` + hidden + `"`},
		{"not an object", "SendCommand", `"hunter2"`, `"` + hidden + `"`},
		{"unknown operation", "Nope", `{"a":"hunter2"}`, `"` + hidden + `"`},
	} {
		if got := Mask(c.operation, []byte(c.body)); string(got) != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("SendCommand", []byte(`{"DocumentName":"d","Targets":[{"Key":"tag:a","Values":["b"]}],"Parameters":{"commands":["hunter2"]},"TimeoutSeconds":30}`))
	f.Add("GetInventory", []byte(`{"Aggregators":[{"Expression":"x","Groups":[{"Name":"n","Filters":[{"Key":"k","Values":["v"]}]}]}]}`))
	f.Add("RegisterTaskWithMaintenanceWindow", []byte(`{"TaskInvocationParameters":{"Lambda":{"Payload":"AAH/"}}}`))
	f.Add("StartExecutionPreview", []byte(`{"ExecutionInputs":{"Automation":{"TargetMaps":[{"a":["b"]}]}}}`))
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		err := Validate(operation, body)
		maskedBody := Mask(operation, body)
		if !json.Valid(maskedBody) {
			t.Fatalf("the mask is no JSON: %s", maskedBody)
		}
		if errors.Is(err, ErrUnknownOperation) {
			return
		}
		var e *smithy.GenericAPIError
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("not an API error: %v", err)
		}
		if err != nil && len(e.Message) > 16<<10 {
			t.Fatalf("a message of %d bytes", len(e.Message))
		}
		if err == nil && operation == "SendCommand" {
			// What passes can be read, and says the same when written again.
			var input ssm.SendCommandInput
			if err := UnmarshalStrict(body, &input); err != nil {
				t.Fatalf("validated, but not read: %v: %s", err, body)
			}
		}
		if again := Validate(operation, body); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Fatalf("not the same answer twice: %v, %v", err, again)
		}
	})
}
