package options

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/viper"
)

// decodeError says why a text is invalid in its format.
type decodeError struct {
	line   string // ":N", or "" if the reason includes it
	reason string
	err    error
}

// decode parses YAML, TOML or JSON into the values of its top-level keys, in lower case.
// Nothing is merged here: Viper is used only as a parser for three formats, and not at all
// without a file. A key whose value is an empty table is in the result only if it is known.
func decode(format string, data []byte) (map[string]any, *decodeError) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil // an empty file is not JSON, but is accepted in any format
	}
	v := viper.New()
	v.SetConfigType(format)
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return nil, explain(data, err)
	}
	tree := map[string]any{}
	for _, path := range v.AllKeys() {
		top, _, _ := strings.Cut(path, ".")
		tree[top] = v.Get(top)
	}
	for i := range table {
		for _, name := range []string{normal(table[i].Name), strings.ReplaceAll(table[i].Name, "-", "_")} {
			if v.InConfig(name) {
				tree[name] = v.Get(name)
			}
		}
	}
	return tree, nil
}

// explain finds the line of a syntax error. YAML's errors include it.
func explain(data []byte, err error) *decodeError {
	if parse, ok := errors.AsType[viper.ConfigParseError](err); ok {
		err = parse.Unwrap()
	}
	e := &decodeError{reason: err.Error(), err: err}
	var jsonSyntax *json.SyntaxError
	var jsonType *json.UnmarshalTypeError
	var tomlSyntax *toml.DecodeError
	switch {
	case errors.As(err, &jsonSyntax):
		e.line = lineAt(data, jsonSyntax.Offset)
	case errors.As(err, &jsonType):
		e.line, e.reason = lineAt(data, jsonType.Offset), "not an object with a key for each option"
	case errors.As(err, &tomlSyntax):
		row, _ := tomlSyntax.Position()
		e.line = ":" + strconv.Itoa(row)
	case strings.Contains(e.reason, "cannot unmarshal"):
		e.reason = "not a mapping with a key for each option"
	}
	e.reason = strings.TrimPrefix(strings.TrimPrefix(e.reason, "yaml: "), "toml: ")
	e.reason = strings.Join(strings.Fields(e.reason), " ")
	return e
}

func lineAt(data []byte, offset int64) string {
	offset = max(0, min(offset, int64(len(data))))
	return ":" + strconv.Itoa(1+bytes.Count(data[:offset], []byte("\n")))
}
