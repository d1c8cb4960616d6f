package options

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Sources are the sources of [Load] besides flags. [SystemSources] returns the real ones; tests make their own.
type Sources struct {
	Environ []string // as from os.Environ
	// Root is prepended to every absolute path that is read; "" means the real root.
	Root string
	// Annotations are those of an OCI container, or nil.
	Annotations map[string]string
	// UnprivilegedStart is the first host port that every user may listen on.
	UnprivilegedStart uint16

	seen map[string][]byte // files that were read; nil reads each time
}

// SystemSources returns the caller's environment and files.
func SystemSources() Sources {
	start := hostfwd.UnprivilegedPortStart()
	if start < 0 {
		start = 1024
	}
	return Sources{Environ: os.Environ(), UnprivilegedStart: uint16(start), seen: map[string][]byte{}}
}

func (s Sources) path(p string) string {
	if s.Root == "" || !filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(s.Root, p)
}

// Merged is the result of merging every source.
type Merged struct {
	Options
	General
	// Values has the source of each key that is not a flag only, in the order of [Keys].
	Values []Value
	// Warnings are about ignored settings, UpWarnings about settings that reduce the security of `up`; one line each.
	Warnings, UpWarnings []string
}

// Value is one line of `slirpctl config`.
type Value struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"` // "flag --mtu", "environment SLIRPCTL_MTU", a file's path, "default"
}

// SourceDefault is the source of a [Value] that no source sets.
const SourceDefault = "default"

// Source returns where the value of a key came from, or "" for an unknown key.
func (m *Merged) Source(key string) string {
	for _, v := range m.Values {
		if normal(v.Key) == normal(key) {
			return v.Source
		}
	}
	return ""
}

// IsSet reports whether any source sets key, even to its default.
func (m *Merged) IsSet(key string) bool {
	s := m.Source(key)
	return s != "" && s != SourceDefault
}

// assignment is one key with the text that one source has for it.
type assignment struct {
	key     *Key
	texts   []string
	source  string // for [Value.Source]
	line    string // ":N" in a file, if the line was found
	spelled string // the key as written, if not its name
}

// set parses a into m.
func (a assignment) set(m *Merged) error {
	err := a.key.field.set(m, a.texts)
	if err == nil {
		return nil
	}
	e := a.errorf(err.Error())
	e.Err = err
	if element, ok := errors.AsType[*elementError](err); ok {
		e.Value = element.text
	}
	if _, ok := errors.AsType[*hostfwd.SpecError](err); ok {
		e.Value = "" // the reason quotes it
	}
	if cidr, ok := errors.AsType[*subnet.CIDRError](err); ok && cidr.CIDR != "" {
		e.Reason = cidr.Reason
		if cidr.Meant.IsValid() {
			e.Help = "did you mean " + cidr.Meant.String() + "?"
		}
	}
	if hinted, ok := errors.AsType[*fault.Error](err); ok {
		e.Help = hinted.Help
	}
	return e
}

func (a assignment) errorf(reason string) *Error {
	e := &Error{Source: a.source + a.line, Key: a.key.Name, Value: strings.Join(a.texts, ","), Reason: reason}
	if a.spelled != "" {
		e.Key = a.spelled
	}
	if e.Value == "" && len(a.texts) == 1 {
		e.Reason = errEmpty.Error()
	}
	return e
}

// Load merges every source, the lowest precedence first: defaults, containers.conf (if enabled),
// /etc/slirpctl, the user's configuration file, environment, an OCI container's annotations, Podman's
// option strings, flags. Ports that annotations publish are added to the others. A value that is set
// overrides every lower one, even if it equals the default; a value that can't be parsed is an error
// even if a higher one overrides it. A list replaces the lower list as a whole.
//
// fs may lack any flag, or be nil. The error is always an *[Error].
func Load(fs *pflag.FlagSet, src Sources) (Merged, error) {
	if fs == nil {
		fs = &pflag.FlagSet{}
	}
	env := parseEnviron(src.Environ)
	fromEnv, warnings := env.layer()
	var layers []assignment
	for _, layer := range []func() ([]assignment, error){
		src.systemLayer,
		func() ([]assignment, error) { return src.userLayer(fs, env) },
		func() ([]assignment, error) { return fromEnv, nil },
		func() ([]assignment, error) { return annotationLayer(src.Annotations) },
		func() ([]assignment, error) { return podmanLayer(fs) },
		func() ([]assignment, error) { return flagLayer(fs), nil },
	} {
		as, err := layer()
		if err != nil {
			return Merged{}, err
		}
		layers = append(layers, as...)
	}
	lowest, err := src.containersLayer(containersConf(layers), env)
	if err != nil {
		return Merged{}, err
	}
	m, err := merge(append(lowest, layers...), src.read)
	if err != nil {
		return Merged{}, err
	}
	m.Warnings = warnings
	unprivileged := PortRange{src.UnprivilegedStart, math.MaxUint16}
	if m.PublishAuto.On() {
		m.PublishAuto.Ports, m.PublishAuto.Max = unprivileged, hostfwd.MaxForwards
	}
	if err := addAnnotatedRules(&m, src.Annotations); err != nil {
		return Merged{}, err
	}
	if err := addAnnotatedPorts(&m, src.Annotations, unprivileged); err != nil {
		return Merged{}, err
	}
	return m, nil
}

// merge applies assignments to the defaults, the last one of a key winning, and checks the result.
func merge(as []assignment, read func(string) ([]byte, error)) (Merged, error) {
	m := defaults()
	won := make(map[*Key]assignment, len(as))
	for _, a := range as {
		if err := a.set(&m); err != nil {
			return Merged{}, err
		}
		won[a.key] = a
	}
	_, said := won[lookup("allow-host-loopback")]
	m.BanHostLoopback = said && !m.AllowHostLoopback
	if err := completeEgress(&m, won, read); err != nil {
		return Merged{}, err
	}
	if err := check(&m, won); err != nil {
		return Merged{}, err
	}
	if a := won[lookup("sandbox")]; a.spelled == noPivotRoot {
		m.UpWarnings = append(m.UpWarnings, a.source+": no_pivot_root: slirp4netns runs without its sandbox")
	}
	for i := range table {
		k := &table[i]
		if k.Scope == ScopeFlagOnly {
			continue
		}
		v := Value{Key: k.Name, Value: k.field.get(&m), Source: SourceDefault}
		if a, ok := won[k]; ok {
			v.Source = a.source
		}
		m.Values = append(m.Values, v)
	}
	return m, nil
}

// check rejects combinations of values that are valid alone.
func check(m *Merged, won map[*Key]assignment) error {
	blame := func(key, reason, hint, podmanHint string) error {
		a := won[lookup(key)]
		e := a.errorf(reason)
		e.Help = hint
		if a.spelled != "" && a.spelled == a.key.Podman && podmanHint != "" {
			e.Help = podmanHint
		}
		return e
	}
	switch {
	case total(m.Publish) > hostfwd.MaxForwards:
		return blame("publish", hostfwd.ErrTooMany.Error(), "", "")
	case !m.OutboundAddr6.IsZero() && !m.IPv6:
		return blame("outbound-addr6", "needs IPv6, which is off", "add --ipv6", "add enable_ipv6=true")
	case m.IPv6 && m.MTU < minMTU6:
		// The kernel disables IPv6 on an interface with a smaller MTU (addrconf_notify in net/ipv6/addrconf.c).
		return blame("mtu", "less than "+strconv.Itoa(minMTU6)+", the least that IPv6 works with", "", "")
	case m.Egress.Mode != egress.Open && m.PortHandler == HandlerSlirp4netns:
		return blame("port-handler", "slirp4netns can't carry forwards where the egress rules' gateway stands before it", "use --port-handler direct", "")
	case m.Egress.Mode != egress.Open && m.IPv6:
		return blame("ipv6", "with egress rules the namespace has IPv4 alone; names with IPv6 addresses are reached all the same", "leave --ipv6 out", "")
	case m.ReadyFD >= 0 && m.ReadyFD == m.ExitFD:
		return blame("exit-fd", "also the file descriptor of ready-fd, which is closed when ready", "", "")
	}
	return nil
}

// total returns the number of forwards in specs.
func total(specs []hostfwd.Spec) (n int) {
	for _, s := range specs {
		n += s.Total()
	}
	return n
}

// minMTU6 is IPV6_MIN_MTU of linux/ipv6.h, in bytes.
const minMTU6 = 1280
