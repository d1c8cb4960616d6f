package main

import (
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/slirpctl/slirpctl/internal/options"
)

// parseTemplate parses a template of --format for values of the type typ. Field names may be Go's or JSON's. A field
// that does not exist is an error here if the type of its operand is known, otherwise in execute.
func parseTemplate(text string, typ reflect.Type) (*template.Template, error) {
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			data, err := json.Marshal(v)
			return string(data), err
		},
		"_text": plainText,
	}).Parse(text)
	if err != nil {
		return nil, usagef("--format: %s", strings.Replace(err.Error(), "template: format:", "line ", 1))
	}
	b := &binder{names: map[string]string{}}
	b.collect(typ, map[reflect.Type]bool{})
	for _, t := range t.Templates() {
		if t.Tree == nil {
			continue
		}
		dot := typ
		if t.Name() != "format" {
			dot = nil // the argument of {{template}}
		}
		b.vars = []binding{{"$", dot}}
		b.list(t.Root, dot)
	}
	if b.err != nil {
		return nil, b.err
	}
	return t, nil
}

// execute executes t for v. Errors of the template are wrong usage.
func execute(w io.Writer, t *template.Template, v any) error {
	err := t.Execute(w, v)
	var wrong template.ExecError
	if !errors.As(err, &wrong) {
		return err
	}
	_, reason, _ := strings.Cut(wrong.Error(), `executing "format" `)
	return usagef("--format: %s", strings.Replace(reason, "error calling ", "", 1))
}

// plainText converts addresses, networks and times to the text that JSON has: "" if invalid, and RFC 3339. The String
// method would return "invalid IP".
func plainText(v any) (any, error) {
	m, ok := v.(encoding.TextMarshaler)
	if rv := reflect.ValueOf(v); !ok || rv.Kind() == reflect.Pointer && rv.IsNil() {
		return v, nil
	}
	text, err := m.MarshalText()
	return string(text), err
}

// binder walks a template and keeps track of the types of dot and of the variables. It replaces JSON names of fields
// by Go's, and adds plainText to every pipeline that is printed.
type binder struct {
	names map[string]string // Go's name for each JSON name, used if the type isn't known
	vars  []binding
	err   error // the first error
}

type binding struct {
	name string
	typ  reflect.Type // nil: not known
}

// collect adds the fields of typ and of the types in it to names. A JSON name has the same Go name in all types
// (TestTemplateNames).
func (b *binder) collect(typ reflect.Type, seen map[reflect.Type]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || seen[typ] {
		return
	}
	seen[typ] = true
	for _, f := range reflect.VisibleFields(typ) {
		if f.IsExported() && !f.Anonymous {
			b.names[jsonName(f)] = f.Name
			b.collect(f.Type, seen)
		}
	}
}

func jsonName(f reflect.StructField) string {
	if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
		return name
	}
	return f.Name
}

func (b *binder) list(n *parse.ListNode, dot reflect.Type) {
	if n == nil {
		return
	}
	known := len(b.vars)
	for _, n := range n.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			b.pipe(n.Pipe, dot)
			if len(n.Pipe.Decl) == 0 {
				show := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{parse.NewIdentifier("_text").SetPos(n.Pos)}}
				n.Pipe.Cmds = append(n.Pipe.Cmds, show)
			}
		case *parse.IfNode:
			b.branch(&n.BranchNode, dot, func(reflect.Type) reflect.Type { return dot })
		case *parse.WithNode:
			b.branch(&n.BranchNode, dot, func(t reflect.Type) reflect.Type { return t })
		case *parse.RangeNode:
			b.branch(&n.BranchNode, dot, element)
		case *parse.TemplateNode:
			if n.Pipe != nil {
				b.pipe(n.Pipe, dot)
			}
		}
	}
	b.vars = b.vars[:known]
}

// branch walks an if, with or range. inner returns the type of dot in its body, given that of the pipeline.
func (b *binder) branch(n *parse.BranchNode, dot reflect.Type, inner func(reflect.Type) reflect.Type) {
	known := len(b.vars)
	typ := inner(b.pipe(n.Pipe, dot))
	if n.NodeType == parse.NodeRange && len(n.Pipe.Decl) > 0 {
		b.vars[len(b.vars)-1].typ = typ // also of $v in $i, $v
		if len(n.Pipe.Decl) == 2 {
			b.vars[len(b.vars)-2].typ = reflect.TypeFor[int]()
		}
	}
	b.list(n.List, typ)
	b.list(n.ElseList, dot)
	b.vars = b.vars[:known]
}

func (b *binder) pipe(n *parse.PipeNode, dot reflect.Type) reflect.Type {
	var typ reflect.Type
	for i, c := range n.Cmds {
		typ = b.command(c, dot)
		if i > 0 {
			typ = nil
		}
	}
	for _, d := range n.Decl {
		if n.IsAssign {
			for i := range b.vars {
				if b.vars[i].name == d.Ident[0] && b.vars[i].typ != typ {
					b.vars[i].typ = nil
				}
			}
			continue
		}
		b.vars = append(b.vars, binding{d.Ident[0], typ})
	}
	return typ
}

func (b *binder) command(n *parse.CommandNode, dot reflect.Type) reflect.Type {
	var types []reflect.Type
	for _, a := range n.Args {
		types = append(types, b.operand(a, dot))
	}
	if len(types) == 1 {
		return types[0]
	}
	if id, ok := n.Args[0].(*parse.IdentifierNode); ok && id.Ident == "index" {
		typ := types[1]
		for range types[2:] {
			typ = element(typ)
		}
		return typ
	}
	return nil
}

func (b *binder) operand(n parse.Node, dot reflect.Type) reflect.Type {
	switch n := n.(type) {
	case *parse.DotNode:
		return dot
	case *parse.PipeNode:
		return b.pipe(n, dot)
	case *parse.FieldNode:
		return b.fields(n.Ident, dot)
	case *parse.ChainNode:
		return b.fields(n.Field, b.operand(n.Node, dot))
	case *parse.VariableNode:
		for i := len(b.vars) - 1; i >= 0; i-- {
			if b.vars[i].name == n.Ident[0] {
				return b.fields(n.Ident[1:], b.vars[i].typ)
			}
		}
	}
	return nil
}

// fields replaces the names in .A.B, applied to a value of the type typ, by Go's. It returns the type of the last
// field.
func (b *binder) fields(idents []string, typ reflect.Type) reflect.Type {
	for i, ident := range idents {
		for typ != nil && typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case typ == nil || typ.Kind() == reflect.Interface:
			typ = nil
			if name, ok := b.names[ident]; ok {
				idents[i] = name
			}
		case typ.Kind() == reflect.Map:
			typ = typ.Elem()
		default:
			var ok bool
			if idents[i], typ, ok = member(typ, ident); !ok && b.err == nil {
				b.err = noField(ident, typ)
			}
			if !ok {
				return nil
			}
		}
	}
	return typ
}

// member finds a field or method by Go's name, or a field by its JSON name. If there is none, it returns its
// arguments.
func member(typ reflect.Type, ident string) (string, reflect.Type, bool) {
	if typ.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(typ) {
			if f.IsExported() && (f.Name == ident || !f.Anonymous && jsonName(f) == ident) {
				return f.Name, f.Type, true
			}
		}
	}
	if m, ok := reflect.PointerTo(typ).MethodByName(ident); ok && m.Type.NumOut() > 0 {
		return ident, m.Type.Out(0), true
	}
	return ident, typ, false
}

func noField(ident string, typ reflect.Type) error {
	var names, goNames []string
	if typ.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(typ) {
			if f.IsExported() && !f.Anonymous {
				names, goNames = append(names, jsonName(f)), append(goNames, f.Name)
			}
		}
	}
	hint := "that value has no fields"
	switch near := options.Nearest(ident, append(names, goNames...)); {
	case near != "":
		hint = "did you mean " + near + "?"
	case len(names) > 0:
		hint = "the fields are " + strings.Join(names, ", ")
	}
	return wrongUsage("--format: there is no field "+ident, hint)
}

// element returns the type of the elements of typ, or nil if typ has none or is not known.
func element(typ reflect.Type) reflect.Type {
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ != nil && (typ.Kind() == reflect.Slice || typ.Kind() == reflect.Array || typ.Kind() == reflect.Map) {
		return typ.Elem()
	}
	return nil
}
