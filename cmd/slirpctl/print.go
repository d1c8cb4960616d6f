package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/options"
)

// The formats of every command that prints data. A format that contains {{ is a template.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// printer holds the flags --json and --format, and prints the data of a command in the selected format.
type printer struct {
	w       io.Writer
	json    bool
	format  string
	formats []string
	given   bool               // --json or --format was given
	tmpl    *template.Template // nil without a template
	oneLine bool               // print JSON on one line
}

// addPrinter registers the flags of p, which prints a T or a []T, and checks them before cmd runs. A template is
// executed once for each T. what is the type of the JSON document, "object" or "array"; more are additional formats of
// this command.
func addPrinter[T any](cmd *cobra.Command, p *printer, what string, more ...string) {
	p.formats = append([]string{formatTable, formatJSON}, more...)
	usage := "output `FORMAT`: " + strings.Join(p.formats, ", ") + " or a Go template"
	if what == "array" {
		usage += " for each element"
	}
	cmd.Flags().BoolVar(&p.json, "json", false, "print a JSON "+what)
	cmd.Flags().StringVar(&p.format, "format", formatTable, usage)
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		p.w = cmd.OutOrStdout()
		return p.choose(reflect.TypeFor[T](), cmd.Flags().Changed("format"))
	}
}

// choose checks the flags for values of the type typ; formatGiven means that --format was given.
func (p *printer) choose(typ reflect.Type, formatGiven bool) (err error) {
	p.given = p.json || formatGiven
	if p.json {
		if formatGiven && p.format != formatJSON {
			return usagef("--json and --format exclude each other")
		}
		p.format = formatJSON
	}
	if strings.Contains(p.format, "{{") {
		p.tmpl, err = parseTemplate(p.format, typ)
		return err
	}
	if !slices.Contains(p.formats, p.format) {
		hint := fmt.Sprintf("the formats are %s, and Go templates such as '{{.%s}}'", strings.Join(p.formats, ", "), typ.Field(0).Name)
		if near := options.Nearest(p.format, p.formats); near != "" {
			hint = "did you mean " + near + "? Otherwise " + hint
		}
		return wrongUsage(fmt.Sprintf("--format: unknown format %q", p.format), hint)
	}
	return nil
}

// print prints v, a T or a []T. text formats it as a table, or in a format that only this command has.
func (p *printer) print(v any, text func() (string, error)) error {
	var out bytes.Buffer
	switch {
	case p.tmpl != nil:
		if err := p.template(&out, reflect.ValueOf(v)); err != nil {
			return err
		}
	case p.format == formatJSON:
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		if !p.oneLine {
			enc.SetIndent("", "  ")
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
	default:
		s, err := text()
		if err != nil {
			return err
		}
		out.WriteString(s)
	}
	if out.Len() == 0 {
		return nil
	}
	_, err := p.w.Write(out.Bytes())
	return err
}

// table prints v. build returns its table, or nil to print nothing.
func (p *printer) table(v any, build func() *table) error {
	return p.print(v, func() (string, error) {
		if t := build(); t != nil {
			return t.text(p.w), nil
		}
		return "", nil
	})
}

// template executes the template for v or each element of v, and ends each output with a newline.
func (p *printer) template(out *bytes.Buffer, v reflect.Value) error {
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			if err := p.template(out, v.Index(i)); err != nil {
				return err
			}
		}
		return nil
	}
	start := out.Len()
	if err := execute(out, p.tmpl, v.Interface()); err != nil {
		return err
	}
	if !bytes.HasSuffix(out.Bytes()[start:], []byte("\n")) {
		out.WriteByte('\n')
	}
	return nil
}
