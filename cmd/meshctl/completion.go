package main

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"
)

func (a *app) completionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "completion",
		Short: "Print the completion script of a shell",
		Example: `  source <(meshctl completion bash)
  meshctl completion zsh > "${fpath[1]}/_meshctl"
  meshctl completion fish > ~/.config/fish/completions/meshctl.fish
  meshctl completion powershell | Out-String | Invoke-Expression`,
	}
	for shell, print := range map[string]func(root *cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(a.out, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(a.out) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(a.out, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(a.out) },
	} {
		cmd.AddCommand(&cobra.Command{
			Use: shell, Short: "Print the completion script of " + shell, Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return print(cmd.Root()) },
		})
	}
	return cmd
}

// completionTimeout is how long the user, who has just pressed the tab key, waits
// for suggestions.
const completionTimeout = 2 * time.Second

type suggest = func(cmd *cobra.Command, arguments []string, begun string) ([]string, cobra.ShellCompDirective)

// complete makes suggestions by asking the mesh, for the first argument only
// when single is set; without an answer there are none.
func (a *app) complete(single bool, list func(ctx context.Context, c *client) ([]string, error)) suggest {
	return func(cmd *cobra.Command, arguments []string, begun string) ([]string, cobra.ShellCompDirective) {
		if single && len(arguments) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		a.timeout = completionTimeout
		c, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		all, err := list(cmd.Context(), c)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var fitting []string
		for _, s := range all {
			if strings.HasPrefix(s, begun) {
				fitting = append(fitting, s)
			}
		}
		return fitting, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeNodes(single bool) suggest {
	return a.complete(single, func(ctx context.Context, c *client) ([]string, error) {
		nodes, err := c.nodes(ctx)
		if err != nil {
			return nil, err
		}
		var all []string
		for _, node := range nodes {
			id, name := aws.ToString(node.InstanceId), nodeName(node)
			all = append(all, id+"\t"+cell(name))
			if name != "" && len(nodesNamed(nodes, name)) == 1 {
				all = append(all, cell(name)+"\t"+id)
			}
		}
		return all, nil
	})
}

func (a *app) completeCommands() suggest {
	return a.complete(true, func(ctx context.Context, c *client) ([]string, error) {
		out, err := c.ssm.ListCommands(ctx, &ssm.ListCommandsInput{MaxResults: aws.Int32(50)})
		if err != nil {
			return nil, err
		}
		var all []string
		for _, command := range out.Commands {
			all = append(all, aws.ToString(command.CommandId)+"\t"+cell(aws.ToString(command.DocumentName)+" "+string(command.Status)+" "+aws.ToString(command.Comment)))
		}
		return all, nil
	})
}

func (a *app) completeDocuments() suggest {
	return a.complete(true, func(ctx context.Context, c *client) ([]string, error) {
		out, err := c.ssm.ListDocuments(ctx, &ssm.ListDocumentsInput{MaxResults: aws.Int32(50)})
		if err != nil {
			return nil, err
		}
		var all []string
		for _, document := range out.DocumentIdentifiers {
			all = append(all, aws.ToString(document.Name))
		}
		return all, nil
	})
}
