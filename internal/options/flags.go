package options

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Names of flags that [Load] knows and that are no keys.
const (
	flagConfig  = "config"
	flagNetwork = "network"
	flagOption  = "option"
)

// AddFlags adds a flag to fs for every option of `up`. The flags only record their values; [Load]
// parses them, so that errors are worded the same for every source.
func AddFlags(fs *pflag.FlagSet) {
	order := &podmanRecorder{}
	for _, k := range Keys() {
		switch {
		case k.Name == flagNetwork || k.Name == flagOption:
			fs.VarP(&podmanFlag{flag: k.Name, order: order}, k.Name, k.Shorthand, k.Usage)
		case k.Scope == ScopeUp:
			addFlag(fs, k)
		}
	}
}

// AddGeneralFlags adds the flags that every command has: --config, --log-level, --log-format
// and --state-dir.
func AddGeneralFlags(fs *pflag.FlagSet) {
	fs.String(flagConfig, "", "read the configuration `FILE` (YAML, TOML or JSON) instead of the user's own")
	for _, k := range Keys() {
		if k.Scope == ScopeGeneral {
			addFlag(fs, k)
		}
	}
}

func addFlag(fs *pflag.FlagSet, k Key) {
	f := fs.VarPF(&keyFlag{key: k}, k.Name, k.Shorthand, k.Usage)
	if k.Kind == KindBool {
		f.NoOptDefVal = "true"
	}
}

// keyFlag is the value of one key's flag. It keeps the texts as given.
type keyFlag struct {
	key   Key
	texts []string
}

func (f *keyFlag) Set(text string) error {
	if f.key.Kind != KindList {
		f.texts = f.texts[:0]
	}
	f.texts = append(f.texts, text)
	return nil
}

func (f *keyFlag) String() string {
	if len(f.texts) == 0 {
		return f.key.Default
	}
	return strings.Join(f.texts, ",")
}

// Type implements [pflag.Value]. pflag prints it if a usage text names no argument, and uses it to find bools.
func (f *keyFlag) Type() string {
	switch f.key.Kind {
	case KindBool:
		return "bool"
	case KindInt:
		return "int"
	case KindDuration:
		return "duration"
	default:
		return "string"
	}
}

// podmanRecorder keeps the values of --network and --option in command-line order, because the last one wins.
type podmanRecorder struct{ given []podmanGiven }

type podmanGiven struct{ flag, text string }

// podmanFlag is the value of --network or of --option.
type podmanFlag struct {
	flag  string
	order *podmanRecorder
}

func (f *podmanFlag) Set(text string) error {
	f.order.given = append(f.order.given, podmanGiven{f.flag, text})
	return nil
}

func (f *podmanFlag) String() string { return "" }
func (f *podmanFlag) Type() string   { return "string" }

// flagLayer returns the plain flags that were given.
func flagLayer(fs *pflag.FlagSet) []assignment {
	var as []assignment
	for i := range table {
		k := &table[i]
		f := fs.Lookup(k.Name)
		if f == nil || !f.Changed || k.Scope == ScopeFlagOnly {
			continue
		}
		texts := []string{f.Value.String()}
		if v, ok := f.Value.(*keyFlag); ok {
			texts = v.texts
		}
		as = append(as, assignment{key: k, texts: texts, source: "flag --" + k.Name})
	}
	return as
}

// Given returns the given flags that [Load] knows, as arguments with the same effect for another
// slirpctl, in an order in which the last one still wins.
func Given(fs *pflag.FlagSet) []string {
	var args []string
	for _, k := range table {
		f := fs.Lookup(k.Name)
		if f == nil || !f.Changed {
			continue
		}
		if v, ok := f.Value.(*keyFlag); ok {
			for _, text := range v.texts {
				args = append(args, "--"+k.Name+"="+text)
			}
		}
	}
	if f := fs.Lookup(flagConfig); f != nil && f.Changed {
		args = append(args, "--"+flagConfig+"="+f.Value.String())
	}
	if f := fs.Lookup(flagOption); f != nil {
		if v, ok := f.Value.(*podmanFlag); ok {
			for _, given := range v.order.given {
				args = append(args, "--"+given.flag+"="+given.text)
			}
		}
	}
	return args
}

// GivenGeneral is [Given] for the flags that every command takes.
func GivenGeneral(fs *pflag.FlagSet) []string {
	general := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, k := range table {
		if f := fs.Lookup(k.Name); f != nil && k.Scope == ScopeGeneral {
			general.AddFlag(f)
		}
	}
	if f := fs.Lookup(flagConfig); f != nil {
		general.AddFlag(f)
	}
	return Given(general)
}

// Environ returns those variables of environ that affect slirpctl, in their order, for a hook
// that runs it later. Variables for a dry run are left out.
func Environ(environ []string) []string {
	known := append(names(Key.Env), envConfig)
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == envName("dry-run") || !slices.Contains(known, name)
	})
}
