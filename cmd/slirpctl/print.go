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

	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/options"
)

// The formats of every command that prints data. A format that contains {{ is a template.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// printing holds the flags --json and --format.
type printing struct {
	fs      *pflag.FlagSet
	json    bool
	format  string
	formats []string
}

// addFlags registers the flags. what is the type of the JSON document, "object" or "array"; more are additional
// formats of this command.
func (o *printing) addFlags(fs *pflag.FlagSet, what string, more ...string) {
	o.fs = fs
	o.formats = append([]string{formatTable, formatJSON}, more...)
	fs.BoolVar(&o.json, "json", false, "print a JSON "+what)
	usage := "output `FORMAT`: " + strings.Join(o.formats, ", ") + " or a Go template"
	if what == "array" {
		usage += " for each element"
	}
	fs.StringVar(&o.format, "format", formatTable, usage)
}

// given reports whether --json or --format was given.
func (o *printing) given() bool { return o.json || o.fs.Changed("format") }

// printer prints the data of a command in the selected format.
type printer struct {
	w       io.Writer
	format  string             // "" with a template
	tmpl    *template.Template // nil without a template
	oneLine bool               // print JSON on one line
}

// newPrinter returns a printer for a T or a []T. A template is executed once for each T.
func newPrinter[T any](w io.Writer, o *printing) (*printer, error) {
	p := &printer{w: w, format: o.format}
	typ := reflect.TypeFor[T]()
	if o.json {
		if o.fs.Changed("format") && o.format != formatJSON {
			return nil, usagef("--json and --format exclude each other")
		}
		p.format = formatJSON
	}
	if strings.Contains(p.format, "{{") {
		p.format = ""
		var err error
		p.tmpl, err = parseTemplate(o.format, typ)
		return p, err
	}
	if !slices.Contains(o.formats, p.format) {
		hint := fmt.Sprintf("the formats are %s, and Go templates such as '{{.%s}}'", strings.Join(o.formats, ", "), typ.Field(0).Name)
		if near := options.Nearest(p.format, o.formats); near != "" {
			hint = "did you mean " + near + "? Otherwise " + hint
		}
		return nil, wrongUsage(fmt.Sprintf("--format: unknown format %q", p.format), hint)
	}
	return p, nil
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
