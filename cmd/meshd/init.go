package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fleetmesh/agent"
)

func newInit() *cobra.Command {
	o := agent.InitOptions{Config: agent.DefaultConfig(), Tags: map[string]string{}}
	cmd := &cobra.Command{
		Use:   "init --data-dir DIR",
		Short: "Make a mesh and its first node",
		Long: `Makes a mesh, its certificate authority and keys, its first node and an
administrator's access, all in the data directory. Nothing is started: run the
node with meshd run.

A directory that already holds a node is refused and left as it is.

Exit status: 0 done, 1 failed, 2 wrong usage.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := requireDataDir(&o.Config.DataDir); err != nil {
				return err
			}
			var err error
			if o.Config.Now, err = machineClock(); err != nil {
				return usageError{err}
			}
			result, err := agent.Init(cmd.Context(), o)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Mesh %s made; this is its first node, %s.\n", result.MeshID, result.NodeID)
			fmt.Fprintf(out, "Start it:   meshd run --data-dir %s\n", o.Config.DataDir)
			fmt.Fprintf(out, "Use it:     meshctl --config %s mesh status\n", result.AdminConfig)
			fmt.Fprintf(out, "Add nodes:  meshctl --config %s activation create --limit 10\n", result.AdminConfig)
			return nil
		},
	}
	addDataDir(cmd, &o.Config.DataDir)
	addAddress(cmd.Flags(), &o.Config)
	cmd.Flags().StringVar(&o.MeshName, "mesh-name", "mesh", "name of the mesh, for people")
	cmd.Flags().Var(tagFlag(o.Tags), "tag", "a tag of this node, repeatable")
	cmd.Flags().StringVar(&o.AdminConfig, "admin-config", "", "where the administrator's access goes, mode 0600 (default DIR/admin.yaml)")
	return cmd
}
