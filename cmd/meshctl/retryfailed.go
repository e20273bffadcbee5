package main

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// targetUnsuccessful is the mesh's own target key: the nodes on which a command had
// no success.
const targetUnsuccessful = "mesh:unsuccessful"

// checkRetry refuses what does not go with --retry-failed.
func (o *runOptions) checkRetry(arguments int) error {
	if arguments > 0 || len(o.targets)+len(o.nodes)+len(o.parameters)+len(o.parameterFiles) > 0 || o.documentVersion != "" || o.executionTimeout != 0 || o.reboot {
		return usagef("--retry-failed does the same command again: it goes with --max-concurrency, --max-errors, --delivery-timeout, --comment and --detach only")
	}
	if o.deliveryTimeout < 0 {
		return usagef("a timeout is a positive number of seconds")
	}
	return nil
}

// retryInput makes the request to do an ended command again where it had no
// success: the same version of the document, the same parameters and limits, but
// for the limits that the user gives now.
func (c *client) retryInput(ctx context.Context, o runOptions) (*ssm.SendCommandInput, error) {
	out, err := c.ssm.ListCommands(ctx, &ssm.ListCommandsInput{CommandId: &o.retryFailed})
	if err != nil {
		return nil, err
	}
	if len(out.Commands) != 1 {
		return nil, &outcome{exit: exitRefused, code: "InvalidCommandId", message: "there is no command " + o.retryFailed + ": `meshctl command list` shows what there is"}
	}
	was := out.Commands[0]
	in := &ssm.SendCommandInput{
		DocumentName: was.DocumentName, DocumentVersion: was.DocumentVersion, Parameters: was.Parameters,
		Targets:        []types.Target{{Key: aws.String(targetUnsuccessful), Values: []string{o.retryFailed}}},
		MaxConcurrency: was.MaxConcurrency, MaxErrors: was.MaxErrors, TimeoutSeconds: was.TimeoutSeconds,
	}
	if aws.ToString(was.Comment) != "" {
		in.Comment = was.Comment
	}
	o.limits(in)
	return in, nil
}

// limits puts into a request what may differ from one run to the next.
func (o *runOptions) limits(in *ssm.SendCommandInput) {
	if o.deliveryTimeout > 0 {
		in.TimeoutSeconds = &o.deliveryTimeout
	}
	for value, member := range map[*string]**string{&o.maxConcurrency: &in.MaxConcurrency, &o.maxErrors: &in.MaxErrors, &o.comment: &in.Comment} {
		if *value != "" {
			*member = value
		}
	}
}
