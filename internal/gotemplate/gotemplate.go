// Package gotemplate runs the Go templates of --format. It exists for the size of the program:
// text/template calls methods by name, so the linker must keep every exported method of every
// type that is linked in, 2.2 MB of them. This package has the same parser (text/template/parse)
// and walks the tree itself, over fields, map keys and elements; it calls no methods. What it
// prints is compared with text/template by the tests.
//
// Besides Go's and, or, not, len, index, slice, print, printf, println, eq, ne, lt, le, gt and ge
// there is json, which Docker and Podman have too. html, js, urlquery and call are left out.
package gotemplate

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/template/parse"
)

// Template is a parsed template.
type Template struct {
	trees map[string]*parse.Tree
}

const rootName = "format"

// Parse parses text. The error is the parser's own, with line and position.
func Parse(text string) (*Template, error) {
	known := map[string]any{"and": true, "or": true}
	for name := range functions {
		known[name] = true
	}
	trees, err := parse.Parse(rootName, text, "", "", known)
	if err != nil {
		return nil, err
	}
	return &Template{trees}, nil
}

// Execute writes what the template makes of data to w. A field or key that is not there is an
// error, and what was written until then stays written.
func (t *Template) Execute(w io.Writer, data any) (err error) {
	tree := t.trees[rootName]
	if tree == nil { // the text is empty
		return nil
	}
	s := &state{w: w, t: t, tree: tree, vars: []variable{{"$", reflect.ValueOf(data)}}}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *failure:
			err = r.err
		default:
			panic(r)
		}
	}()
	s.walk(reflect.ValueOf(data), tree.Root)
	return nil
}

// Lines is Execute as whole lines: a newline is added if there is none at the end.
func (t *Template) Lines(data any) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", err
	}
	if !strings.HasSuffix(b.String(), "\n") {
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// failure is what unwinds the walk; only Execute sees it.
type failure struct{ err error }

// leave says how a list was left.
type leave int

const (
	atEnd leave = iota
	byBreak
	byContinue
)

type variable struct {
	name  string
	value reflect.Value
}

type state struct {
	w     io.Writer
	t     *Template
	tree  *parse.Tree
	vars  []variable
	depth int // of {{template}}
}

func (s *state) failf(n parse.Node, format string, a ...any) {
	where, what := s.tree.ErrorContext(n)
	panic(&failure{fmt.Errorf("%s: at <%s>: %s", where, what, fmt.Sprintf(format, a...))})
}

func (s *state) setVar(n parse.Node, name string, v reflect.Value) {
	for i := len(s.vars) - 1; i >= 0; i-- {
		if s.vars[i].name == name {
			s.vars[i].value = v
			return
		}
	}
	s.failf(n, "undefined variable: %s", name)
}

func (s *state) walk(dot reflect.Value, n parse.Node) leave {
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			if l := s.walk(dot, child); l != atEnd {
				return l
			}
		}
	case *parse.TextNode:
		s.write(n, string(n.Text))
	case *parse.ActionNode:
		v := s.pipeline(dot, n.Pipe)
		if len(n.Pipe.Decl) == 0 {
			s.write(n, text(v))
		}
	case *parse.IfNode:
		return s.branch(dot, n.Pipe, n.List, n.ElseList, false)
	case *parse.WithNode:
		return s.branch(dot, n.Pipe, n.List, n.ElseList, true)
	case *parse.RangeNode:
		return s.loop(dot, n)
	case *parse.BreakNode:
		return byBreak
	case *parse.ContinueNode:
		return byContinue
	case *parse.TemplateNode:
		s.call(dot, n)
	case *parse.CommentNode:
	default:
		s.failf(n, "not supported here")
	}
	return atEnd
}

func (s *state) write(n parse.Node, text string) {
	if _, err := io.WriteString(s.w, text); err != nil {
		s.failf(n, "%v", err)
	}
}

func (s *state) branch(dot reflect.Value, pipe *parse.PipeNode, list, elseList *parse.ListNode, with bool) leave {
	defer s.forget(len(s.vars))
	v := s.pipeline(dot, pipe)
	switch {
	case truth(v) && with:
		return s.walk(v, list)
	case truth(v):
		return s.walk(dot, list)
	case elseList != nil:
		return s.walk(dot, elseList)
	}
	return atEnd
}

// forget drops the variables above mark.
func (s *state) forget(mark int) { s.vars = s.vars[:mark] }

// call runs {{template "name" pipeline}}.
func (s *state) call(dot reflect.Value, n *parse.TemplateNode) {
	tree := s.t.trees[n.Name]
	if tree == nil {
		s.failf(n, "template %q not defined", n.Name)
	}
	if s.depth > 1000 {
		s.failf(n, "templates nested too deeply")
	}
	var v reflect.Value
	if n.Pipe != nil {
		v = s.pipeline(dot, n.Pipe)
	}
	inner := &state{w: s.w, t: s.t, tree: tree, vars: []variable{{"$", v}}, depth: s.depth + 1}
	inner.walk(v, tree.Root)
}

// loop runs {{range}} over an array, slice, map (by key) or number.
func (s *state) loop(dot reflect.Value, n *parse.RangeNode) leave {
	defer s.forget(len(s.vars))
	v := follow(s.pipeline(dot, n.Pipe))
	mark := len(s.vars)
	once := func(key, elem reflect.Value) bool {
		defer s.forget(mark)
		if decl := n.Pipe.Decl; len(decl) > 0 {
			// With one variable it is the element, with two it is the key first.
			values := []reflect.Value{elem}
			if len(decl) > 1 {
				values = []reflect.Value{key, elem}
			}
			for i, d := range decl {
				s.setVar(n, d.Ident[0], values[i])
			}
		}
		return s.walk(elem, n.List) != byBreak
	}
	count := 0
	switch v.Kind() {
	case reflect.Array, reflect.Slice:
		for ; count < v.Len(); count++ {
			if !once(reflect.ValueOf(count), v.Index(count)) {
				return atEnd
			}
		}
	case reflect.Map:
		for _, key := range sortedKeys(v) {
			count++
			if !once(key, v.MapIndex(key)) {
				return atEnd
			}
		}
	case reflect.Int:
		for ; count < int(v.Int()); count++ {
			if !once(reflect.ValueOf(count), reflect.ValueOf(count)) {
				return atEnd
			}
		}
	case reflect.Invalid:
	default:
		s.failf(n, "range can't iterate over %s", text(v))
	}
	if count == 0 && n.ElseList != nil {
		return s.walk(dot, n.ElseList)
	}
	return atEnd
}

// follow goes through interfaces and pointers; nil becomes the invalid value.
func follow(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v
}

// truth is what {{if}} asks: not false, not zero, not empty. A struct is always true.
func truth(v reflect.Value) bool {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Invalid:
		return false
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() > 0
	case reflect.Struct:
		return true
	}
	return !v.IsZero()
}

// text is how {{.}} prints a value.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return "<no value>"
	}
	if v.Kind() == reflect.Pointer {
		switch v.Interface().(type) {
		case error, fmt.Stringer:
		default:
			if v = v.Elem(); !v.IsValid() {
				return "<nil>"
			}
		}
	}
	var b strings.Builder
	fmt.Fprint(&b, v.Interface())
	return b.String()
}
