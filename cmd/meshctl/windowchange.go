package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"
)

// windowOptions are the flags of create and update.
type windowOptions struct {
	name, description, schedule, timezone, start, end string
	offset, duration, cutoff                          int32
	unassociated                                      bool
	tags                                              []string
	replace                                           bool
}

func (o *windowOptions) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.description, "description", "", "what it is for")
	flags.StringVar(&o.schedule, "schedule", "", "when it opens: `cron(...)`, rate(...) or at(...)")
	flags.StringVar(&o.timezone, "timezone", "", "the IANA `ZONE` of cron and at, such as Europe/Berlin (default UTC)")
	flags.Int32Var(&o.offset, "offset", 0, "open so many `DAYS`, 1 to 6, after what cron says")
	flags.StringVar(&o.start, "start-date", "", "no opening before this `TIME` in ISO-8601")
	flags.StringVar(&o.end, "end-date", "", "no opening from this `TIME` on")
	flags.Int32Var(&o.duration, "duration", 0, "for how many `HOURS` it is open, 1 to 24")
	flags.Int32Var(&o.cutoff, "cutoff", 0, "how many `HOURS` before its end no task begins any more")
	flags.BoolVar(&o.unassociated, "allow-unassociated-targets", false, "tasks may name nodes that are not registered as targets")
}

// optionalFlag is a flag's value when it was given.
func optionalFlag[T any](cmd *cobra.Command, name string, value *T) *T {
	if cmd.Flags().Changed(name) {
		return value
	}
	return nil
}

func (a *app) windowCreateCommand() *cobra.Command {
	var o windowOptions
	cmd := &cobra.Command{
		Use: "create NAME --schedule EXPRESSION --duration HOURS", Short: "Make a maintenance window", Args: exactly("NAME"),
		Long: `create makes a maintenance window; target add and task add say where it does what.

The tag mesh:missed says what becomes of an opening at which the mesh had no leader:
run (also without the tag) runs it late while its duration allows, skip does not.
The tag mesh:resume, true, lets an opening take up what the one before could not
finish before its cutoff: only what is left is done then.`,
		Example: `  meshctl window create patching --schedule 'cron(0 2 ? * SUN#1 *)' --timezone Europe/Berlin --duration 4 --cutoff 1
  meshctl window target add patching --targets tag:role=web
  meshctl window task add patching AWS-RunPatchBaseline --parameter Operation=Install --max-concurrency 20%`,
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if o.schedule == "" || o.duration == 0 {
				return usagef("give --schedule and --duration")
			}
			in := &ssm.CreateMaintenanceWindowInput{
				Name: &arguments[0], Schedule: &o.schedule, Duration: &o.duration, Cutoff: o.cutoff, AllowUnassociatedTargets: o.unassociated,
				Description: optionalFlag(cmd, "description", &o.description), ScheduleTimezone: optionalFlag(cmd, "timezone", &o.timezone),
				ScheduleOffset: optionalFlag(cmd, "offset", &o.offset), StartDate: optionalFlag(cmd, "start-date", &o.start), EndDate: optionalFlag(cmd, "end-date", &o.end),
			}
			for _, tag := range o.tags {
				key, value, ok := strings.Cut(tag, "=")
				if !ok || key == "" {
					return usagef("--tag is KEY=VALUE, not %q", tag)
				}
				in.Tags = append(in.Tags, types.Tag{Key: &key, Value: &value})
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			out, err := c.ssm.CreateMaintenanceWindow(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, aws.ToString(out.WindowId)) })
		},
	}
	o.flags(cmd)
	cmd.Flags().StringArrayVar(&o.tags, "tag", nil, "a tag `KEY=VALUE` of the window (repeatable)")
	return cmd
}

func (a *app) windowUpdateCommand() *cobra.Command {
	var o windowOptions
	cmd := &cobra.Command{
		Use: "update WINDOW [--schedule EXPRESSION] …", Short: "Change a maintenance window; what is not given stays", Args: exactly("WINDOW"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.updateWindow(cmd.Context(), arguments[0], &ssm.UpdateMaintenanceWindowInput{
				Name: optionalFlag(cmd, "name", &o.name), Schedule: optionalFlag(cmd, "schedule", &o.schedule), Duration: optionalFlag(cmd, "duration", &o.duration),
				Cutoff: optionalFlag(cmd, "cutoff", &o.cutoff), AllowUnassociatedTargets: optionalFlag(cmd, "allow-unassociated-targets", &o.unassociated),
				Description: optionalFlag(cmd, "description", &o.description), ScheduleTimezone: optionalFlag(cmd, "timezone", &o.timezone),
				ScheduleOffset: optionalFlag(cmd, "offset", &o.offset), StartDate: optionalFlag(cmd, "start-date", &o.start), EndDate: optionalFlag(cmd, "end-date", &o.end),
				Replace: optionalFlag(cmd, "replace", &o.replace),
			}, "updated")
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.name, "name", "", "another name")
	cmd.Flags().BoolVar(&o.replace, "replace", false, "what is not given is emptied")
	return cmd
}

// windowEnableCommand is enable or disable.
func (a *app) windowEnableCommand(enable bool) *cobra.Command {
	use, short, did := "enable WINDOW", "Let a window open again; what was in between is no opening", "enabled"
	if !enable {
		use, short, did = "disable WINDOW", "Let a window not open until it is enabled; what runs goes on", "disabled"
	}
	return &cobra.Command{Use: use, Short: short, Args: exactly("WINDOW"), RunE: func(cmd *cobra.Command, arguments []string) error {
		return a.updateWindow(cmd.Context(), arguments[0], &ssm.UpdateMaintenanceWindowInput{Enabled: &enable}, did)
	}}
}

func (a *app) updateWindow(ctx context.Context, given string, in *ssm.UpdateMaintenanceWindowInput, did string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.windowID(ctx, given)
	if err != nil {
		return err
	}
	in.WindowId = &id
	out, err := c.ssm.UpdateMaintenanceWindow(ctx, in)
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("%s %s", did, id) })
}

func (a *app) windowDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete WINDOW", Short: "Delete a window with its targets and tasks; what runs goes on", Args: exactly("WINDOW"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			id, err := c.windowID(cmd.Context(), arguments[0])
			if err != nil {
				return err
			}
			out, err := c.ssm.DeleteMaintenanceWindow(cmd.Context(), &ssm.DeleteMaintenanceWindowInput{WindowId: &id})
			if err != nil {
				return err
			}
			return a.print(out, func(io.Writer) { a.note("deleted %s", id) })
		},
	}
}

func (a *app) windowCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "cancel EXECUTION-ID", Short: "Begin no more tasks of an execution; those that run go on to their end", Args: exactly("EXECUTION-ID"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			out, err := c.ssm.CancelMaintenanceWindowExecution(cmd.Context(), &ssm.CancelMaintenanceWindowExecutionInput{WindowExecutionId: &arguments[0]})
			if err != nil {
				return err
			}
			return a.print(out, func(io.Writer) {
				a.note("no more tasks of %s begin; `meshctl command cancel` ends those that run", arguments[0])
			})
		},
	}
}

func (a *app) windowTargetCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "target", Short: "Say where a window's tasks run"}
	var specs, nodes []string
	var name, owner, description string
	add := &cobra.Command{
		Use: "add WINDOW {--targets SPEC | --nodes NODE,...}", Short: "Register a target with a window", Args: exactly("WINDOW"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			targets, err := parseTargets(specs)
			if err != nil {
				return err
			}
			if (len(targets) > 0) == (len(nodes) > 0) {
				return usagef("give --targets or --nodes")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if len(nodes) > 0 {
				ids, err := c.nodeIDs(cmd.Context(), nodes)
				if err != nil {
					return err
				}
				targets = []types.Target{{Key: aws.String("InstanceIds"), Values: ids}}
			}
			id, err := c.windowID(cmd.Context(), arguments[0])
			if err != nil {
				return err
			}
			out, err := c.ssm.RegisterTargetWithMaintenanceWindow(cmd.Context(), &ssm.RegisterTargetWithMaintenanceWindowInput{
				WindowId: &id, ResourceType: types.MaintenanceWindowResourceTypeInstance, Targets: targets, Name: optionalFlag(cmd, "name", &name),
				OwnerInformation: optionalFlag(cmd, "owner-information", &owner), Description: optionalFlag(cmd, "description", &description),
			})
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, aws.ToString(out.WindowTargetId)) })
		},
	}
	add.Flags().StringArrayVar(&specs, "targets", nil, "which nodes: tag:KEY=V1,V2, tag-key=K or all (repeatable)")
	add.Flags().StringSliceVar(&nodes, "nodes", nil, "which nodes, by id or unique name")
	add.Flags().StringVar(&name, "name", "", "its name")
	add.Flags().StringVar(&owner, "owner-information", "", "whose nodes these are")
	add.Flags().StringVar(&description, "description", "", "what it is")
	var safe bool
	remove := &cobra.Command{
		Use: "remove WINDOW TARGET-ID", Short: "Deregister a target", Args: exactly("WINDOW", "TARGET-ID"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			id, err := c.windowID(cmd.Context(), arguments[0])
			if err != nil {
				return err
			}
			out, err := c.ssm.DeregisterTargetFromMaintenanceWindow(cmd.Context(), &ssm.DeregisterTargetFromMaintenanceWindowInput{WindowId: &id, WindowTargetId: &arguments[1], Safe: &safe})
			if err != nil {
				return err
			}
			return a.print(out, func(io.Writer) { a.note("deregistered %s", arguments[1]) })
		},
	}
	remove.Flags().BoolVar(&safe, "safe", true, "not while a task uses it")
	cmd.AddCommand(add, remove)
	return cmd
}

// taskOptions are the flags of task add.
type taskOptions struct {
	targets, nodes             []string
	parameters, parameterFiles []string
	name, concurrency, errors  string
	priority, delivery         int32
	cancelAtCutoff             bool
}

func (a *app) windowTaskCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "task", Short: "Say what a window does"}
	var o taskOptions
	add := &cobra.Command{
		Use: "add WINDOW [DOCUMENT] [-- COMMAND ARG...]", Short: "Register a task with a window",
		Long: `add registers a task: a document, or a command line after --. Without --target and
--nodes it runs at all targets that are registered by now. Tasks run in the order of their
priorities, 0 first, those of one priority at the same time.

In the values of parameters {{WINDOW_ID}}, {{WINDOW_TASK_ID}}, {{WINDOW_TARGET_ID}},
{{WINDOW_EXECUTION_ID}}, {{TASK_EXECUTION_ID}}, {{INVOCATION_ID}} and {{TARGET_TYPE}} are
replaced when the task runs.`,
		Example: `  meshctl window task add patching AWS-RunPatchBaseline --parameter Operation=Install --max-concurrency 20% --cancel-at-cutoff
  meshctl window task add patching --priority 2 -- systemctl restart app`,
		Args: func(cmd *cobra.Command, arguments []string) error {
			before, command := splitAtDash(cmd, arguments)
			switch {
			case len(before) == 0:
				return fmt.Errorf("WINDOW is missing")
			case len(before) > 2:
				return fmt.Errorf("unexpected argument %q; a command goes after --", before[2])
			case len(before) == 1 && len(command) == 0:
				return fmt.Errorf("say what to run: a DOCUMENT, or a COMMAND after --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			before, command := splitAtDash(cmd, arguments)
			return a.windowTaskAdd(cmd, o, before[0], strings.Join(before[1:], ""), command)
		},
	}
	flags := add.Flags()
	flags.StringSliceVar(&o.targets, "target", nil, "at which registered targets, by `TARGET-ID`")
	flags.StringSliceVar(&o.nodes, "nodes", nil, "on which nodes, by id or unique name")
	flags.StringArrayVar(&o.parameters, "parameter", nil, "a parameter `NAME=VALUE` of the document (repeat a name for a list)")
	flags.StringArrayVar(&o.parameterFiles, "parameter-file", nil, "a parameter `NAME=FILE` whose value is the text of a file (repeatable)")
	flags.StringVar(&o.name, "name", "", "its name")
	flags.StringVar(&o.concurrency, "max-concurrency", "50", "on how many nodes at a time, as a number or percentage")
	flags.StringVar(&o.errors, "max-errors", "0", "how many failures may be before no further node begins, as a number or percentage")
	flags.Int32Var(&o.priority, "priority", 1, "its place: 0 comes first")
	flags.Int32Var(&o.delivery, "delivery-timeout", 0, "`seconds` after which a node that has not begun does not begin (default the mesh's)")
	flags.BoolVar(&o.cancelAtCutoff, "cancel-at-cutoff", false, "the cutoff cancels what runs (CANCEL_TASK); without it what has begun goes on")
	remove := &cobra.Command{
		Use: "remove WINDOW TASK-ID", Short: "Deregister a task", Args: exactly("WINDOW", "TASK-ID"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			id, err := c.windowID(cmd.Context(), arguments[0])
			if err != nil {
				return err
			}
			out, err := c.ssm.DeregisterTaskFromMaintenanceWindow(cmd.Context(), &ssm.DeregisterTaskFromMaintenanceWindowInput{WindowId: &id, WindowTaskId: &arguments[1]})
			if err != nil {
				return err
			}
			return a.print(out, func(io.Writer) { a.note("deregistered %s", arguments[1]) })
		},
	}
	cmd.AddCommand(add, remove)
	return cmd
}

func (a *app) windowTaskAdd(cmd *cobra.Command, o taskOptions, window, document string, command []string) error {
	parameters, err := parseParameters(o.parameters, o.parameterFiles)
	if err != nil {
		return err
	}
	if len(command) > 0 {
		if parameters["commands"] != nil {
			return usagef("give the commands after -- or as --parameter commands=…, not both")
		}
		parameters["commands"] = []string{commandLine(command)}
		if document == "" {
			document = shellDocument
		}
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.windowID(cmd.Context(), window)
	if err != nil {
		return err
	}
	in := &ssm.RegisterTaskWithMaintenanceWindowInput{
		WindowId: &id, TaskArn: &document, TaskType: types.MaintenanceWindowTaskTypeRunCommand, Name: optionalFlag(cmd, "name", &o.name),
		MaxConcurrency: &o.concurrency, MaxErrors: &o.errors, Priority: &o.priority,
		TaskInvocationParameters: &types.MaintenanceWindowTaskInvocationParameters{RunCommand: &types.MaintenanceWindowRunCommandParameters{
			Parameters: parameters, TimeoutSeconds: optionalFlag(cmd, "delivery-timeout", &o.delivery),
		}},
	}
	if o.cancelAtCutoff {
		in.CutoffBehavior = types.MaintenanceWindowTaskCutoffBehaviorCancelTask
	}
	if len(o.nodes) > 0 {
		ids, err := c.nodeIDs(cmd.Context(), o.nodes)
		if err != nil {
			return err
		}
		in.Targets = append(in.Targets, types.Target{Key: aws.String("InstanceIds"), Values: ids})
	}
	if len(o.targets) == 0 && len(o.nodes) == 0 {
		all, err := c.windowTargets(cmd.Context(), id)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return usagef("the window has no targets yet: `meshctl window target add`, or give --nodes")
		}
		for _, t := range all {
			o.targets = append(o.targets, aws.ToString(t.WindowTargetId))
		}
	}
	if len(o.targets) > 0 {
		in.Targets = append(in.Targets, types.Target{Key: aws.String("WindowTargetIds"), Values: o.targets})
	}
	out, err := c.ssm.RegisterTaskWithMaintenanceWindow(cmd.Context(), in)
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) { fmt.Fprintln(w, aws.ToString(out.WindowTaskId)) })
}
