package options

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// podmanLayer returns the values of --network and --option, in command-line order.
func podmanLayer(fs *pflag.FlagSet) ([]assignment, error) {
	f := fs.Lookup(flagOption)
	if f == nil {
		return nil, nil
	}
	v, ok := f.Value.(*podmanFlag)
	if !ok {
		return nil, nil
	}
	var as []assignment
	for _, given := range v.order.given {
		source := "flag --" + given.flag
		items := []string{given.text}
		if given.flag == flagNetwork {
			var err error
			if items, err = splitNetwork(given.text); err != nil {
				return nil, err
			}
		}
		for _, item := range items {
			a, err := podmanOption(item, source)
			if err != nil {
				return nil, err
			}
			as = append(as, a)
		}
	}
	return as, nil
}

// splitNetwork splits the value of --network: slirp4netns, or slirp4netns:K=V,K=V.
func splitNetwork(text string) ([]string, error) {
	mode, rest, _ := strings.Cut(text, ":")
	if mode != "slirp4netns" {
		return nil, &Error{
			Source: "flag --" + flagNetwork, Value: text, Reason: "the only network is slirp4netns",
			Help: "write --network slirp4netns or --network slirp4netns:K=V,...",
		}
	}
	if rest == "" {
		return nil, nil
	}
	return strings.Split(rest, ","), nil
}

// podmanOption parses K=V, where K is one of Podman's names. As with Podman, a boolean option accepts
// true and false and no other spelling.
func podmanOption(item, source string) (assignment, error) {
	name, value, found := strings.Cut(item, "=")
	if !found {
		e := &Error{Source: source, Value: item, Reason: "an option without =", Help: "write K=V"}
		if item == "" {
			e.Reason = "an empty option"
		}
		return assignment{}, e
	}
	if k := podmanKey(name); k != nil {
		if value == "" {
			return assignment{}, &Error{Source: source, Key: name, Reason: errEmpty.Error()}
		}
		if k.Kind == KindBool && value != "true" && value != "false" {
			return assignment{}, &Error{Source: source, Key: name, Value: value, Reason: "neither true nor false"}
		}
		return assignment{key: k, texts: []string{value}, source: source, spelled: name}, nil
	}
	e := &Error{Source: source, Key: name, Value: value, Reason: "unknown option", Help: didYouMean(name, names(podmanName))}
	if name == "" {
		e.Value, e.Reason = item, "an option without a name"
	}
	if k := lookup(name); k != nil && k.Scope == ScopeUp && k.Podman == "" {
		e.Help = "Podman has no such option; use --" + k.Name
	}
	return assignment{}, e
}

// podmanKey returns the key with this name in Podman's option strings, or nil.
func podmanKey(name string) *Key {
	i := slices.IndexFunc(table, func(k Key) bool { return k.Podman == name })
	if i < 0 || name == "" {
		return nil
	}
	return &table[i]
}
