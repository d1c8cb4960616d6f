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

// decode parses a YAML, TOML or JSON file into the values of its top-level keys, in lower case. The error is an *[Error].
// Nothing is merged here: Viper is used only as a parser for three formats, and not at all
// without a file. A key whose value is an empty table is in the result only if it is known.
func decode(path, format string, data []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil // an empty file is not JSON, but is accepted in any format
	}
	v := viper.New()
	v.SetConfigType(format)
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return nil, syntaxError(path, format, data, err)
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

// syntaxError finds the line of a syntax error. YAML's errors include it.
func syntaxError(path, format string, data []byte, err error) error {
	if parse, ok := errors.AsType[viper.ConfigParseError](err); ok {
		err = parse.Unwrap()
	}
	line, reason := "", err.Error()
	var jsonSyntax *json.SyntaxError
	var jsonType *json.UnmarshalTypeError
	var tomlSyntax *toml.DecodeError
	switch {
	case errors.As(err, &jsonSyntax):
		line = lineAt(data, jsonSyntax.Offset)
	case errors.As(err, &jsonType):
		line, reason = lineAt(data, jsonType.Offset), "not an object with a key for each option"
	case errors.As(err, &tomlSyntax):
		row, _ := tomlSyntax.Position()
		line = ":" + strconv.Itoa(row)
	case strings.Contains(reason, "cannot unmarshal"):
		reason = "not a mapping with a key for each option"
	}
	reason = strings.TrimPrefix(strings.TrimPrefix(reason, "yaml: "), "toml: ")
	reason = strings.Join(strings.Fields(reason), " ")
	return &Error{Source: path + line, Reason: "not " + strings.ToUpper(format) + ": " + reason, Err: err}
}

func lineAt(data []byte, offset int64) string {
	offset = max(0, min(offset, int64(len(data))))
	return ":" + strconv.Itoa(1+bytes.Count(data[:offset], []byte("\n")))
}
