package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/spf13/cobra"

	"fleetmesh/internal/schedule"
)

func (a *app) windowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "window", Short: "Keep the maintenance windows, in which tasks run by a schedule",
		Long: `window keeps the maintenance windows, in which tasks run by a schedule. WINDOW is an
id, or a name that only one window has.`}
	cmd.AddCommand(a.windowCreateCommand(), a.windowUpdateCommand(), a.windowEnableCommand(true), a.windowEnableCommand(false), a.windowListCommand(),
		&cobra.Command{Use: "show WINDOW", Short: "Show a window: when it opens, and what it does where", Args: exactly("WINDOW"),
			RunE: func(cmd *cobra.Command, arguments []string) error { return a.windowShow(cmd.Context(), arguments[0]) }},
		a.windowDeleteCommand(), a.windowTargetCommand(), a.windowTaskCommand(), a.windowExecutionsCommand(), a.windowCancelCommand(), a.windowScheduleCommand())
	return cmd
}

// windowScheduleOptions is what `window schedule` is told.
type windowScheduleOptions struct {
	expression string
	timezone   string
	offset     int
	start, end string
	from       string
	next       int
}

// maxOpenings bounds --next, and maxOpeningsJSON with JSON, which takes a tenth of
// YAML's memory: either has somewhat less than a gigabyte.
const (
	maxOpenings     = 50_000
	maxOpeningsJSON = 1_000_000
)

func (a *app) windowScheduleCommand() *cobra.Command {
	var o windowScheduleOptions
	cmd := &cobra.Command{
		Use: "schedule {WINDOW | --expression EXPRESSION}", Short: "Show when a window opens next",
		Long: `schedule shows the next openings of a schedule. With --expression no mesh is asked:
it shows what a window with this schedule would do if it were made now, or at --from.

A local time that does not exist, because the clock is set forward, is as much
later; of one that comes twice, because it is set back, the first is meant.`,
		Example: `  meshctl window schedule --expression 'cron(0 2 ? * SUN#1 *)' --timezone Europe/Berlin
  meshctl window schedule --expression 'cron(30 23 ? * TUE#2 *)' --offset 5 --next 12
  meshctl window schedule --expression 'rate(7 days)' --start-date 2027-01-03T02:00:00Z`,
		Args: func(_ *cobra.Command, arguments []string) error {
			if len(arguments) > 1 {
				return fmt.Errorf("unexpected argument %q", arguments[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			most := maxOpenings
			if a.output == "json" {
				most = maxOpeningsJSON
			}
			switch {
			case len(arguments) == 1:
				for _, name := range []string{"expression", "timezone", "offset", "start-date", "end-date", "from"} {
					if cmd.Flags().Changed(name) {
						return usagef("--%s goes with no WINDOW, which has its own schedule", name)
					}
				}
				if o.next < 1 {
					return usagef("--next is 1 or more")
				}
				return a.scheduleOfWindow(cmd.Context(), arguments[0], o.next)
			case !cmd.Flags().Changed("expression"):
				return usagef("say which schedule, with WINDOW or --expression")
			case cmd.Flags().Changed("offset") && o.offset < 1: // which the API refuses, and Terms take for none
				return usagef("--offset is 1 to 6 days, not %d", o.offset)
			case o.next < 1 || o.next > most:
				return usagef("--next is 1 to %d, and to %d with -o json", maxOpenings, maxOpeningsJSON)
			}
			return a.windowSchedule(o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.expression, "expression", "", "the schedule: `cron(...)`, rate(...) or at(...)")
	flags.StringVar(&o.timezone, "timezone", "UTC", "the IANA `ZONE` of cron and at, such as Europe/Berlin")
	flags.IntVar(&o.offset, "offset", 0, "open so many `DAYS`, 1 to 6, after what cron says")
	flags.StringVar(&o.start, "start-date", "", "no opening before this `TIME` in ISO-8601")
	flags.StringVar(&o.end, "end-date", "", "no opening from this `TIME` on")
	flags.StringVar(&o.from, "from", "", "the `TIME` to look from (default now)")
	flags.IntVar(&o.next, "next", 10, "how many openings at most")
	return cmd
}

// windowScheduleOutput is DescribeMaintenanceWindowSchedule's, and what it is of.
type windowScheduleOutput struct {
	Schedule                  string
	ScheduleTimezone          string
	ScheduleOffset            int `json:",omitempty"`
	ScheduledWindowExecutions []windowOpening
}

// windowOpening has its time in UTC, in the window's zone and in the user's.
type windowOpening struct {
	ExecutionTime string
	WindowTime    string
	LocalTime     string
	SecondsUntil  int64
}

func (a *app) windowSchedule(o windowScheduleOptions) error {
	now := a.now()
	timetable, from, err := o.timetable(now)
	if err != nil {
		return refusedSchedule(err)
	}
	out := windowScheduleOutput{Schedule: o.expression, ScheduleTimezone: o.timezone, ScheduleOffset: o.offset}
	return a.printOpenings(out, now, func(yield func(time.Time) bool) {
		at, ok := timetable.Next(from)
		for n := 0; n < o.next && ok && yield(at); n++ {
			at, ok = timetable.Next(at)
		}
	})
}

// scheduleOfWindow asks the mesh when a window opens.
func (a *app) scheduleOfWindow(ctx context.Context, given string, most int) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.windowID(ctx, given)
	if err != nil {
		return err
	}
	window, err := c.ssm.GetMaintenanceWindow(ctx, &ssm.GetMaintenanceWindowInput{WindowId: &id})
	if err != nil {
		return err
	}
	var openings []time.Time
	pages := ssm.NewDescribeMaintenanceWindowSchedulePaginator(c.ssm, &ssm.DescribeMaintenanceWindowScheduleInput{WindowId: &id})
	for pages.HasMorePages() && len(openings) < most {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, x := range page.ScheduledWindowExecutions {
			at, err := time.Parse(time.RFC3339, aws.ToString(x.ExecutionTime))
			if err != nil {
				return fmt.Errorf("read when the window opens: %w", err)
			}
			openings = append(openings, at)
		}
	}
	if !window.Enabled {
		a.note("meshctl: it is disabled")
	}
	return a.printOpenings(windowScheduleOutput{
		Schedule: aws.ToString(window.Schedule), ScheduleTimezone: aws.ToString(window.ScheduleTimezone), ScheduleOffset: int(aws.ToInt32(window.ScheduleOffset)),
	}, a.now(), slices.Values(openings[:min(most, len(openings))]))
}

// printOpenings adds openings to what they are of, and prints both.
func (a *app) printOpenings(out windowScheduleOutput, now time.Time, openings iter.Seq[time.Time]) error {
	out.ScheduledWindowExecutions = []windowOpening{}
	t := newTable("YOUR TIME", "TIME OF THE WINDOW", "UTC", "FROM NOW")
	for opening := range openings {
		out.ScheduledWindowExecutions = append(out.ScheduledWindowExecutions, windowOpening{
			ExecutionTime: opening.UTC().Format(time.RFC3339), WindowTime: opening.Format(time.RFC3339),
			LocalTime: opening.In(a.zone).Format(time.RFC3339), SecondsUntil: int64(opening.Sub(now) / time.Second),
		})
		if a.forPeople() {
			const withDay = "Mon 2006-01-02 15:04:05"
			t.AppendRow([]any{opening.In(a.zone).Format(withDay), opening.Format(withDay + " -07:00"), opening.UTC().Format(withDay), away(opening.Sub(now))})
		}
	}
	if len(out.ScheduledWindowExecutions) == 0 {
		a.note("meshctl: it never opens")
		if a.forPeople() {
			return nil
		}
	}
	return a.print(out, func(w io.Writer) { a.renderTable(w, t) })
}

// timetable reads what was told; from is the moment after which to look.
func (o windowScheduleOptions) timetable(now time.Time) (t *schedule.Timetable, from time.Time, err error) {
	terms := schedule.Terms{Offset: o.offset, Since: now}
	for _, date := range []struct {
		text string
		to   *time.Time
	}{{o.from, &terms.Since}, {o.start, &terms.Start}, {o.end, &terms.End}} {
		if date.text == "" {
			continue
		}
		if *date.to, err = schedule.Date(date.text); err != nil {
			return nil, from, err
		}
	}
	if terms.Zone, err = schedule.Zone(o.timezone); err != nil {
		return nil, from, err
	}
	s, err := schedule.Parse(o.expression, schedule.Window)
	if err != nil {
		return nil, from, err
	}
	t, err = s.With(terms)
	return t, terms.Since, err
}

// refusedSchedule says what the API would; a caret shows the place.
func refusedSchedule(err error) error {
	refusal := &outcome{exit: exitRefused, code: "ValidationException", message: err.Error()}
	var syntax *schedule.SyntaxError
	if errors.As(err, &syntax) {
		refusal.hint = printable(syntax.Expression, "") + "\n  " + strings.Repeat(" ", syntax.Column()) + "^"
	}
	return refusal
}

// away says how far away a moment is, in its two largest units.
func away(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	days, hours := int(d/(24*time.Hour)), int(d/time.Hour)%24
	minutes, seconds := int(d/time.Minute)%60, int(d/time.Second)%60
	switch {
	case days > 0:
		return fmt.Sprintf("%s%dd %dh", sign, days, hours)
	case hours > 0:
		return fmt.Sprintf("%s%dh %dm", sign, hours, minutes)
	}
	return fmt.Sprintf("%s%dm %ds", sign, minutes, seconds)
}
