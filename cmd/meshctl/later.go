package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// laterNouns are the nouns whose commands are named for good and not there yet.
var laterNouns = []string{"parameter", "snapshot"}

func laterCommands() []*cobra.Command { return later(laterNouns) }

func later(names []string) []*cobra.Command {
	var commands []*cobra.Command
	for _, name := range names {
		commands = append(commands, &cobra.Command{
			Use:                name,
			Short:              "Not in this version",
			Hidden:             true,
			DisableFlagParsing: true, // whatever follows, the answer is the same
			RunE:               func(cmd *cobra.Command, _ []string) error { return notInThisVersion(cmd.CommandPath()) },
		})
	}
	return commands
}

func notInThisVersion(what string) error {
	return &outcome{exit: exitUsage, code: "NotInThisVersion", message: fmt.Sprintf("`%s` is not in this version of fleetmesh", what)}
}
