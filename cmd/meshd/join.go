package main

import (
	"fmt"
	"net"
	"strconv"
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
			} else {
				var err error
				if o.Token.CAFingerprint, err = fingerprint(parts.CAFingerprint); err != nil {
					return usageError{fmt.Errorf("--ca-fingerprint: %w", err)}
				}
				if o.Token.Addresses, err = peers(parts.Addresses, o.Config.APIPort); err != nil {
					return usageError{fmt.Errorf("--peer: %w", err)}
				}
			}
			o.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
			var err error
			if o.Config.Now, err = machineClock(); err != nil {
				return usageError{err}
			}
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
	flags.StringArrayVar(&parts.Addresses, "peer", nil, "host or host:port of a node of the mesh, repeatable")
	flags.StringVar(&parts.CAFingerprint, "ca-fingerprint", "", "SHA-256 fingerprint of the mesh's CA, as in a token or as openssl x509 -fingerprint -sha256 prints it")
	flags.Var(tagFlag(o.Tags), "tag", "a tag of this node, repeatable; the activation says which keys a joiner may choose")
	return cmd
}

// fingerprint brings a CA's fingerprint into the mesh's own form: people have it
// from openssl, in capitals and with colons.
func fingerprint(text string) (string, error) {
	const prefix = "sha256:"
	digits := strings.ToLower(strings.TrimSpace(text))
	digits = strings.ReplaceAll(strings.TrimPrefix(digits, prefix), ":", "")
	return prefix + digits, pki.CheckFingerprint(prefix + digits)
}

// peers gives each address a port: port where it has none.
func peers(addresses []string, port int) ([]string, error) {
	whole := make([]string, len(addresses))
	for i, address := range addresses {
		host, own, err := net.SplitHostPort(address)
		if err != nil {
			host, own = strings.Trim(address, "[]"), strconv.Itoa(port)
		}
		if number, err := strconv.Atoi(own); host == "" || strings.ContainsAny(host, "/@?# ") || strings.Contains(host, ":") && net.ParseIP(host) == nil || err != nil || number < 1 || number > 65535 {
			return nil, fmt.Errorf("%q is not of the form host:port", address)
		}
		whole[i] = net.JoinHostPort(host, own)
	}
	return whole, nil
}
