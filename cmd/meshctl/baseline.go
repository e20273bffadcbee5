package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/internal/awsjson"
)

func (a *app) baselineCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "baseline", Short: "Keep the patch baselines, which say what patches are approved",
		Long: `baseline keeps the patch baselines, which say what patches are approved. BASELINE is an
id, an ARN, or a name that only one baseline has.`}
	cmd.AddCommand(a.baselineCreateCommand(), a.baselineUpdateCommand(), a.baselineListCommand(),
		&cobra.Command{Use: "show BASELINE", Short: "Show what a baseline approves", Args: exactly("BASELINE"),
			RunE: func(cmd *cobra.Command, arguments []string) error { return a.baselineShow(cmd.Context(), arguments[0]) }},
		&cobra.Command{Use: "delete BASELINE", Short: "Delete a baseline that is not in use", Args: exactly("BASELINE"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.baselineDelete(cmd.Context(), arguments[0])
			}},
		&cobra.Command{Use: "set-default BASELINE", Short: "Make a baseline the default of its operating system", Args: exactly("BASELINE"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.baselineSetDefault(cmd.Context(), arguments[0])
			}},
		&cobra.Command{Use: "effective BASELINE", Short: "Show which of the patches that nodes were offered a baseline approves", Args: exactly("BASELINE"),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.baselineEffective(cmd.Context(), arguments[0])
			}},
	)
	return cmd
}

// baselineOptions are the flags of create and update: a file, or one rule.
type baselineOptions struct {
	file, name, os, description string
	filters                     []string
	days                        int
	until, level                string
	nonSecurity                 bool
	approved, rejected          []string
	block                       bool
	replace                     bool
}

func (o *baselineOptions) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&o.file, "file", "f", "", "JSON `FILE` with the members of CreatePatchBaseline (- is the input)")
	flags.StringVar(&o.name, "name", "", "its name")
	flags.StringVar(&o.description, "description", "", "what it is for")
	flags.StringArrayVar(&o.filters, "filter", nil, "what a rule approves: `KEY=V1,V2`, as PRIORITY=Required,Important (repeatable; one rule of all)")
	flags.IntVar(&o.days, "approve-after-days", 0, "how many days after its release the rule approves a patch")
	flags.StringVar(&o.until, "approve-until", "", "the rule approves what was released until `YYYY-MM-DD`")
	flags.StringVar(&o.level, "level", "", "compliance level of what is approved: CRITICAL, HIGH, MEDIUM, LOW, INFORMATIONAL")
	flags.BoolVar(&o.nonSecurity, "non-security", false, "approve what is not for security too")
	flags.StringSliceVar(&o.approved, "approved", nil, "patches that are approved whatever the rules say")
	flags.StringSliceVar(&o.rejected, "rejected", nil, "patches that are not installed")
	flags.BoolVar(&o.block, "block", false, "rejected patches are not installed as a dependency either")
}

// input is the request; only what was given is in it.
func (o *baselineOptions) input(stdin io.Reader) (*ssm.CreatePatchBaselineInput, error) {
	in := &ssm.CreatePatchBaselineInput{}
	if o.file != "" {
		content, err := readFileOrInput(o.file, stdin)
		if err != nil {
			return nil, fmt.Errorf("read the baseline: %w", err)
		}
		if !json.Valid(content) {
			return nil, usagef("%s is no JSON", o.file)
		}
		if err := awsjson.Unmarshal(content, in); err != nil {
			return nil, fmt.Errorf("read the baseline: %w", err)
		}
	}
	if o.name != "" {
		in.Name = &o.name
	}
	if o.os != "" {
		in.OperatingSystem = types.OperatingSystem(o.os)
	}
	if o.description != "" {
		in.Description = &o.description
	}
	if len(o.filters) > 0 {
		rule := types.PatchRule{PatchFilterGroup: &types.PatchFilterGroup{}, ComplianceLevel: types.PatchComplianceLevel(o.level)}
		for _, f := range o.filters {
			key, values, ok := strings.Cut(f, "=")
			if !ok || key == "" || values == "" {
				return nil, usagef("--filter is KEY=V1,V2, not %q", f)
			}
			rule.PatchFilterGroup.PatchFilters = append(rule.PatchFilterGroup.PatchFilters, types.PatchFilter{Key: types.PatchFilterKey(key), Values: strings.Split(values, ",")})
		}
		if o.nonSecurity {
			rule.EnableNonSecurity = aws.Bool(true)
		}
		if o.until != "" {
			rule.ApproveUntilDate = &o.until
		} else {
			rule.ApproveAfterDays = aws.Int32(int32(o.days))
		}
		in.ApprovalRules = &types.PatchRuleGroup{PatchRules: []types.PatchRule{rule}}
	} else if o.days != 0 || o.until != "" {
		return nil, usagef("--approve-after-days and --approve-until go with --filter, which says what the rule approves; --filter PRODUCT='*' is everything")
	}
	if o.approved != nil {
		in.ApprovedPatches = o.approved
		in.ApprovedPatchesComplianceLevel = types.PatchComplianceLevel(o.level)
		if o.nonSecurity {
			in.ApprovedPatchesEnableNonSecurity = aws.Bool(true)
		}
	}
	if o.rejected != nil {
		in.RejectedPatches = o.rejected
	}
	if o.block {
		in.RejectedPatchesAction = types.PatchActionBlock
	}
	return in, nil
}

// readFileOrInput reads a file, or the input for -.
func readFileOrInput(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(stdin, maxParameterFile))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxParameterFile))
}

func (a *app) baselineCreateCommand() *cobra.Command {
	var o baselineOptions
	cmd := &cobra.Command{
		Use: "create {--file FILE | --name NAME --os SYSTEM [--filter KEY=V1,V2]...}", Short: "Make a patch baseline",
		Example: `  meshctl baseline create --name debian-security --os DEBIAN --filter PRIORITY='*' --approve-after-days 7 --level HIGH
  meshctl baseline create --file baseline.json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := o.input(a.in)
			if err != nil {
				return err
			}
			if in.Name == nil {
				return usagef("give --name, or a --file with a Name")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			out, err := c.ssm.CreatePatchBaseline(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, aws.ToString(out.BaselineId)) })
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&o.os, "os", "", "`SYSTEM` that it is for: DEBIAN, UBUNTU, REDHAT_ENTERPRISE_LINUX, SUSE …")
	return cmd
}

func (a *app) baselineUpdateCommand() *cobra.Command {
	var o baselineOptions
	cmd := &cobra.Command{
		Use: "update BASELINE [--file FILE] [--name NAME] …", Short: "Change a patch baseline; what is not given stays", Args: exactly("BASELINE"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			in, err := o.input(a.in)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			id, err := c.baselineID(cmd.Context(), arguments[0])
			if err != nil {
				return err
			}
			out, err := c.ssm.UpdatePatchBaseline(cmd.Context(), &ssm.UpdatePatchBaselineInput{
				BaselineId: &id, Name: in.Name, Description: in.Description, GlobalFilters: in.GlobalFilters, ApprovalRules: in.ApprovalRules,
				ApprovedPatches: in.ApprovedPatches, ApprovedPatchesComplianceLevel: in.ApprovedPatchesComplianceLevel,
				ApprovedPatchesEnableNonSecurity: in.ApprovedPatchesEnableNonSecurity, RejectedPatches: in.RejectedPatches,
				RejectedPatchesAction: in.RejectedPatchesAction, Sources: in.Sources, Replace: aws.Bool(o.replace),
				AvailableSecurityUpdatesComplianceStatus: in.AvailableSecurityUpdatesComplianceStatus,
			})
			if err != nil {
				return err
			}
			return a.print(out, func(io.Writer) { a.note("updated %s", id) })
		},
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.replace, "replace", false, "what is not given is emptied")
	return cmd
}

func (a *app) baselineListCommand() *cobra.Command {
	var own bool
	var os string
	cmd := &cobra.Command{Use: "list", Short: "List the patch baselines", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := &ssm.DescribePatchBaselinesInput{}
			if own {
				in.Filters = append(in.Filters, types.PatchOrchestratorFilter{Key: aws.String("OWNER"), Values: []string{"Self"}})
			}
			if os != "" {
				in.Filters = append(in.Filters, types.PatchOrchestratorFilter{Key: aws.String("OPERATING_SYSTEM"), Values: []string{os}})
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			out, err := c.baselines(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				t := newTable("NAME", "SYSTEM", "DEFAULT", "ID")
				for _, b := range out.BaselineIdentities {
					t.AppendRow([]any{cell(aws.ToString(b.BaselineName)), string(b.OperatingSystem), yesNo(b.DefaultBaseline), cell(aws.ToString(b.BaselineId))})
				}
				a.renderTable(w, t)
			})
		}}
	cmd.Flags().BoolVar(&own, "own", false, "without the predefined ones")
	cmd.Flags().StringVar(&os, "os", "", "only those for this `SYSTEM`, as DEBIAN")
	return cmd
}

// baselines are all that fit.
func (c *client) baselines(ctx context.Context, in *ssm.DescribePatchBaselinesInput) (*ssm.DescribePatchBaselinesOutput, error) {
	out := &ssm.DescribePatchBaselinesOutput{BaselineIdentities: []types.PatchBaselineIdentity{}}
	pages := ssm.NewDescribePatchBaselinesPaginator(c.ssm, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out.BaselineIdentities = append(out.BaselineIdentities, page.BaselineIdentities...)
	}
	return out, nil
}

// baselineID finds a baseline by its name; an id or ARN is one already.
func (c *client) baselineID(ctx context.Context, given string) (string, error) {
	if strings.HasPrefix(given, "arn:") || strings.HasPrefix(given, "pb-") {
		return given, nil
	}
	all, err := c.baselines(ctx, &ssm.DescribePatchBaselinesInput{
		Filters: []types.PatchOrchestratorFilter{{Key: aws.String("NAME_PREFIX"), Values: []string{given}}},
	})
	if err != nil {
		return "", err
	}
	var ids []string
	for _, b := range all.BaselineIdentities {
		if aws.ToString(b.BaselineName) == given {
			ids = append(ids, aws.ToString(b.BaselineId))
		}
	}
	switch len(ids) {
	case 0:
		return "", &outcome{exit: exitRefused, code: "DoesNotExistException", message: fmt.Sprintf("no patch baseline has the id or name %q", given), hint: "`meshctl baseline list` shows those that there are"}
	case 1:
		return ids[0], nil
	}
	return "", &outcome{exit: exitRefused, code: "ValidationException", message: fmt.Sprintf("%d patch baselines are named %q: %s", len(ids), given, strings.Join(ids, ", ")), hint: "give the id"}
}

func (a *app) baselineShow(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.baselineID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.GetPatchBaseline(ctx, &ssm.GetPatchBaselineInput{BaselineId: &id})
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		facts(w, "Name", cell(aws.ToString(out.Name)), "Id", cell(aws.ToString(out.BaselineId)), "System", string(out.OperatingSystem),
			"Description", paragraph(aws.ToString(out.Description), ""), "Created", a.clock(out.CreatedDate), "Changed", a.clock(out.ModifiedDate),
			"Global filters", filterText(out.GlobalFilters), "Rules", rulesText(out.ApprovalRules),
			"Approved", listText(out.ApprovedPatches), "Level of approved", string(out.ApprovedPatchesComplianceLevel),
			"Rejected", listText(out.RejectedPatches), "Rejected are", rejectedText(out.RejectedPatchesAction),
			"Sources", sourcesText(out.Sources), "Patch groups", listText(out.PatchGroups))
	})
}

func filterText(group *types.PatchFilterGroup) string {
	if group == nil {
		return ""
	}
	parts := make([]string, len(group.PatchFilters))
	for i, f := range group.PatchFilters {
		parts[i] = cell(string(f.Key) + "=" + strings.Join(f.Values, ","))
	}
	return strings.Join(parts, " ")
}

func rulesText(group *types.PatchRuleGroup) string {
	if group == nil {
		return ""
	}
	lines := make([]string, len(group.PatchRules))
	for i, r := range group.PatchRules {
		line := filterText(r.PatchFilterGroup)
		switch {
		case r.ApproveUntilDate != nil:
			line += ", until " + cell(*r.ApproveUntilDate)
		case aws.ToInt32(r.ApproveAfterDays) > 0:
			line += ", after " + count(int(*r.ApproveAfterDays), "day")
		}
		line += ", level " + string(r.ComplianceLevel)
		if aws.ToBool(r.EnableNonSecurity) {
			line += ", also what is not for security"
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

func listText(list []string) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = cell(s)
	}
	return strings.Join(texts, "\n")
}

func rejectedText(action types.PatchAction) string {
	if action == types.PatchActionBlock {
		return "blocked, also as a dependency"
	}
	return "installed only as a dependency"
}

func sourcesText(sources []types.PatchSource) string {
	lines := make([]string, len(sources))
	for i, s := range sources {
		lines[i] = cell(aws.ToString(s.Name) + " for " + strings.Join(s.Products, ","))
	}
	return strings.Join(lines, "\n")
}

func (a *app) baselineDelete(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.baselineID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.DeletePatchBaseline(ctx, &ssm.DeletePatchBaselineInput{BaselineId: &id})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("deleted %s", id) })
}

func (a *app) baselineSetDefault(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.baselineID(ctx, given)
	if err != nil {
		return err
	}
	out, err := c.ssm.RegisterDefaultPatchBaseline(ctx, &ssm.RegisterDefaultPatchBaselineInput{BaselineId: &id})
	if err != nil {
		return err
	}
	return a.print(out, func(io.Writer) { a.note("%s is the default now", id) })
}

func (a *app) baselineEffective(ctx context.Context, given string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	id, err := c.baselineID(ctx, given)
	if err != nil {
		return err
	}
	out := &ssm.DescribeEffectivePatchesForPatchBaselineOutput{EffectivePatches: []types.EffectivePatch{}}
	pages := ssm.NewDescribeEffectivePatchesForPatchBaselinePaginator(c.ssm, &ssm.DescribeEffectivePatchesForPatchBaselineInput{BaselineId: &id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.EffectivePatches = append(out.EffectivePatches, page.EffectivePatches...)
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("PATCH", "PRODUCT", "STATUS", "LEVEL", "FROM", "CLASSIFICATION", "SEVERITY")
		for _, e := range out.EffectivePatches {
			t.AppendRow([]any{
				cell(aws.ToString(e.Patch.Title)), cell(aws.ToString(e.Patch.Product)), string(e.PatchStatus.DeploymentStatus), string(e.PatchStatus.ComplianceLevel),
				a.clock(e.PatchStatus.ApprovalDate), cell(aws.ToString(e.Patch.Classification)), cell(aws.ToString(e.Patch.Severity)),
			})
		}
		a.renderTable(w, t)
		if len(out.EffectivePatches) == 0 {
			a.note("nothing that a scan has found is approved by it; " + strconv.Quote("meshctl patch scan") + " finds what there is")
		}
	})
}
