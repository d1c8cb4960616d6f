package gotemplate

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"text/template/parse"
)

// functions are those that get all their arguments evaluated. Of and, or only what is needed is.
var functions = map[string]func(args []reflect.Value) (any, error){
	"not":     notFunc,
	"len":     lenFunc,
	"index":   indexFunc,
	"slice":   sliceFunc,
	"print":   func(args []reflect.Value) (any, error) { return fmt.Sprint(values(args)...), nil },
	"println": func(args []reflect.Value) (any, error) { return fmt.Sprintln(values(args)...), nil },
	"printf":  printfFunc,
	"json":    jsonFunc,
	"eq":      eqFunc,
	"ne":      neFunc,
	"lt":      ordered(func(c int) bool { return c < 0 }),
	"le":      ordered(func(c int) bool { return c <= 0 }),
	"gt":      ordered(func(c int) bool { return c > 0 }),
	"ge":      ordered(func(c int) bool { return c >= 0 }),
}

var errArgs = errors.New("wrong number of arguments")

// function calls the function that n names. last is the value piped in, if piped.
func (s *state) function(dot reflect.Value, n *parse.IdentifierNode, words []parse.Node, last reflect.Value, piped bool) reflect.Value {
	if n.Ident == "and" || n.Ident == "or" {
		return s.andOr(dot, n, words, last, piped)
	}
	var args []reflect.Value
	for _, w := range words {
		args = append(args, s.operand(dot, w))
	}
	if piped {
		args = append(args, last)
	}
	for i, a := range args {
		if a.Kind() == reflect.Interface {
			args[i] = a.Elem()
		}
	}
	f, ok := functions[n.Ident]
	if !ok {
		s.failf(n, "%q is not a defined function", n.Ident)
	}
	v, err := f(args)
	if err != nil {
		s.failf(n, "%s: %v", n.Ident, err)
	}
	if rv, ok := v.(reflect.Value); ok {
		return rv
	}
	return reflect.ValueOf(v)
}

// andOr returns the first argument that decides, else the last.
func (s *state) andOr(dot reflect.Value, n *parse.IdentifierNode, words []parse.Node, last reflect.Value, piped bool) reflect.Value {
	var v reflect.Value
	for _, w := range words {
		if v = s.operand(dot, w); truth(v) == (n.Ident == "or") {
			return v
		}
	}
	switch {
	case piped:
		return last
	case len(words) == 0:
		s.failf(n, "%s: %v", n.Ident, errArgs)
	}
	return v
}

// values is args for package fmt.
func values(args []reflect.Value) []any {
	out := make([]any, len(args))
	for i, a := range args {
		if a.IsValid() {
			out[i] = a.Interface()
		}
	}
	return out
}

func notFunc(args []reflect.Value) (any, error) {
	if len(args) != 1 {
		return nil, errArgs
	}
	return !truth(args[0]), nil
}

func lenFunc(args []reflect.Value) (any, error) {
	if len(args) != 1 {
		return nil, errArgs
	}
	switch v := follow(args[0]); v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len(), nil
	default:
		return nil, fmt.Errorf("%s has no length", text(v))
	}
}

func printfFunc(args []reflect.Value) (any, error) {
	if len(args) == 0 {
		return nil, errArgs
	}
	if args[0].Kind() != reflect.String {
		return nil, fmt.Errorf("the format is no text")
	}
	return fmt.Sprintf(args[0].String(), values(args[1:])...), nil
}

func jsonFunc(args []reflect.Value) (any, error) {
	if len(args) != 1 {
		return nil, errArgs
	}
	data, err := json.Marshal(values(args)[0])
	return string(data), err
}

// position is an index argument as an int within [0, limit].
func position(v reflect.Value, limit int) (int, error) {
	var i int64
	switch kind(v) {
	case kindInt:
		i = v.Int()
	case kindUint:
		i = int64(min(v.Uint(), 1<<62))
	default:
		return 0, fmt.Errorf("%s can't be an index", text(v))
	}
	if i < 0 || i > int64(limit) {
		return 0, fmt.Errorf("%d is out of range", i)
	}
	return int(i), nil
}

func indexFunc(args []reflect.Value) (any, error) {
	if len(args) == 0 {
		return nil, errArgs
	}
	v := args[0]
	for _, arg := range args[1:] {
		v = follow(v)
		switch v.Kind() {
		case reflect.Array, reflect.Slice, reflect.String:
			i, err := position(arg, v.Len()-1)
			if err != nil {
				return nil, err
			}
			v = v.Index(i)
		case reflect.Map:
			if !arg.IsValid() || !arg.Type().AssignableTo(v.Type().Key()) {
				return nil, fmt.Errorf("%s is no key of %s", text(arg), v.Type())
			}
			elem := v.MapIndex(arg)
			if !elem.IsValid() {
				elem = reflect.Zero(v.Type().Elem())
			}
			v = elem
		default:
			return nil, fmt.Errorf("%s can't be indexed", text(v))
		}
	}
	return v, nil
}

func sliceFunc(args []reflect.Value) (any, error) {
	if len(args) == 0 || len(args) > 3 {
		return nil, errArgs
	}
	v := follow(args[0])
	if k := v.Kind(); k != reflect.Slice && k != reflect.String {
		return nil, fmt.Errorf("%s can't be sliced", text(v))
	}
	bounds := [2]int{0, v.Len()}
	for i, arg := range args[1:] {
		b, err := position(arg, v.Len())
		if err != nil {
			return nil, err
		}
		bounds[i] = b
	}
	if bounds[0] > bounds[1] {
		return nil, fmt.Errorf("%d > %d", bounds[0], bounds[1])
	}
	return v.Slice(bounds[0], bounds[1]), nil
}
