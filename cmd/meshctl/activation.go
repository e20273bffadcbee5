package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/agent/meshapi"
)

// installedDirectory is a node's directory where meshd came by package.
const installedDirectory = "/var/lib/meshd"

func (a *app) activationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "activation", Short: "Let machines into the mesh"}
	cmd.AddCommand(
		a.activationCreateCommand(),
		&cobra.Command{Use: "list", Short: "List the activations", Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.activationList(cmd.Context()) }},
		&cobra.Command{Use: "delete ACTIVATION-ID", Short: "Let no further machine in by this activation", Args: exactly("ACTIVATION-ID"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.activationDelete(cmd.Context(), arguments[0])
			}},
	)
	return cmd
}

// activationOptions is what `activation create` is told.
type activationOptions struct {
	limit       int
	expires     string
	tags        []string
	joinerTags  []string
	freeTags    bool // --joiner-tags was not given
	defaultName string
	description string
	memberOnly  bool
}

func (a *app) activationCreateCommand() *cobra.Command {
	var o activationOptions
	cmd := &cobra.Command{
		Use: "create", Short: "Make an activation and its join token",
		Long: `create makes an activation and prints, once, its code and a token for ` + "`meshd join`" + `.
Whoever has the token can join until the limit or the end is reached.`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.freeTags = !cmd.Flags().Changed("joiner-tags")
			return a.activationCreate(cmd.Context(), o)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.limit, "limit", 1, "how many machines may join by it, 1 to 1000")
	flags.StringVar(&o.expires, "expires", "24h", "how long machines may join by it, such as 30m, 24h or 7d, at most 30d")
	flags.StringArrayVar(&o.tags, "tag", nil, "a tag `KEY=VALUE` of the nodes that join by it (repeatable)")
	flags.StringSliceVar(&o.joinerTags, "joiner-tags", nil, "tag `KEYS` that the joiner may choose, '' for none (default all)")
	flags.StringVar(&o.defaultName, "default-name", "", "name of the nodes that join by it, where they bring none")
	flags.StringVar(&o.description, "description", "", "what it is for")
	flags.BoolVar(&o.memberOnly, "member-only", false, "nodes that join by it never hold the store")
	return cmd
}

// parseLifetime reads a time such as 90m, 24h or 7d.
func parseLifetime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || math.IsNaN(n) || n <= 0 || n > 365 {
			return 0, fmt.Errorf("%q is no number of days", text)
		}
		return time.Duration(n * 24 * float64(time.Hour)), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no time such as 30m, 24h or 7d", text)
	}
	return d, nil
}

// activationInput checks what the API cannot tell apart; the rest it checks.
func activationInput(o activationOptions, now time.Time) (*meshapi.CreateActivationInput, error) {
	lifetime, err := parseLifetime(o.expires)
	if err != nil {
		return nil, usagef("--expires: %v", err)
	}
	if o.limit < 1 || o.limit > 1000 {
		return nil, usagef("--limit is 1 to 1000, not %d", o.limit)
	}
	tags, err := parseTags(o.tags)
	if err != nil {
		return nil, err
	}
	ends := now.Add(lifetime)
	in := &meshapi.CreateActivationInput{
		Description: o.description, DefaultInstanceName: o.defaultName, RegistrationLimit: o.limit,
		ExpirationDate: &ends, MemberOnly: o.memberOnly,
	}
	if len(tags) > 0 {
		in.Tags = tagMap(tags)
	}
	if !o.freeTags {
		keys := append([]string{}, o.joinerTags...)
		in.JoinerTags = &keys
	}
	return in, nil
}

func (a *app) activationCreate(ctx context.Context, o activationOptions) error {
	in, err := activationInput(o, a.now())
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.mesh.CreateActivation(ctx, in)
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		facts(w,
			"Activation", out.ActivationId,
			"Code", out.ActivationCode,
			"Limit", count(in.RegistrationLimit, "machine"),
			"Until", a.clock(in.ExpirationDate),
		)
		fmt.Fprintf(w, "\nOn each machine, as root (the token is a secret and is not shown again):\n\n")
		fmt.Fprintf(w, "  meshd join --data-dir %s --token %s\n", installedDirectory, shellQuote(out.JoinToken))
	})
}

func (a *app) activationList(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out := &ssm.DescribeActivationsOutput{ActivationList: []types.Activation{}}
	pages := ssm.NewDescribeActivationsPaginator(c.ssm, &ssm.DescribeActivationsInput{MaxResults: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.ActivationList = append(out.ActivationList, page.ActivationList...)
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("ACTIVATION", "JOINED", "UNTIL", "STATE", "NAME", "TAGS", "DESCRIPTION")
		for _, activation := range out.ActivationList {
			limit, joined := aws.ToInt32(activation.RegistrationLimit), aws.ToInt32(activation.RegistrationsCount)
			state := a.paint(a.outTerminal, green, "open")
			switch {
			case activation.Expired:
				state = "expired"
			case joined >= limit:
				state = "used up"
			}
			t.AppendRow([]any{
				aws.ToString(activation.ActivationId), fmt.Sprintf("%d of %d", joined, limit), a.clock(activation.ExpirationDate), state,
				cell(aws.ToString(activation.DefaultInstanceName)), tagList(tagMap(activation.Tags)), cell(aws.ToString(activation.Description)),
			})
		}
		a.renderTable(w, t)
	})
}

func (a *app) activationDelete(ctx context.Context, id string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.ssm.DeleteActivation(ctx, &ssm.DeleteActivationInput{ActivationId: &id})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("deleted %s; nodes that joined by it stay", cell(id)) })
}
