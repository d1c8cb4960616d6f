package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// member is a member of a JSON object: its key, and the position of its value in the object's text.
type member struct {
	key        string
	start, end int
}

// members lists the members of an object in order. data must be valid JSON.
func members(data []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object")
	}
	var list []member
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		key, _ := tok.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		end := int(dec.InputOffset())
		list = append(list, member{key, end - len(raw), end})
	}
	return list, nil
}

// value returns the value of a member, or nil. Of several members with the same key the last one
// counts, as in encoding/json and in the runtimes.
func value(obj []byte, key string) (json.RawMessage, error) {
	list, err := members(obj)
	if err != nil {
		return nil, err
	}
	for _, m := range slices.Backward(list) {
		if m.key == key {
			return obj[m.start:m.end], nil
		}
	}
	return nil, nil
}

// layout is the way in which a text is broken into lines.
type layout struct{ indent string } // of one level; "" means a single line

// layoutOf derives a text's layout from the line of its first member.
func layoutOf(obj []byte) layout {
	rest, ok := bytes.CutPrefix(obj, []byte("{"))
	if !ok {
		return layout{}
	}
	blank := rest[:len(rest)-len(bytes.TrimLeft(rest, " \t\r\n"))]
	if i := bytes.LastIndexByte(blank, '\n'); i >= 0 && i+1 < len(blank) {
		return layout{string(blank[i+1:])}
	}
	return layout{}
}

// format formats a value at a nesting depth.
func (l layout) format(v json.RawMessage, depth int) json.RawMessage {
	var b bytes.Buffer
	var err error
	if l.indent == "" {
		err = json.Compact(&b, v)
	} else {
		err = json.Indent(&b, v, strings.Repeat(l.indent, depth), l.indent)
	}
	if err != nil {
		return v // unreachable: v was parsed or made by encoding/json
	}
	return b.Bytes()
}

// setMember sets a member of an object to a formatted value: it replaces the old value, or appends the member.
// Everything else keeps its bytes. depth is the object's own.
func (l layout) setMember(obj []byte, key string, v json.RawMessage, depth int) ([]byte, error) {
	list, err := members(obj)
	if err != nil {
		return nil, err
	}
	for _, m := range slices.Backward(list) {
		if m.key == key {
			return splice(obj, m.start, m.end, v), nil
		}
	}
	name, err := json.Marshal(key)
	if err != nil {
		return nil, err
	}
	var b []byte
	at, until := bytes.IndexByte(obj, '{')+1, bytes.LastIndexByte(obj, '}')
	if n := len(list); n > 0 {
		b = append(b, ',')
		at = list[n-1].end
		until = at
	}
	sep := ":"
	if l.indent != "" {
		b = append(append(b, '\n'), strings.Repeat(l.indent, depth+1)...)
		sep = ": "
	}
	b = append(append(append(b, name...), sep...), v...)
	if l.indent != "" && len(list) == 0 {
		b = append(append(b, '\n'), strings.Repeat(l.indent, depth)...)
	}
	return splice(obj, at, until, b), nil
}

func splice(text []byte, start, end int, with []byte) []byte {
	return slices.Concat(text[:start], with, text[end:])
}
