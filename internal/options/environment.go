package options

import (
	"maps"
	"slices"
	"strings"

	"github.com/slirpctl/slirpctl/internal/plaintext"
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

// alsoKnown are variables that begin with SLIRPCTL_ and are no keys: the configuration file's,
// one that `up` sets for COMMAND, and cobra's.
var alsoKnown = []string{envConfig, envPrefix + "INSTANCE", envPrefix + "ACTIVE_HELP"}

// testPrefix starts the names of variables of slirpctl's own tests.
const testPrefix = envPrefix + "TEST_"

// layer returns the options in the environment, and warnings about variables that look like keys
// and are not: scripts may have variables of their own (SLIRPCTL_VERSION, SLIRPCTL_BIN). An
// empty variable counts as not set, as is usual for shell scripts.
func (env environment) layer() (as []assignment, warnings []string) {
	known := slices.Clone(alsoKnown)
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
		if env[name] == "" || !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, testPrefix) || slices.Contains(known, name) {
			continue
		}
		warnings = append(warnings, plaintext.Line("environment "+name+": "+unknownVariable(name)))
	}
	return as, warnings
}

// unknownVariable returns a warning that no key has the variable name, with the nearest key.
func unknownVariable(name string) string {
	written := strings.TrimPrefix(name, envPrefix)
	if k := lookup(written); k != nil {
		return "ignored, can only be set by a flag: use --" + k.Name
	}
	keys := append(names(func(k Key) string { return strings.TrimPrefix(k.Env(), envPrefix) }), "CONFIG")
	near := Nearest(written, keys)
	if near == "" {
		return "ignored, unknown key"
	}
	return "ignored, unknown key; did you mean " + envPrefix + near + "?"
}
