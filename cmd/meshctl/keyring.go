package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

func (a *app) keyringCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keyring", Short: "List and change the keys that gossip is encrypted with",
		Long: `keyring lists and changes the keys that gossip is encrypted with. To change the key
without losing a node: add a new one, wait until all nodes are online (a node that is
away learns it when it comes back), use the new one, remove the old one.`,
	}
	act := func(use, short, action string) *cobra.Command {
		check := exactly("KEY-ID")
		if action == "list" || action == "add" {
			check = exactly()
		}
		return &cobra.Command{
			Use: use, Short: short, Args: check,
			RunE: func(cmd *cobra.Command, arguments []string) error {
				in := &meshapi.KeyringInput{Action: action}
				if len(arguments) > 0 {
					in.KeyId = arguments[0]
				}
				return a.keyring(cmd.Context(), in)
			},
		}
	}
	cmd.AddCommand(
		act("list", "List the keys", "list"),
		act("add", "Add a new random key, which all nodes learn and none uses yet", "add"),
		act("use KEY-ID", "Encrypt with this key from now on", "use"),
		act("remove KEY-ID", "Forget a key that is not used", "remove"),
	)
	return cmd
}

func (a *app) keyring(ctx context.Context, in *meshapi.KeyringInput) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.mesh.Keyring(ctx, in)
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("KEY", "USED")
		for _, key := range out.Keys {
			t.AppendRow([]any{cell(key.KeyId), yesNo(key.Primary)})
		}
		a.renderTable(w, t)
	})
}
