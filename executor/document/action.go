package document

import (
	"slices"
	"strings"
)

// action is what SSM says of an action of runbooks.
type action struct {
	inputs []input
	// open: further inputs are those of the AWS operation that it calls.
	open bool
}

// actions are SSM's. The last three are used by its own runbooks alone.
var actions = map[string]action{
	"aws:approve": {inputs: []input{
		optional("Approvers", textsInput), optional("EnhancedApprovals", mapInput), optional("MinRequiredApprovals", numberInput),
		optional("Message", textInput), optional("NotificationArn", textInput),
	}},
	"aws:assertAwsResourceProperty": {open: true, inputs: propertyInputs},
	"aws:branch":                    {inputs: []input{required("Choices", mapsInput), optional("Default", textInput)}},
	"aws:changeInstanceState": {inputs: []input{
		required("InstanceIds", textsInput), required("DesiredState", textInput, "running", "stopped", "terminated"), optional("CheckStateOnly", booleanInput),
		optional("Force", booleanInput), optional("AdditionalInfo", textInput), optional("FailOnUnexpectedStopped", booleanInput),
	}},
	"aws:copyImage": {inputs: []input{
		required("SourceRegion", textInput), required("SourceImageId", textInput), required("ImageName", textInput), optional("ImageDescription", textInput),
		optional("Encrypted", booleanInput), optional("KmsKeyId", textInput), optional("ClientToken", textInput), optional("CopyImageTags", booleanInput),
		optional("TagSpecifications", mapsInput),
	}},
	"aws:createImage": {inputs: []input{
		required("InstanceId", textInput), required("ImageName", textInput), optional("ImageDescription", textInput), optional("NoReboot", booleanInput),
		optional("BlockDeviceMappings", mapsInput), optional("TagSpecifications", mapsInput),
	}},
	"aws:createStack": {inputs: []input{
		required("StackName", textInput), optional("Capabilities", textsInput), optional("ClientRequestToken", textInput), optional("DisableRollback", booleanInput),
		optional("EnableTerminationProtection", booleanInput), optional("NotificationARNs", textsInput),
		optional("OnFailure", textInput, "DO_NOTHING", "ROLLBACK", "DELETE"), optional("Parameters", mapsInput), optional("ResourceTypes", textsInput),
		optional("RoleARN", textInput), optional("StackPolicyBody", anyInput), optional("StackPolicyURL", textInput), optional("Tags", mapsInput),
		optional("TemplateBody", anyInput), optional("TemplateURL", textInput), optional("TimeoutInMinutes", numberInput),
	}},
	"aws:createTags":  {inputs: []input{required("ResourceIds", textsInput), required("Tags", mapsInput), optional("ResourceType", textInput)}},
	"aws:deleteImage": {inputs: []input{required("ImageId", textInput)}},
	"aws:deleteStack": {inputs: []input{
		required("StackName", textInput), optional("ClientRequestToken", textInput), optional("RetainResources", textsInput), optional("RoleARN", textInput),
	}},
	"aws:executeAutomation": {inputs: []input{
		required("DocumentName", textInput), optional("DocumentVersion", textInput), optional("RuntimeParameters", mapInput), optional("MaxConcurrency", textInput),
		optional("MaxErrors", textInput), optional("Tags", mapsInput), optional("TargetLocations", mapsInput), optional("TargetLocationsURL", textInput),
		optional("TargetMaps", mapsInput), optional("TargetParameterName", textInput), optional("Targets", mapsInput),
	}},
	"aws:executeAwsApi": {open: true, inputs: []input{required("Service", textInput), required("Api", textInput)}},
	"aws:executeScript": {inputs: []input{
		required("Runtime", textInput), optional("Handler", textInput), optional("Script", textInput), optional("Attachment", textInput),
		optional("InputPayload", mapInput),
	}},
	"aws:executeStateMachine": {inputs: []input{required("stateMachineArn", textInput), optional("name", textInput), optional("input", anyInput)}},
	"aws:invokeLambdaFunction": {inputs: []input{
		required("FunctionName", textInput), optional("Qualifier", textInput), optional("InvocationType", textInput, "Event", "RequestResponse", "DryRun"),
		optional("LogType", textInput, "None", "Tail"), optional("ClientContext", anyInput), optional("InputPayload", mapInput), optional("Payload", anyInput),
	}},
	"aws:invokeWebhook": {inputs: []input{required("IntegrationName", textInput), optional("Body", anyInput)}},
	"aws:loop": {inputs: []input{
		required("Steps", mapsInput), optional("Iterators", textsInput), optional("IteratorDataType", textInput, "Boolean", "Integer", "String", "StringMap"),
		optional("LoopCondition", mapInput), optional("MaxIterations", numberInput),
	}},
	"aws:pause": {inputs: []input{optional("Message", textInput)}},
	"aws:runCommand": {inputs: []input{
		required("DocumentName", textInput), optional("DocumentVersion", textInput), optional("DocumentHash", textInput),
		optional("DocumentHashType", textInput, "Sha256", "Sha1"), optional("InstanceIds", textsInput), optional("Targets", mapsInput),
		optional("Parameters", mapInput), optional("CloudWatchOutputConfig", mapInput), optional("Comment", textInput), optional("MaxConcurrency", textInput),
		optional("MaxErrors", textInput), optional("NotificationConfig", mapInput), optional("OutputS3BucketName", textInput),
		optional("OutputS3KeyPrefix", textInput), optional("ServiceRoleArn", textInput), optional("TimeoutSeconds", numberInput),
	}},
	"aws:runInstances": {inputs: []input{
		required("ImageId", textInput), optional("AdditionalInfo", textInput), optional("BlockDeviceMappings", mapsInput), optional("ClientToken", textInput),
		optional("DisableApiTermination", booleanInput), optional("EbsOptimized", booleanInput), optional("IamInstanceProfileArn", textInput),
		optional("IamInstanceProfileName", textInput), optional("InstanceInitiatedShutdownBehavior", textInput), optional("InstanceType", textInput),
		optional("KernelId", textInput), optional("KeyName", textInput), optional("MaxInstanceCount", numberInput), optional("MetadataOptions", mapInput),
		optional("MinInstanceCount", numberInput), optional("Monitoring", booleanInput), optional("NetworkInterfaces", mapsInput), optional("Placement", mapInput),
		optional("PrivateIpAddress", textInput), optional("RamdiskId", textInput), optional("SecurityGroupIds", textsInput), optional("SecurityGroups", textsInput),
		optional("SubnetId", textInput), optional("TagSpecifications", mapsInput), optional("UserData", textInput),
	}},
	"aws:sleep":                      {inputs: []input{optional("Duration", textInput), optional("Timestamp", textInput)}},
	"aws:updateVariable":             {inputs: []input{required("Name", textInput), required("Value", anyInput)}},
	"aws:waitForAwsResourceProperty": {open: true, inputs: propertyInputs},

	"aws:installDistributorPackageOnAzure": {open: true},
	"aws:putServerUpgradeMetrics":          {open: true},
	"aws:shareSQLMedia":                    {open: true},
}

var propertyInputs = []input{required("Service", textInput), required("Api", textInput), required("PropertySelector", textInput), required("DesiredValues", textsInput)}

// oneOf are the inputs of actions of which one is needed.
var oneOf = map[string][]string{
	"aws:approve":       {"Approvers", "EnhancedApprovals"},
	"aws:executeScript": {"Script", "Attachment"},
	"aws:loop":          {"Iterators", "LoopCondition"},
	"aws:sleep":         {"Duration", "Timestamp"},
}

// checkAction refuses inputs that do not fit; n is the step, inputs may be nil.
func checkAction(name string, n, inputs *node, user string) error {
	a := actions[name]
	provided, place := []string(nil), n
	if inputs != nil {
		provided, place = inputs.names(), inputs
	}
	has := func(name string) bool { return slices.Contains(provided, name) }
	names, needed := make([]string, len(a.inputs)), []string(nil)
	for i, in := range a.inputs {
		names[i] = in.name
		if in.required {
			needed = append(needed, in.name)
		}
	}
	bracketed := func(names []string) string { return "[ [" + strings.Join(names, ", ") + "] ]" }
	if !a.open && slices.ContainsFunc(provided, func(name string) bool { return !slices.Contains(names, name) }) {
		return place.errorf("Unknown input names provided. Known=%s, Provided=%s. The action is %s %s.", bracketed(names), bracketed(provided), name, user)
	}
	if slices.ContainsFunc(needed, func(name string) bool { return !has(name) }) {
		return place.errorf("Missing required input names. Required=%s, Provided =%s. The action is %s %s.", bracketed(needed), bracketed(provided), name, user)
	}
	if choice := oneOf[name]; choice != nil && !slices.ContainsFunc(choice, has) {
		return place.errorf("Missing required input names. One of %s is needed. The action is %s %s.", strings.Join(choice, " and "), name, user)
	}
	for _, in := range a.inputs {
		if has(in.name) {
			if value := inputs.field(in.name); value != nil {
				if err := in.check(value, user); err != nil {
					return err
				}
			}
		}
	}
	if name == "aws:executeScript" && !has("Handler") && strings.HasPrefix(strings.ToLower(inputs.field("Runtime").textOr("")), "python") {
		return place.errorf("Missing required input names. Required=%s, Provided =%s. A script of Python needs a Handler %s.", bracketed(append(needed, "Handler")), bracketed(provided), user)
	}
	return nil
}

// textOr is the text of a string; otherwise for a nil node or another kind.
func (n *node) textOr(otherwise string) string {
	if n == nil || n.kind != '"' {
		return otherwise
	}
	return n.text
}

// stepTarget returns the step in a value such as "step:name".
func stepTarget(text string) (string, bool) {
	prefix, name, ok := strings.Cut(text, ":")
	if !ok || !strings.EqualFold(strings.TrimSpace(prefix), "step") {
		return "", false
	}
	return strings.TrimSpace(name), true
}

// unknownStep refuses the name of a step that is not there.
func unknownStep(n *node, name, key, user string) error {
	return n.errorf("Unknown step name: %q in %s. It is %s.", name, key, user)
}
