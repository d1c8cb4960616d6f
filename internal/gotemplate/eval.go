package gotemplate

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
	"text/template/parse"
)

// pipeline runs cmd | cmd …, each getting the value of the one before as its last argument, and
// sets the variables that it declares or assigns.
func (s *state) pipeline(dot reflect.Value, pipe *parse.PipeNode) reflect.Value {
	var v reflect.Value
	for i, cmd := range pipe.Cmds {
		v = s.command(dot, cmd, v, i > 0)
		if v.Kind() == reflect.Interface && v.Type().NumMethod() == 0 {
			v = v.Elem()
		}
	}
	for _, d := range pipe.Decl {
		if pipe.IsAssign {
			s.setVar(d, d.Ident[0], v)
		} else {
			s.vars = append(s.vars, variable{d.Ident[0], v})
		}
	}
	return v
}

// command runs one command. last is the value of the command before, if piped.
func (s *state) command(dot reflect.Value, cmd *parse.CommandNode, last reflect.Value, piped bool) reflect.Value {
	first := cmd.Args[0]
	if id, ok := first.(*parse.IdentifierNode); ok {
		return s.function(dot, id, cmd.Args[1:], last, piped)
	}
	if len(cmd.Args) > 1 || piped {
		s.failf(first, "%s is no function and takes no argument", first)
	}
	if _, ok := first.(*parse.NilNode); ok {
		s.failf(first, "nil is not a command")
	}
	return s.operand(dot, first)
}

// operand is the value of one word.
func (s *state) operand(dot reflect.Value, n parse.Node) reflect.Value {
	switch n := n.(type) {
	case *parse.DotNode:
		return dot
	case *parse.NilNode:
		return reflect.Value{}
	case *parse.BoolNode:
		return reflect.ValueOf(n.True)
	case *parse.StringNode:
		return reflect.ValueOf(n.Text)
	case *parse.NumberNode:
		return s.number(n)
	case *parse.FieldNode:
		return s.fields(dot, n, n.Ident)
	case *parse.ChainNode:
		return s.fields(s.operand(dot, n.Node), n, n.Field)
	case *parse.VariableNode:
		return s.fields(s.lookup(n), n, n.Ident[1:])
	case *parse.PipeNode:
		return s.pipeline(dot, n)
	case *parse.IdentifierNode:
		return s.function(dot, n, nil, reflect.Value{}, false)
	}
	s.failf(n, "can't be evaluated")
	return reflect.Value{}
}

func (s *state) lookup(n *parse.VariableNode) reflect.Value {
	for _, v := range slices.Backward(s.vars) {
		if v.name == n.Ident[0] {
			return v.value
		}
	}
	s.failf(n, "undefined variable: %s", n.Ident[0])
	return reflect.Value{}
}

func (s *state) number(n *parse.NumberNode) reflect.Value {
	hex := strings.HasPrefix(n.Text, "0x") || strings.HasPrefix(n.Text, "0X")
	switch {
	case strings.HasSuffix(n.Text, "i"):
		s.failf(n, "complex numbers are not supported")
	case n.IsFloat && !hex && !strings.HasPrefix(n.Text, "'") && strings.ContainsAny(n.Text, ".eEpP"):
		return reflect.ValueOf(n.Float64)
	case n.IsInt:
		return reflect.ValueOf(int(n.Int64))
	}
	s.failf(n, "%s overflows int", n.Text)
	return reflect.Value{}
}

// fields follows .A.B from v, through pointers and interfaces.
func (s *state) fields(v reflect.Value, n parse.Node, names []string) reflect.Value {
	for _, name := range names {
		base := follow(v)
		switch base.Kind() {
		case reflect.Invalid:
			s.failf(n, "there is no .%s in nothing (test with {{if}} or {{with}} first)", name)
		case reflect.Struct:
			f, ok := base.Type().FieldByName(name)
			if !ok || !f.IsExported() {
				s.failf(n, "there is no field %s, only %s", name, strings.Join(fieldNames(base.Type()), ", "))
			}
			field, err := base.FieldByIndexErr(f.Index)
			if err != nil {
				s.failf(n, "%v", err)
			}
			v = field
		case reflect.Map:
			if base.Type().Key().Kind() != reflect.String {
				s.failf(n, "the keys of %s are no names", base.Type())
			}
			elem := base.MapIndex(reflect.ValueOf(name).Convert(base.Type().Key()))
			if !elem.IsValid() {
				s.failf(n, "map has no entry for key %q", name)
			}
			v = elem
		default:
			s.failf(n, "there is no field %s in a value of type %s", name, base.Type())
		}
	}
	return v
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		if f.IsExported() && !f.Anonymous {
			names = append(names, f.Name)
		}
	}
	if len(names) == 0 {
		return []string{"itself"}
	}
	return names
}

// sortedKeys returns the keys of a map in the order that {{range}} visits them.
func sortedKeys(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch kind(a) {
		case kindString:
			return cmp.Compare(a.String(), b.String())
		case kindInt:
			return cmp.Compare(a.Int(), b.Int())
		case kindUint:
			return cmp.Compare(a.Uint(), b.Uint())
		case kindFloat:
			return cmp.Compare(a.Float(), b.Float())
		}
		return cmp.Compare(text(a), text(b))
	})
	return keys
}
