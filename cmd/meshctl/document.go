package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"
)

func (a *app) documentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "document", Short: "Keep the documents that can be run"}
	cmd.AddCommand(
		a.documentCreateCommand(), a.documentUpdateCommand(), a.documentValidateCommand(), a.documentListCommand(),
		a.documentShowCommand(), a.documentDeleteCommand(),
		&cobra.Command{
			Use: "versions NAME", Short: "List the versions of a document", Args: exactly("NAME"), ValidArgsFunction: a.completeDocuments(),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.documentVersions(cmd.Context(), arguments[0])
			},
		},
		&cobra.Command{
			Use: "set-default NAME VERSION", Short: "Choose the version that runs where none is named",
			Long: "set-default chooses the version of a document that runs where none is named. VERSION is\nits number, its name, or '$LATEST'.",
			Args: exactly("NAME", "VERSION"), ValidArgsFunction: a.completeDocuments(),
			RunE: func(cmd *cobra.Command, arguments []string) error {
				return a.documentSetDefault(cmd.Context(), arguments[0], arguments[1])
			},
		},
	)
	return cmd
}

func (a *app) documentListCommand() *cobra.Command {
	var owner, docType string
	var tags []string
	cmd := &cobra.Command{Use: "list", Short: "List the documents", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := &ssm.ListDocumentsInput{}
			filter := func(key string, values ...string) {
				in.Filters = append(in.Filters, types.DocumentKeyValuesFilter{Key: &key, Values: values})
			}
			if owner != "" {
				filter("Owner", owner)
			}
			if docType != "" {
				filter("DocumentType", docType)
			}
			wanted, err := parseTags(tags)
			if err != nil {
				return err
			}
			for _, tag := range wanted {
				filter("tag:"+*tag.Key, *tag.Value)
			}
			return a.documentList(cmd.Context(), in)
		}}
	flags := cmd.Flags()
	flags.StringVar(&owner, "owner", "", "only those of `OWNER`: Self (the mesh's own) or Amazon (built in)")
	flags.StringVar(&docType, "type", "", "only those of a `TYPE`, such as Command")
	flags.StringArrayVar(&tags, "tag", nil, "only those with the tag `KEY=VALUE` (repeatable)")
	return cmd
}

func (a *app) documentList(ctx context.Context, in *ssm.ListDocumentsInput) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out := &ssm.ListDocumentsOutput{DocumentIdentifiers: []types.DocumentIdentifier{}}
	in.MaxResults = aws.Int32(50)
	pages := ssm.NewListDocumentsPaginator(c.ssm, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.DocumentIdentifiers = append(out.DocumentIdentifiers, page.DocumentIdentifiers...)
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("NAME", "TYPE", "SCHEMA", "VERSION", "PLATFORMS", "OWNER")
		for _, d := range out.DocumentIdentifiers {
			t.AppendRow([]any{
				cell(aws.ToString(d.Name)), string(d.DocumentType), cell(aws.ToString(d.SchemaVersion)), cell(aws.ToString(d.DocumentVersion)),
				cell(platforms(d.PlatformTypes)), cell(aws.ToString(d.Owner)),
			})
		}
		a.renderTable(w, t)
	})
}

func platforms(all []types.PlatformType) string {
	texts := make([]string, len(all))
	for i, p := range all {
		texts[i] = string(p)
	}
	return strings.Join(texts, " ")
}

// versionFlag reads VERSION: a number or $… is a version, anything else a
// version's name.
func versionFlag(version string) (number, name *string) {
	if version == "" {
		return nil, nil
	}
	if _, err := strconv.ParseUint(version, 10, 64); err == nil || strings.HasPrefix(version, "$") {
		return &version, nil
	}
	return nil, &version
}

// documentDetail is what `document show` prints: DescribeDocument's member, and
// GetDocument's content.
type documentDetail struct {
	Document *types.DocumentDescription
	Content  *string
}

func (a *app) documentShowCommand() *cobra.Command {
	var version, format string
	var content bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a document, its parameters and its content",
		Args: exactly("NAME"), ValidArgsFunction: a.completeDocuments(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.documentShow(cmd.Context(), arguments[0], version, format, content)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&version, "version", "", "which `VERSION`, by number, name or '$LATEST' (default the default version)")
	flags.StringVar(&format, "format", "", "write the content as json or yaml (default as it was created)")
	flags.BoolVar(&content, "content", false, "print the content alone, as it is")
	return cmd
}

func (a *app) documentShow(ctx context.Context, name, version, format string, contentOnly bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	d, content, err := c.readDocument(ctx, name, version, format)
	if err != nil {
		return err
	}
	if contentOnly {
		if _, err := fmt.Fprintln(a.out, strings.TrimRight(aws.ToString(content), "\n")); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return nil
	}
	return a.print(documentDetail{Document: d, Content: content}, func(w io.Writer) {
		facts(w,
			"Name", cell(aws.ToString(d.Name)),
			"Display name", cell(aws.ToString(d.DisplayName)),
			"Description", paragraph(aws.ToString(d.Description), ""),
			"Type", string(d.DocumentType),
			"Schema", cell(aws.ToString(d.SchemaVersion)),
			"Format", string(d.DocumentFormat),
			"Version", cell(aws.ToString(d.DocumentVersion)),
			"Version name", cell(aws.ToString(d.VersionName)),
			"Default", cell(aws.ToString(d.DefaultVersion)),
			"Latest", cell(aws.ToString(d.LatestVersion)),
			"Status", string(d.Status),
			"Platforms", cell(platforms(d.PlatformTypes)),
			"Target type", cell(aws.ToString(d.TargetType)),
			"Owner", cell(aws.ToString(d.Owner)),
			"Created", a.clock(d.CreatedDate),
			"Hash", cell(aws.ToString(d.Hash)),
			"Tags", tagList(tagMap(d.Tags)),
		)
		if parameters := parametersOf(d, aws.ToString(content)); len(parameters) > 0 {
			fmt.Fprintln(w)
			t := newTable("PARAMETER", "TYPE", "DEFAULT", "ALLOWED", "DESCRIPTION")
			for _, p := range parameters {
				t.AppendRow([]any{cell(p.Name), cell(p.Type), cell(p.defaultText()), cell(p.allowed()), paragraph(p.Description, "")})
			}
			a.renderTable(w, t)
		}
		fmt.Fprintf(w, "\n%s\n", paragraph(aws.ToString(content), "\t"))
	})
}

// readDocument reads a version of a document; without a format, its content as it
// was created.
func (c *client) readDocument(ctx context.Context, name, version, format string) (*types.DocumentDescription, *string, error) {
	number, versionName := versionFlag(version)
	described, err := c.ssm.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: &name, DocumentVersion: number, VersionName: versionName})
	if err != nil {
		return nil, nil, err
	}
	d := described.Document
	if d == nil {
		d = &types.DocumentDescription{}
	}
	in := &ssm.GetDocumentInput{Name: &name, DocumentVersion: d.DocumentVersion, DocumentFormat: d.DocumentFormat}
	if format != "" {
		in.DocumentFormat = types.DocumentFormat(strings.ToUpper(format))
	}
	got, err := c.ssm.GetDocument(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	return d, got.Content, nil
}

func (a *app) documentVersions(ctx context.Context, name string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out := &ssm.ListDocumentVersionsOutput{DocumentVersions: []types.DocumentVersionInfo{}}
	pages := ssm.NewListDocumentVersionsPaginator(c.ssm, &ssm.ListDocumentVersionsInput{Name: &name, MaxResults: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		out.DocumentVersions = append(out.DocumentVersions, page.DocumentVersions...)
	}
	return a.print(out, func(w io.Writer) {
		t := newTable("VERSION", "NAME", "DEFAULT", "FORMAT", "STATUS", "CREATED")
		for _, v := range out.DocumentVersions {
			mark := ""
			if v.IsDefaultVersion {
				mark = "default"
			}
			t.AppendRow([]any{cell(aws.ToString(v.DocumentVersion)), cell(aws.ToString(v.VersionName)), mark, string(v.DocumentFormat), string(v.Status), a.clock(v.CreatedDate)})
		}
		a.renderTable(w, t)
	})
}

func (a *app) documentSetDefault(ctx context.Context, name, version string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	number, versionName := versionFlag(version)
	if versionName != nil || strings.HasPrefix(version, "$") {
		described, err := c.ssm.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: &name, DocumentVersion: number, VersionName: versionName})
		if err != nil {
			return err
		}
		if described.Document == nil {
			return fmt.Errorf("the mesh's answer names no document")
		}
		number = described.Document.DocumentVersion
	}
	out, err := c.ssm.UpdateDocumentDefaultVersion(ctx, &ssm.UpdateDocumentDefaultVersionInput{Name: &name, DocumentVersion: number})
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "version %s of %s is the default\n", aws.ToString(number), cell(name))
	})
}

func (a *app) documentDeleteCommand() *cobra.Command {
	var version string
	var force, yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Delete a document, or one version of it",
		Long: `delete deletes a document with all its versions, or one version that is not the
default. Commands that were sent keep what they run.`,
		Args: exactly("NAME"), ValidArgsFunction: a.completeDocuments(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.documentDelete(cmd.Context(), arguments[0], version, force, yes)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&version, "version", "", "only this `VERSION`, by number, name or '$LATEST'")
	flags.BoolVar(&force, "force", false, "delete it also where its type asks for that")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) documentDelete(ctx context.Context, name, version string, force, yes bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	what := "the document " + cell(name)
	if version != "" {
		what = "version " + cell(version) + " of " + cell(name)
	}
	if a.inTerminal && !yes && !a.confirm(ctx, fmt.Sprintf("Delete %s for good? [y/N] ", what)) {
		return &outcome{exit: exitRefused, code: "Declined", message: "nothing was changed"}
	}
	number, versionName := versionFlag(version)
	out, err := c.ssm.DeleteDocument(ctx, &ssm.DeleteDocumentInput{Name: &name, DocumentVersion: number, VersionName: versionName, Force: force})
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "deleted %s\n", what) })
}
