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

func (a *app) documentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "document", Short: "List and show the documents that can be run"}
	var content bool
	show := &cobra.Command{
		Use: "show NAME", Short: "Show a document, its parameters and its content",
		Args: exactly("NAME"), ValidArgsFunction: a.completeDocuments(),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.documentShow(cmd.Context(), arguments[0], content)
		},
	}
	show.Flags().BoolVar(&content, "content", false, "print the content alone, as it is")
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List the documents", Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error { return a.documentList(cmd.Context()) }},
		show,
	)
	cmd.AddCommand(later(laterDocument)...)
	return cmd
}

func (a *app) documentList(ctx context.Context) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	out := &ssm.ListDocumentsOutput{DocumentIdentifiers: []types.DocumentIdentifier{}}
	pages := ssm.NewListDocumentsPaginator(c.ssm, &ssm.ListDocumentsInput{MaxResults: aws.Int32(50)})
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

// documentDetail is what `document show` prints: DescribeDocument's member, and
// GetDocument's content.
type documentDetail struct {
	Document *types.DocumentDescription
	Content  *string
}

func (a *app) documentShow(ctx context.Context, name string, contentOnly bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	got, err := c.ssm.GetDocument(ctx, &ssm.GetDocumentInput{Name: &name})
	if err != nil {
		return err
	}
	if contentOnly {
		if _, err := fmt.Fprintln(a.out, strings.TrimRight(aws.ToString(got.Content), "\n")); err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		return nil
	}
	described, err := c.ssm.DescribeDocument(ctx, &ssm.DescribeDocumentInput{Name: &name})
	if err != nil {
		return err
	}
	return a.print(documentDetail{Document: described.Document, Content: got.Content}, func(w io.Writer) {
		d := described.Document
		if d == nil {
			d = &types.DocumentDescription{}
		}
		facts(w,
			"Name", cell(aws.ToString(d.Name)),
			"Description", cell(aws.ToString(d.Description)),
			"Type", string(d.DocumentType),
			"Schema", cell(aws.ToString(d.SchemaVersion)),
			"Version", cell(aws.ToString(d.DocumentVersion)),
			"Status", string(d.Status),
			"Platforms", cell(platforms(d.PlatformTypes)),
			"Owner", cell(aws.ToString(d.Owner)),
			"Hash", cell(aws.ToString(d.Hash)),
		)
		if len(d.Parameters) > 0 {
			fmt.Fprintln(w)
			t := newTable("PARAMETER", "TYPE", "DEFAULT", "DESCRIPTION")
			for _, p := range d.Parameters {
				t.AppendRow([]any{cell(aws.ToString(p.Name)), string(p.Type), cell(aws.ToString(p.DefaultValue)), cell(aws.ToString(p.Description))})
			}
			a.renderTable(w, t)
		}
		fmt.Fprintf(w, "\n%s\n", strings.TrimRight(printable(aws.ToString(got.Content), "\n\t"), "\n"))
	})
}
