package gotemplate

import (
	"cmp"
	"errors"
	"reflect"
)

// basic are the kinds of values that can be compared with each other.
type basic int

const (
	kindOther basic = iota
	kindBool
	kindInt
	kindUint
	kindFloat
	kindString
)

func kind(v reflect.Value) basic {
	switch {
	case v.Kind() == reflect.Bool:
		return kindBool
	case v.CanInt():
		return kindInt
	case v.CanUint():
		return kindUint
	case v.CanFloat():
		return kindFloat
	case v.Kind() == reflect.String:
		return kindString
	}
	return kindOther
}

var errCompare = errors.New("values of these types can't be compared")

// order compares two values of the same kind, or signed with unsigned numbers.
func order(a, b reflect.Value) (int, error) {
	switch ka, kb := kind(a), kind(b); {
	case ka == kindInt && kb == kindUint:
		if a.Int() < 0 {
			return -1, nil
		}
		return cmp.Compare(uint64(a.Int()), b.Uint()), nil
	case ka == kindUint && kb == kindInt:
		c, err := order(b, a)
		return -c, err
	case ka != kb:
		return 0, errCompare
	case ka == kindInt:
		return cmp.Compare(a.Int(), b.Int()), nil
	case ka == kindUint:
		return cmp.Compare(a.Uint(), b.Uint()), nil
	case ka == kindFloat:
		return cmp.Compare(a.Float(), b.Float()), nil
	case ka == kindString:
		return cmp.Compare(a.String(), b.String()), nil
	}
	return 0, errCompare
}

func equal(a, b reflect.Value) (bool, error) {
	switch {
	case !a.IsValid() || !b.IsValid():
		return a.IsValid() == b.IsValid(), nil
	case kind(a) == kindBool && kind(b) == kindBool:
		return a.Bool() == b.Bool(), nil
	case kind(a) == kindOther && kind(b) == kindOther:
		if !a.Comparable() || !b.Comparable() || a.Type() != b.Type() {
			return false, errCompare
		}
		return a.Equal(b), nil
	}
	c, err := order(a, b)
	return c == 0, err
}

// eqFunc compares the first argument with each of the others.
func eqFunc(args []reflect.Value) (any, error) {
	if len(args) < 2 {
		return nil, errArgs
	}
	for _, b := range args[1:] {
		if ok, err := equal(args[0], b); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func neFunc(args []reflect.Value) (any, error) {
	if len(args) != 2 {
		return nil, errArgs
	}
	ok, err := equal(args[0], args[1])
	return !ok, err
}

func ordered(want func(int) bool) func([]reflect.Value) (any, error) {
	return func(args []reflect.Value) (any, error) {
		if len(args) != 2 {
			return nil, errArgs
		}
		c, err := order(args[0], args[1])
		return want(c), err
	}
}
