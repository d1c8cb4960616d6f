package options

import (
	"maps"
	"slices"
	"strings"
)

// envConfig names the configuration file, like --config.
const envConfig = envPrefix + "CONFIG"

// environment is a parsed os.Environ.
type environment map[string]string

func parseEnviron(environ []string) environment {
	env := make(environment, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

// layer returns what the environment says. A variable that is empty counts as not set, as is usual
// for shell scripts.
//
// A variable that looks like a misspelled key is refused. Others that begin with SLIRPCTL_ are
// left alone: scripts have variables of their own (SLIRPCTL_VERSION, SLIRPCTL_BIN, ...).
func (env environment) layer() ([]assignment, error) {
	var as []assignment
	known := []string{envConfig}
	for i := range table {
		k := &table[i]
		name := k.Env()
		if name == "" {
			continue
		}
		known = append(known, name)
		text := env[name]
		if text == "" {
			continue
		}
		texts := []string{text}
		if k.Kind == KindList {
			texts = splitList(text)
		}
		as = append(as, assignment{key: k, texts: texts, source: "environment " + name})
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(known, name) {
			if err := misspelled(name, env[name], known); err != nil {
				return nil, err
			}
		}
	}
	return as, nil
}

// misspelled refuses a variable that can't have been meant for anything else: one mistake
// away from a key's, or that of a key that is a flag only.
func misspelled(name, value string, known []string) error {
	key := strings.TrimPrefix(name, envPrefix)
	if k := lookup(key); k != nil {
		return &Error{Source: "environment " + name, Value: value, Reason: "can be a flag only", Hint: "use --" + k.Name}
	}
	for _, n := range known {
		rest := strings.TrimPrefix(n, envPrefix)
		if len(rest) > 2 && distance(key, rest) == 1 {
			return &Error{Source: "environment " + name, Value: value, Reason: "unknown key", Hint: "did you mean " + n + "?"}
		}
	}
	return nil
}
