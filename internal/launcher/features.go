package launcher

import (
	"slices"
	"strings"
)

// Feature is a feature that not every slirp4netns has. Its text is the name of the long option
// that enables it, without the dashes; [NetnsTypeTapfd] is a value of an option.
type Feature string

// The features, in the alphabetical order in which they are printed.
const (
	APISocket           Feature = "api-socket"
	CIDR                Feature = "cidr"
	Configure           Feature = "configure"
	DisableDNS          Feature = "disable-dns"
	DisableHostLoopback Feature = "disable-host-loopback"
	EnableIPv6          Feature = "enable-ipv6"
	EnableSandbox       Feature = "enable-sandbox"
	EnableSeccomp       Feature = "enable-seccomp"
	ExitFD              Feature = "exit-fd"
	MACAddress          Feature = "macaddress"
	MTU                 Feature = "mtu"
	NetnsType           Feature = "netns-type"
	NetnsTypeTapfd      Feature = "netns-type-tapfd"
	OutboundAddr        Feature = "outbound-addr"
	OutboundAddr6       Feature = "outbound-addr6"
	ReadyFD             Feature = "ready-fd"
	TargetType          Feature = "target-type"
	UsernsPath          Feature = "userns-path"
)

// features lists every feature with the upstream version that added it, found by running the
// releases. A feature's bit in a [FeatureSet] is its index here.
var features = [...]knownFeature{
	{APISocket, "0.3.0"},
	{CIDR, "0.3.0"},
	{Configure, "0.2.0"},
	{DisableDNS, "1.1.0"},
	{DisableHostLoopback, "0.3.0"},
	{EnableIPv6, "0.2.0"},
	{EnableSandbox, "0.4.0"},
	{EnableSeccomp, "0.4.0"},
	{ExitFD, "0.2.0"},
	{MACAddress, "1.1.9"},
	{MTU, "0.2.0"},
	{NetnsType, "0.4.0"},
	{NetnsTypeTapfd, "1.3.0"},
	{OutboundAddr, "1.1.0"},
	{OutboundAddr6, "1.1.0"},
	{ReadyFD, "0.2.0"},
	{TargetType, "1.2.0"},
	{UsernsPath, "0.4.0"},
}

type knownFeature struct {
	name  Feature
	since string
}

// AllFeatures returns all known features in alphabetical order.
func AllFeatures() []Feature {
	all := make([]Feature, len(features))
	for i, f := range features {
		all[i] = f.name
	}
	return all
}

func (f Feature) index() int {
	return slices.IndexFunc(features[:], func(e knownFeature) bool { return e.name == f })
}

// Known reports whether f is one of the features this package knows.
func (f Feature) Known() bool { return f.index() >= 0 }

// Since returns the upstream version that added f, like "1.1.0"; "" if f is unknown. It is for
// messages, not for decisions: distributions backport features and compile them out.
func (f Feature) Since() string {
	if !f.Known() {
		return ""
	}
	return features[f.index()].since
}

func (f Feature) bit() FeatureSet {
	if !f.Known() {
		return 0
	}
	return 1 << f.index()
}

// FeatureSet is the set of features that one slirp4netns has. The zero value is empty.
type FeatureSet uint32

// Has reports whether the set has f.
func (s FeatureSet) Has(f Feature) bool { return s&f.bit() != 0 }

// ParseFeatures parses the features from the output of `slirp4netns --help`. No other source is
// reliable: options whose support was not compiled in are accepted and fail later, and distributions
// backport features. Only options at the start of a line count, not those mentioned in a
// description.
func ParseFeatures(help string) FeatureSet {
	var set FeatureSet
	for line := range strings.Lines(help) {
		rest := strings.TrimSpace(line)
		for strings.HasPrefix(rest, "-") {
			// A word ends at white space: a tab follows --netns-type and --userns-path.
			word := rest
			rest = ""
			if i := strings.IndexAny(word, " \t"); i >= 0 {
				word, rest = word[:i], strings.TrimLeft(word[i:], " \t")
			}
			long, isLong := strings.CutPrefix(strings.TrimSuffix(word, ","), "--")
			name, _, _ := strings.Cut(long, "=")
			if !isLong || Feature(name) == NetnsTypeTapfd {
				continue
			}
			set |= Feature(name).bit()
			if Feature(name) == NetnsType && listsTapfd(rest) {
				set |= NetnsTypeTapfd.bit()
			}
		}
	}
	return set
}

// listsTapfd looks for tapfd among the values in "… ([path|pid|tapfd], default=pid)".
func listsTapfd(description string) bool {
	return slices.Contains(strings.FieldsFunc(description, func(r rune) bool { return strings.ContainsRune("()[]|, \t", r) }), "tapfd")
}
