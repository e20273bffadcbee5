package document

import (
	"errors"
	"strings"
	"testing"
)

// runbook is a document with the parameters p and list, the variable v and the
// steps, in YAML.
func runbook(steps string) string {
	return `schemaVersion: "0.3"
assumeRole: "{{ p }}"
parameters:
  p: {type: "AWS::IAM::Role::Arn", default: ""}
  list: {type: StringList, default: [a]}
variables:
  v: {type: Integer, default: 1}
mainSteps:
` + steps
}

const sleepStep = `- {name: last, action: "aws:sleep", inputs: {Duration: PT1S}}
`

func TestAutomation(t *testing.T) {
	for name, steps := range map[string]string{
		"flow": `- name: a
  action: aws:runCommand
  description: "{{ not.a.reference }}"
  nextStep: last
  onFailure: step:last
  onCancel: step:last
  maxAttempts: "3"
  timeoutSeconds: "{{ p }}"
  isCritical: "false"
  inputs: {DocumentName: AWS-RunShellScript, InstanceIds: "{{ list }}", Parameters: {commands: ["echo {{global:DATE}} {{ automation:EXECUTION_ID }} {{print $2}} {{ .Go }} {{ RESOURCE_ID }}"]}}
` + sleepStep,
		"end":    `- {name: a, action: "aws:pause", isEnd: true, inputs: {}}` + "\n" + sleepStep,
		"no end": `- {name: a, action: "aws:pause", isEnd: "false", nextStep: last, onFailure: Continue, onCancel: abort}` + "\n" + sleepStep,
		"branch": `- name: choose
  action: aws:branch
  inputs:
    Default: last
    Choices:
    - {NextStep: last, Variable: "{{ p }}", StringEquals: a}
    - {NextStep: last, And: [{Variable: "{{ get.Count }}", NumericGreater: 3}, {Not: {Variable: "{{ variable:v }}", NumericEquals: "{{ p }}"}}]}
    - {NextStep: last, Or: [{Variable: x, BooleanEquals: true}, {Variable: x, EndsWith: y}]}
- {name: get, action: "aws:executeAwsApi", inputs: {Service: ssm, Api: DescribeInstanceInformation, MaxResults: 5}, outputs: [{Name: Count, Selector: $.Count, Type: Integer}, {Name: All, Selector: $}]}
` + sleepStep,
		"loop": `- name: each
  action: aws:loop
  onFailure: step:last
  inputs:
    Iterators: "{{ list }}"
    IteratorDataType: String
    Steps:
    - {name: inner, action: "aws:updateVariable", nextStep: inner2, inputs: {Name: "variable:v", Value: "{{ each.CurrentIteration }}"}}
    - {name: inner2, action: "aws:executeScript", onFailure: "step:last", inputs: {Runtime: python3.11, Handler: h, Script: "def h(e, c): return {{ each.CurrentIteratorValue }}", InputPayload: {a: "{{ inner2.Payload.x[0] }}"}}}
- {name: until, action: "aws:loop", inputs: {MaxIterations: 5, LoopCondition: {Variable: "{{ variable:v }}", NumericLesser: 3}, Steps: [{name: nap, action: "aws:sleep", inputs: {Timestamp: "2030-01-01T00:00:00Z"}}]}}
` + sleepStep + `outputs: [last.Nothing, "{{ each.CurrentIteration }}"]
files: {script.py: {checksums: {sha256: abc}}}
`,
		"powershell": `- {name: a, action: "aws:executeScript", inputs: {Runtime: PowerShell 7.4, Script: "Write-Host 1"}}` + "\n",
	} {
		if s, err := Validate([]byte(runbook(steps)), YAML, "Automation"); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if len(s.PlatformTypes) != 3 || len(s.Parameters) != 2 || s.Parameters[0].Type != "String" || *s.Parameters[1].Default != `["a"]` {
			t.Errorf("%s: %+v", name, s)
		}
	}
	store := `{"schemaVersion":"0.3","parameters":{"i":{"type":"Integer","default":"{{ssm:n}}"}},"mainSteps":[{"name":"a","action":"aws:pause","inputs":{}}]}`
	if _, err := Validate([]byte(store), JSON, "Automation"); err != nil {
		t.Error(err)
	}
}

func TestAutomationRefusals(t *testing.T) {
	inputs := func(action, inputs string) string {
		return `- {name: a, action: "aws:` + action + `", inputs: ` + inputs + "}\n" + sleepStep
	}
	step := func(members string) string {
		return `- {name: a, action: "aws:pause", inputs: {}, ` + members + "}\n" + sleepStep
	}
	choices := func(choice string) string { return inputs("branch", `{Choices: [`+choice+`]}`) }
	for name, c := range map[string]struct{ steps, want string }{
		"no steps":           {"", `Missing "mainSteps" in the document.`},
		"no name":            {`- {action: "aws:pause"}`, `Missing "name" in step detail.`},
		"name":               {`- {name: a-b, action: "aws:pause"}`, "StepName: a-b is invalid."},
		"name twice":         {sleepStep + sleepStep, `Duplicate step names found in mainSteps of the document. The name is "last". at Line: 10, Column: 10`},
		"action":             {`- {name: a, action: "aws:nope"}`, `Unknown action: aws:nope. It is that of step "a". at Line: 9, Column: 21`},
		"plugin":             {`- {name: a, action: "aws:runShellScript"}`, "Unknown action: aws:runShellScript."},
		"step key":           {step("precondition: {}"), `Unknown property "precondition" in step "a".`},
		"next":               {step("nextStep: nope"), `Unknown step name: "nope" in nextStep. It is in step "a". at Line: 9, Column: 56`},
		"end and next":       {step("isEnd: true, nextStep: last"), `"isEnd == true" and nextStep should not exist in same step.`},
		"failure":            {step("onFailure: step:nope"), `Unknown step name: "nope" in onFailure.`},
		"failure word":       {step("onFailure: Ignore"), `Invalid onFailure: "Ignore".`},
		"cancel":             {step("onCancel: step:nope"), `Unknown step name: "nope" in onCancel.`},
		"cancel word":        {step("onCancel: Continue"), `Invalid onCancel: "Continue".`},
		"critical":           {step("isCritical: maybe"), `Input "isCritical" should be true or false in step "a".`},
		"attempts":           {step("maxAttempts: many"), `Input "maxAttempts" should be a number`},
		"reference":          {inputs("sleep", `{Duration: "{{ nope }}"}`), `Parameter "nope" is not declared. It is used in step "a" at mainSteps[0].inputs.Duration. at Line: 9`},
		"reference below":    {inputs("runCommand", `{DocumentName: x, Parameters: {commands: [a, "{{ else }}"]}}`), `Parameter "else" is not declared. It is used in step "a" at mainSteps[0].inputs.Parameters.commands[1].`},
		"reference in time":  {step(`timeoutSeconds: "{{ nope }}"`), `Parameter "nope" is not declared. It is used in step "a" at timeoutSeconds.`},
		"global":             {inputs("sleep", `{Duration: "{{ global:NOPE }}"}`), `Parameter "global:NOPE" is not declared`},
		"automation":         {inputs("sleep", `{Duration: "{{automation:ID}}"}`), `Parameter "automation:ID" is not declared`},
		"variable":           {inputs("sleep", `{Duration: "{{variable:w}}"}`), `Variable "w" is not declared.`},
		"output":             {inputs("sleep", `{Duration: "{{ nope.Out }}"}`), `Parameter "nope.Out" is not declared: there is no step "nope".`},
		"store":              {inputs("sleep", `{Duration: "{{ ssm:x }}"}`), "only as the default of a parameter"},
		"inputs":             {inputs("sleep", `[]`), `"inputs" should be a map`},
		"unknown input":      {inputs("runCommand", `{DocumentName: x, commands: y}`), "Unknown input names provided. Known=[ [DocumentName, "},
		"missing input":      {inputs("runCommand", `{InstanceIds: []}`), "Missing required input names. Required=[ [DocumentName] ], Provided =[ [InstanceIds] ]."},
		"no inputs":          {`- {name: a, action: "aws:executeAwsApi"}`, "Missing required input names. Required=[ [Service, Api] ], Provided =[ [] ]."},
		"neither input":      {inputs("sleep", `{}`), "One of Duration and Timestamp is needed."},
		"no handler":         {inputs("executeScript", `{Runtime: python3.8, Script: x}`), "A script of Python needs a Handler"},
		"input's kind":       {inputs("changeInstanceState", `{InstanceIds: {a: b}, DesiredState: running}`), `Input "InstanceIds" should be a list of strings in step "a".`},
		"input's value":      {inputs("changeInstanceState", `{InstanceIds: [a], DesiredState: asleep}`), `Input "DesiredState" should be one of running, stopped, terminated`},
		"output list":        {step("outputs: {}"), `"outputs" should be a list`},
		"output name":        {step("outputs: [{Selector: $}]"), `Missing "Name" of an output`},
		"output type":        {step("outputs: [{Name: a, Selector: $, Type: Map}]"), "Output type: Map is invalid"},
		"output key":         {step("outputs: [{Name: a, Selectr: $}]"), `Unknown property "Selectr" of an output in step "a".`},
		"named output":       {sleepStep + "outputs: [nope.x]", "Unknown step name in named output: nope.x"},
		"choices":            {inputs("branch", "{Choices: []}"), "Choices should be a list that is not empty"},
		"choice":             {choices("{Variable: a, StringEquals: b}"), "Missing NextStep in a choice"},
		"choice's step":      {choices("{NextStep: x, Variable: a, StringEquals: b}"), `Unknown step name: "x" in NextStep.`},
		"default":            {inputs("branch", "{Default: x, Choices: [{NextStep: last, Variable: a, StringEquals: b}]}"), `Unknown step name: "x" in Default.`},
		"operator":           {choices("{NextStep: last, Variable: a, Equals: b}"), "Unknown operator: Equals"},
		"no operator":        {choices("{NextStep: last, Variable: a}"), "Missing operator"},
		"no variable":        {choices("{NextStep: last, StringEquals: a}"), "Missing Variable"},
		"two operators":      {choices("{NextStep: last, Variable: a, StringEquals: b, StartsWith: c}"), "An expression has one operator"},
		"one operand":        {choices("{NextStep: last, Or: [{Variable: a, StringEquals: b}]}"), "Expect at lease two expressions for operator: Or in step: a. Provided: 1"},
		"operand":            {choices("{NextStep: last, Variable: a, NumericEquals: b}"), "The operator NumericEquals cannot compare"},
		"loop over nothing":  {inputs("loop", `{Steps: [{name: b, action: "aws:pause", inputs: {}}]}`), "One of Iterators and LoopCondition is needed."},
		"loop without steps": {inputs("loop", `{Iterators: [a], Steps: []}`), "Steps should be a list that is not empty"},
		"loop's step":        {inputs("loop", `{Iterators: [a], Steps: [{name: last, action: "aws:pause"}]}`), "Duplicate step names"},
		"loop's action":      {inputs("loop", `{Iterators: [a], Steps: [{name: b, action: "aws:nope"}]}`), "Unknown action: aws:nope."},
		"loop's iterations":  {inputs("loop", `{Iterators: [a], MaxIterations: 101, Steps: [{name: b, action: "aws:pause"}]}`), "MaxIterations should be a number from 1 to 100"},
		"loop's reference":   {inputs("loop", `{Iterators: [a], Steps: [{name: b, action: "aws:sleep", inputs: {Duration: "{{ x }}"}}]}`), `Parameter "x" is not declared. It is used in step "b" at mainSteps[0].inputs.Steps[0].inputs.Duration.`},
		"updated variable":   {inputs("updateVariable", "{Name: w, Value: 1}"), `Variable "w" is not declared.`},
		"unknown top member": {sleepStep + "runtimeConfig: {}", `Unknown property "runtimeConfig" in the document.`},
		"files":              {sleepStep + "files: []", `"files" should be a map.`},
	} {
		_, err := Validate([]byte(runbook(c.steps)), YAML, "Automation")
		var refusal *Error
		if !errors.As(err, &refusal) || refusal.Code != CodeInvalidContent || !strings.Contains(err.Error(), c.want) || refusal.Line == 0 {
			t.Errorf("%s\ngot  %v\nwant %s", name, err, c.want)
		}
	}
}

func TestAutomationHeadRefusals(t *testing.T) {
	const steps = `"mainSteps":[{"name":"a","action":"aws:pause","inputs":{}}]`
	for content, want := range map[string]string{
		`{"schemaVersion":"0.3","assumeRole":"{{ role }}",` + steps + `}`:                              `Parameter "role" is not declared. It is used in the document at assumeRole.`,
		`{"schemaVersion":"0.3","assumeRole":"{{ssm:x}}",` + steps + `}`:                               "only as the default of a parameter",
		`{"schemaVersion":"0.3","assumeRole":1,` + steps + `}`:                                         `"assumeRole" should be String`,
		`{"schemaVersion":"0.3","variables":[],` + steps + `}`:                                         `"variables" should be a map.`,
		`{"schemaVersion":"0.3","variables":{"a":{}},` + steps + `}`:                                   `Missing "type" in variable definition.`,
		`{"schemaVersion":"0.3","variables":{"a":{"type":"Int"}},` + steps + `}`:                       "Variable type: Int is invalid.",
		`{"schemaVersion":"0.3","variables":{"a":{"type":"Integer","default":"x"}},` + steps + `}`:     `Wrong default value for a "Integer" variable.`,
		`{"schemaVersion":"0.3","variables":{"a-b":{"type":"Integer"}},` + steps + `}`:                 `Variable name "a-b" is not alpha-numeric.`,
		`{"schemaVersion":"0.3","parameters":{"event_type":{"type":"String"}},` + steps + `}`:          `Parameter name "event_type" is not alpha-numeric.`,
		`{"schemaVersion":"0.3","parameters":{"p":{"type":"Boolean","default":"true"}},` + steps + `}`: `Wrong default value for a "Boolean" parameters.`,
		`{"schemaVersion":"0.3","mainSteps":{"a":1}}`:                                                  `"mainSteps" should be a list of steps.`,
	} {
		if _, err := Validate([]byte(content), JSON, "Automation"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot  %v\nwant %s", content, err, want)
		}
	}
}
