package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/spf13/cobra"

	"fleetmesh/executor/document"
)

// maxDocumentFile bounds what is read of a file, in bytes: far more than a
// document may have, so that the mesh can say so itself.
const maxDocumentFile = 512 << 10

// documentFile is a FILE and what is said of it, or guessed.
type documentFile struct {
	content string
	format  document.Format
	docType string
}

// documentOptions is what `document create`, `update` and `validate` are told.
type documentOptions struct {
	docType     string
	format      string
	versionName string
	displayName string
	targetType  string
	baseVersion string
	tags        []string
}

// fileFlags are the flags of a FILE; withType is false where the document has a
// type already.
func fileFlags(cmd *cobra.Command, o *documentOptions, withType bool) {
	if withType {
		cmd.Flags().StringVar(&o.docType, "type", "", "the document's `TYPE`: Command, Automation, Session, … (default what its content looks like)")
	}
	cmd.Flags().StringVar(&o.format, "format", "", "json, yaml or text (default by the file's suffix, else its content)")
}

// versionFlags are the flags of a version that is made.
func versionFlags(cmd *cobra.Command, o *documentOptions) {
	cmd.Flags().StringVar(&o.versionName, "version-name", "", "`NAME` for the version, such as Release-1.2, once and for all")
	cmd.Flags().StringVar(&o.displayName, "display-name", "", "a name for people")
	cmd.Flags().StringVar(&o.targetType, "target-type", "", "what it can run on, such as /AWS::EC2::Instance")
}

func (a *app) documentCreateCommand() *cobra.Command {
	var o documentOptions
	cmd := &cobra.Command{
		Use: "create NAME FILE", Short: "Create a document from a file",
		Long:    "create creates a document from a file, as version 1 and default. FILE is - for stdin.",
		Example: "  meshctl document create Install-App install.yaml --version-name 1.0 --tag team=web",
		Args:    exactly("NAME", "FILE"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.documentCreate(cmd.Context(), arguments[0], arguments[1], o)
		},
	}
	fileFlags(cmd, &o, true)
	versionFlags(cmd, &o)
	cmd.Flags().StringArrayVar(&o.tags, "tag", nil, "a tag `KEY=VALUE` of the document (repeatable)")
	return cmd
}

func (a *app) documentUpdateCommand() *cobra.Command {
	var o documentOptions
	cmd := &cobra.Command{
		Use: "update NAME FILE", Short: "Make a new version of a document from a file",
		Long: `update makes a new version of a document from a file; FILE is - for stdin. The new
version is the latest, and not the default until ` + "`meshctl document set-default`" + ` says so.`,
		Args: exactly("NAME", "FILE"),
		RunE: func(cmd *cobra.Command, arguments []string) error {
			return a.documentUpdate(cmd.Context(), arguments[0], arguments[1], o)
		},
	}
	fileFlags(cmd, &o, false)
	versionFlags(cmd, &o)
	cmd.Flags().StringVar(&o.baseVersion, "based-on", "", "refuse unless this `VERSION` still is the latest")
	return cmd
}

func (a *app) documentValidateCommand() *cobra.Command {
	var o documentOptions
	cmd := &cobra.Command{
		Use: "validate FILE", Short: "Check a document's file, without a mesh",
		Long: `validate checks a file as the mesh does when a document is created, and needs none. What
is wrong is printed as FILE:LINE:COLUMN: MESSAGE, with exit code 1. FILE is - for stdin.`,
		Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, arguments []string) error { return a.documentValidate(arguments[0], o) },
	}
	fileFlags(cmd, &o, true)
	return cmd
}

// readDocumentFile reads a FILE and guesses what is not said.
func (a *app) readDocumentFile(path string, o documentOptions) (*documentFile, error) {
	source := a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read the document: %w", err)
		}
		defer file.Close()
		source = file
	}
	content, err := io.ReadAll(io.LimitReader(source, maxDocumentFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the document %s: %w", path, err)
	case len(content) > maxDocumentFile:
		return nil, fmt.Errorf("%s has more than %d bytes: a document has up to 64 KiB", path, maxDocumentFile)
	case len(bytes.TrimSpace(content)) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case !utf8.Valid(content):
		return nil, fmt.Errorf("%s is not a text in UTF-8", path)
	}
	f := &documentFile{content: string(content), docType: o.docType}
	if f.format, err = documentFormat(path, content, o.format); err != nil {
		return nil, err
	}
	if f.docType == "" {
		f.docType = documentType(content, f.format)
	}
	return f, nil
}

// documentFormat is what is said, else what the suffix says, else what the content
// looks like.
func documentFormat(path string, content []byte, said string) (document.Format, error) {
	if said != "" {
		switch format := document.Format(strings.ToUpper(said)); format {
		case document.JSON, document.YAML, document.TEXT:
			return format, nil
		}
		return "", usagef("--format is json, yaml or text, not %q", said)
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return document.JSON, nil
	case ".yaml", ".yml":
		return document.YAML, nil
	case ".txt", ".ics":
		return document.TEXT, nil
	}
	begin := bytes.TrimSpace(content)
	switch {
	case bytes.HasPrefix(begin, []byte("{")), bytes.HasPrefix(begin, []byte("[")):
		return document.JSON, nil
	case bytes.HasPrefix(begin, []byte("BEGIN:VCALENDAR")):
		return document.TEXT, nil
	}
	return document.YAML, nil
}

// documentType is what a content without a type looks like; what it cannot read
// is a Command document, and refused as one.
func documentType(content []byte, format document.Format) string {
	if format == document.TEXT {
		return string(types.DocumentTypeChangeCalendar)
	}
	var looks struct {
		SchemaVersion string          `json:"schemaVersion"`
		SessionType   json.RawMessage `json:"sessionType"`
	}
	if content, err := document.Convert(content, format, document.JSON); err != nil || json.Unmarshal(content, &looks) != nil {
		return string(types.DocumentTypeCommand)
	}
	switch {
	case looks.SchemaVersion == "0.3":
		return string(types.DocumentTypeAutomation)
	case looks.SchemaVersion == "1.0" && looks.SessionType != nil:
		return string(types.DocumentTypeSession)
	}
	return string(types.DocumentTypeCommand)
}

// said is a flag's value, nil where it was not given.
func said(value string) *string {
	if value == "" {
		return nil
	}
	return &value
}

func (a *app) documentCreate(ctx context.Context, name, path string, o documentOptions) error {
	tags, err := parseTags(o.tags)
	if err != nil {
		return err
	}
	f, err := a.readDocumentFile(path, o)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	out, err := c.ssm.CreateDocument(ctx, &ssm.CreateDocumentInput{
		Name: &name, Content: &f.content, DocumentType: types.DocumentType(f.docType), DocumentFormat: types.DocumentFormat(f.format),
		VersionName: said(o.versionName), DisplayName: said(o.displayName), TargetType: said(o.targetType), Tags: tags,
	})
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) { fmt.Fprintf(w, "created the %s document %s\n", f.docType, cell(name)) })
}

func (a *app) documentUpdate(ctx context.Context, name, path string, o documentOptions) error {
	f, err := a.readDocumentFile(path, o)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	base := o.baseVersion
	if base == "" {
		base = "$LATEST"
	}
	out, err := c.ssm.UpdateDocument(ctx, &ssm.UpdateDocumentInput{
		Name: &name, Content: &f.content, DocumentFormat: types.DocumentFormat(f.format), DocumentVersion: &base,
		VersionName: said(o.versionName), DisplayName: said(o.displayName), TargetType: said(o.targetType),
	})
	if err != nil {
		return err
	}
	return a.print(out, func(w io.Writer) {
		d := out.DocumentDescription
		if d == nil {
			d = &types.DocumentDescription{}
		}
		fmt.Fprintf(w, "version %s of %s is the latest; version %s is the default\n", cell(aws.ToString(d.LatestVersion)), cell(name), cell(aws.ToString(d.DefaultVersion)))
	})
}

// validation is what `document validate` prints.
type validation struct {
	File           string
	Valid          bool
	DocumentType   types.DocumentType
	DocumentFormat types.DocumentFormat
	SchemaVersion  string               `json:",omitempty"`
	Description    string               `json:",omitempty"`
	PlatformTypes  []types.PlatformType `json:",omitempty"`
	Code           string               `json:",omitempty"`
	Message        string               `json:",omitempty"`
	Line           int                  `json:",omitempty"`
	Column         int                  `json:",omitempty"`
}

func (a *app) documentValidate(path string, o documentOptions) error {
	f, err := a.readDocumentFile(path, o)
	if err != nil {
		return err
	}
	v := validation{File: path, Valid: true, DocumentType: types.DocumentType(f.docType), DocumentFormat: types.DocumentFormat(f.format)}
	summary, err := document.Validate([]byte(f.content), f.format, f.docType)
	var refused *document.Error
	switch {
	case errors.As(err, &refused):
		v.Valid, v.Code, v.Message, v.Line, v.Column = false, refused.Code, refused.Message, refused.Line, refused.Column
	case err != nil:
		return err
	default:
		v.SchemaVersion, v.Description = summary.SchemaVersion, summary.Description
		for _, p := range summary.PlatformTypes {
			v.PlatformTypes = append(v.PlatformTypes, types.PlatformType(p))
		}
	}
	err = a.print(v, func(w io.Writer) {
		if v.Valid {
			fmt.Fprintf(w, "%s: a valid %s document\n", cell(path), cell(f.docType))
			return
		}
		// The place is never left out, so that editors find it.
		fmt.Fprintf(w, "%s:%d:%d: %s\n", cell(path), max(v.Line, 1), max(v.Column, 1), printable(v.Message, "\n"))
	})
	if err != nil || v.Valid {
		return err
	}
	return &outcome{exit: exitRefused, code: v.Code, message: fmt.Sprintf("%s is not a valid %s document", path, f.docType)}
}
