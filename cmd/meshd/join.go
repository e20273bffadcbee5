package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"fleetmesh/agent"
	"fleetmesh/internal/pki"
)

func newJoin() *cobra.Command {
	o := agent.JoinOptions{Config: agent.DefaultConfig(), Tags: map[string]string{}}
	var token string
	var parts pki.JoinToken
	cmd := &cobra.Command{
		Use:   "join --data-dir DIR --token TOKEN",
		Short: "Enrol this machine in a mesh",
		Long: `Enrols this machine with the token that meshctl activation create printed.
The activation code itself never travels: the machine proves that it knows it.
Nothing is started: run the node with meshd run.

A directory that already holds a node is refused and left as it is. A join that
was interrupted resumes with the same command and uses up no second place.

Instead of a token: --id, --code, --peer and --ca-fingerprint.

Exit status: 0 done, 1 failed, 2 wrong usage.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := requireDataDir(&o.Config.DataDir); err != nil {
				return err
			}
			o.Token = parts
			if token != "" {
				if parts.ActivationID != "" || parts.Code != "" || len(parts.Addresses) > 0 || parts.CAFingerprint != "" {
					return usageError{fmt.Errorf("give --token, or --id, --code, --peer and --ca-fingerprint, not both")}
				}
				var err error
				if o.Token, err = pki.ParseJoinToken(token); err != nil {
					return usageError{fmt.Errorf("--token: %w", err)}
				}
			} else if parts.ActivationID == "" || parts.Code == "" || len(parts.Addresses) == 0 || parts.CAFingerprint == "" {
				return usageError{fmt.Errorf("give --token, or all of --id, --code, --peer and --ca-fingerprint")}
			}
			o.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			result, err := agent.Join(cmd.Context(), o)
			if err != nil {
				return err
			}
			if len(result.RefusedTags) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "The activation does not let a joiner choose these tags, they were left out: %s\n", strings.Join(result.RefusedTags, ", "))
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Enrolled in mesh %s (%s) as node %s.\n", result.MeshName, result.MeshID, result.NodeID)
			fmt.Fprintf(out, "Start it:   meshd run --data-dir %s\n", o.Config.DataDir)
			return nil
		},
	}
	addDataDir(cmd, &o.Config.DataDir)
	addAddress(cmd.Flags(), &o.Config)
	flags := cmd.Flags()
	flags.StringVar(&token, "token", "", "the join token (visible to other users of this machine in the process list; it ends with the activation)")
	flags.StringVar(&parts.ActivationID, "id", "", "activation id, instead of a token")
	flags.StringVar(&parts.Code, "code", "", "activation code")
	flags.StringArrayVar(&parts.Addresses, "peer", nil, "host:port of a node of the mesh, repeatable")
	flags.StringVar(&parts.CAFingerprint, "ca-fingerprint", "", "fingerprint of the mesh's CA, sha256:…")
	flags.Var(tagFlag(o.Tags), "tag", "a tag of this node, repeatable; the activation says which keys a joiner may choose")
	return cmd
}
