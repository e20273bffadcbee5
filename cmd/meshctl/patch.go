package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// patchDocument scans and installs.
const patchDocument = "AWS-RunPatchBaseline"

func (a *app) patchCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "patch", Short: "Scan for and install patches, and see who is compliant",
		Long: `patch scans nodes for patches and installs them, by the baseline that each node's patch
group or operating system has, and shows who is compliant and why not.`}
	cmd.AddCommand(a.patchRunCommand("Scan"), a.patchRunCommand("Install"), a.patchStatusCommand(),
		a.patchShowCommand(), a.patchExplainCommand(), a.patchPlanCommand())
	return cmd
}

// patchRunOptions are the parameters of AWS-RunPatchBaseline.
type patchRunOptions struct {
	noReboot         bool
	snapshot         string
	overrideList     string
	baselineOverride string
}

// parameters is how `run` takes them.
func (o patchRunOptions) parameters(operation string) []string {
	parameters := []string{"Operation=" + operation}
	add := func(name, value string) {
		if value != "" {
			parameters = append(parameters, name+"="+value)
		}
	}
	if o.noReboot {
		add("RebootOption", "NoReboot")
	}
	add("SnapshotId", o.snapshot)
	add("InstallOverrideList", o.overrideList)
	add("BaselineOverride", o.baselineOverride)
	return parameters
}

func (a *app) patchRunCommand(operation string) *cobra.Command {
	var o runOptions
	var p patchRunOptions
	name := strings.ToLower(operation)
	cmd := &cobra.Command{
		Use:   name + " {--targets SPEC | --nodes NODE,...}",
		Args:  exactly(),
		Short: "Look which patches nodes lack; nothing is changed",
		Long: `scan looks which patches nodes lack, and reports it to the mesh. It changes nothing on
them. ` + "`meshctl patch status`" + ` shows what came of it.`,
		Example:     "  meshctl patch scan --targets all",
		Annotations: map[string]string{annotationNotAll: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.parameters = p.parameters(operation)
			return a.run(cmd.Context(), o, []string{patchDocument}, nil)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.targets, "targets", nil, "which nodes: tag:KEY=V1,V2, tag-key=K or all (repeatable)")
	flags.StringSliceVar(&o.nodes, "nodes", nil, "which nodes, by id or unique name")
	flags.StringVar(&o.maxConcurrency, "max-concurrency", "", "on how many nodes at a time, as a number or percentage (default 50)")
	flags.StringVar(&o.maxErrors, "max-errors", "", "how many failures may be before no further node begins, as a number or percentage (default 0)")
	flags.Int32Var(&o.deliveryTimeout, "delivery-timeout", 0, "`seconds` after which a node that has not begun does not begin (default the mesh's)")
	flags.StringVar(&o.comment, "comment", "", "what it is for")
	flags.BoolVar(&o.detach, "detach", false, "print the command's id and do not wait")
	flags.StringVar(&p.snapshot, "snapshot-id", "", "`UUID` of an earlier run whose frozen baselines count")
	flags.StringVar(&p.baselineOverride, "baseline-override", "", "where the baselines are that count instead, as `URL` of a JSON list")
	if operation == "Install" {
		cmd.Short = "Install the approved patches that nodes lack"
		cmd.Long = fmt.Sprintf(`install installs the patches that each node's baseline approves and the node lacks, and
starts machines anew where that is needed, unless --no-reboot. %s shows
beforehand what it would do.`, "`meshctl patch plan`")
		cmd.Example = "  meshctl patch install --targets tag:PatchGroup=web --max-concurrency 10% --max-errors 1"
		flags.BoolVar(&p.noReboot, "no-reboot", false, "do not start machines anew; what waits for it is shown as such")
		flags.StringVar(&p.overrideList, "override-list", "", "where the list is of what to install instead of what the baseline approves, as `URL`")
	}
	cmd.RegisterFlagCompletionFunc("nodes", a.completeNodes(false))
	return cmd
}
