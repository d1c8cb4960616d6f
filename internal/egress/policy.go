package egress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Policy is what a policy file and those that it includes say.
type Policy struct {
	Mode  Mode // Open where no file says
	Rules []Rule
}

// maxPolicyFiles bounds the files of one policy.
const maxPolicyFiles = 64

// WritePolicy writes a policy file of allow rules, as YAML, which says so if they are not complete.
func WritePolicy(w io.Writer, rules []Rule, complete bool) error {
	if !complete {
		if _, err := fmt.Fprintf(w, "# Not complete: more has passed than the first %d targets and ports.\n", mostPassed); err != nil {
			return err
		}
	}
	file := struct {
		Egress Mode
		Allow  []string `yaml:",omitempty"`
	}{Egress: Enforce}
	for _, r := range rules {
		file.Allow = append(file.Allow, r.String())
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(file); err != nil {
		return err
	}
	return enc.Close()
}

// policyKeys are the keys of a policy file.
var policyKeys = []string{"egress", "allow", "deny", "include"}

// ReadPolicy reads a policy file: YAML, JSON or TOML by its name's ending, YAML without one. read returns the
// content of a file; nil means [os.ReadFile].
func ReadPolicy(path string, read func(path string) ([]byte, error)) (*Policy, error) {
	if read == nil {
		read = os.ReadFile
	}
	r := &policyReader{open: read, seen: map[string]bool{}}
	if err := r.read(path); err != nil {
		return nil, err
	}
	return &r.policy, nil
}

type policyReader struct {
	open   func(string) ([]byte, error)
	seen   map[string]bool // by clean path: a file counts once, and can't include itself
	policy Policy
}

func (r *policyReader) read(path string) error {
	path = filepath.Clean(path)
	if r.seen[path] {
		return nil
	}
	r.seen[path] = true
	fail := func(err error, format string, a ...any) error {
		return &fault.Error{Kind: fault.Usage, Msg: path + ": " + fmt.Sprintf(format, a...), Err: err}
	}
	if len(r.seen) > maxPolicyFiles {
		return fail(nil, "more than %d files are included", maxPolicyFiles)
	}
	data, err := r.open(path)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return fail(err, "can't be read: %v", err)
	}
	tree, err := decodePolicy(path, data)
	if err != nil {
		return fail(err, "%v", err)
	}
	return r.add(path, tree, fail)
}

func (r *policyReader) add(path string, tree map[string]any, fail func(error, string, ...any) error) error {
	for key := range tree {
		if !slices.Contains(policyKeys, key) {
			return fail(nil, "unknown key %q: the keys are %s", key, strings.Join(policyKeys, ", "))
		}
	}
	if v, ok := tree["egress"]; ok {
		mode, err := ParseMode(fmt.Sprint(v))
		if err != nil {
			return fail(err, "egress: %v", err)
		}
		if mode < r.policy.Mode && r.policy.Mode != Open {
			return fail(nil, "egress: %s: a file read before says %s", mode, r.policy.Mode)
		}
		r.policy.Mode = max(r.policy.Mode, mode)
	}
	for _, action := range []Action{Allow, Deny} {
		list, err := asList(tree[action.String()])
		if err != nil {
			return fail(err, "%s: %v", action, err)
		}
		for i, v := range list {
			rule, err := policyRule(action, v)
			if err != nil {
				return fail(err, "%s, entry %d: %v", action, i+1, err)
			}
			r.policy.Rules = append(r.policy.Rules, rule)
		}
	}
	include, err := asList(tree["include"])
	if err != nil {
		return fail(err, "include: %v", err)
	}
	for _, v := range include {
		name, ok := v.(string)
		if !ok || name == "" {
			return fail(nil, "include: %v is no file name", v)
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		if err := r.read(name); err != nil {
			return err
		}
	}
	return nil
}

// policyRule reads an entry: a rule, or a mapping of a rule and a check.
func policyRule(action Action, v any) (Rule, error) {
	switch v := v.(type) {
	case string:
		return ParseRule(action, v)
	case map[string]any:
		text, ok := v["rule"].(string)
		if !ok {
			return Rule{}, errors.New("a mapping needs the key rule, a text")
		}
		rule, err := ParseRule(action, text)
		if err != nil {
			return Rule{}, err
		}
		for key, value := range v {
			switch {
			case key == "rule":
			case key != "check":
				return Rule{}, fmt.Errorf("unknown key %q: the keys are rule, check", key)
			case value == "none":
				rule.Unchecked = true
			case value != "name":
				return Rule{}, fmt.Errorf("check: %v is neither name nor none", value)
			}
		}
		if rule.Unchecked && action == Deny {
			return Rule{}, errors.New("check: a deny rule has none")
		}
		return rule, nil
	}
	return Rule{}, fmt.Errorf("%v is no rule", v)
}

func asList(v any) ([]any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	case string:
		return []any{v}, nil
	}
	return nil, fmt.Errorf("%v is no list", v)
}

func decodePolicy(path string, data []byte) (map[string]any, error) {
	tree := map[string]any{}
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".toml":
		return tree, toml.Unmarshal(data, &tree)
	case ".json":
		dec := json.NewDecoder(bytes.NewReader(data))
		if err := dec.Decode(&tree); err != nil {
			return nil, err
		}
		if _, err := dec.Token(); err != io.EOF {
			return nil, errors.New("something follows the document")
		}
		return tree, nil
	default:
		return tree, yaml.Unmarshal(data, &tree)
	}
}

// ParseMode reads open, log or deny.
func ParseMode(text string) (Mode, error) {
	for _, m := range []Mode{Open, Log, Enforce} {
		if text == m.String() {
			return m, nil
		}
	}
	return Open, fmt.Errorf("%q is none of open, log, deny", text)
}

func (m Mode) String() string { return [...]string{"open", "log", "deny"}[m] }

// MarshalText writes open, log or deny.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMode(string(text))
	return err
}
