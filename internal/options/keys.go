package options

import (
	"net"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Kind is the type of a key's value.
type Kind string

// The kinds of key.
const (
	KindBool     Kind = "true or false"
	KindInt      Kind = "a whole number"
	KindText     Kind = "text"
	KindEnum     Kind = "one of several words"
	KindDuration Kind = "a duration such as 500ms, 10s or 1m30s"
	KindList     Kind = "a list"
)

// Scope is the set of sources and commands that a key can be given in.
type Scope int

// The scopes of a key.
const (
	ScopeUp       Scope = iota // flag of `up`, environment, configuration file
	ScopeGeneral               // flag of every command, environment, configuration file
	ScopeNoFlag                // environment and configuration file only
	ScopeFlagOnly              // flag of `up` only
)

// Key is one option, with its names in all sources.
type Key struct {
	Name      string // flag and file key; a file may also write it with _ for - and the reverse
	Shorthand string // one-letter flag, or ""
	Podman    string // name in Podman's option strings, or ""
	Default   string // as text; "" means none
	Arg       string // name of the value in usage texts
	Usage     string
	Kind      Kind
	Values    []string // the values of a KindEnum
	Scope     Scope
	field     field
}

// Env returns the name of the key's environment variable, or "" if it has none.
func (k Key) Env() string {
	if k.Scope == ScopeFlagOnly {
		return ""
	}
	return envName(k.Name)
}

// wants describes the values that k takes.
func (k Key) wants() string {
	if k.Kind == KindEnum {
		return "one of " + strings.Join(k.Values, ", ")
	}
	return string(k.Kind)
}

const envPrefix = "SLIRPCTL_"

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// Keys returns the table of all keys, in the order in which they are printed. The caller must not change it.
func Keys() []Key { return table }

// lookup returns the key with this name in a configuration file, or nil.
func lookup(name string) *Key {
	for i := range table {
		if normal(table[i].Name) == normal(name) {
			return &table[i]
		}
	}
	return nil
}

// names returns of(k) for every key k, without "".
func names(of func(Key) string) []string {
	var list []string
	for _, k := range table {
		if n := of(k); n != "" {
			list = append(list, n)
		}
	}
	return list
}

func fileName(k Key) string {
	if k.Scope == ScopeFlagOnly {
		return ""
	}
	return k.Name
}

func podmanName(k Key) string { return k.Podman }

var (
	egressModes = []string{egress.Open.String(), egress.Log.String(), egress.Enforce.String()}
	toggles     = []string{string(Auto), string(On), string(Off)}
	handlers    = []string{string(HandlerDirect), string(HandlerRootlessKit), string(HandlerSlirp4netns)}
	users       = []string{string(UserRoot), string(UserKeep)}
	policies    = []string{string(RestartOnFailure), string(RestartNever)}
	logLevels   = []string{"trace", "debug", "info", "warning", "error"}
	logFormats  = []string{"text", "json"}
)

var table = []Key{
	{
		Name: "name", Arg: "NAME", Kind: KindText,
		Usage: "`NAME` of the instance (container id, pid-N or the network namespace's name if not given)",
		field: textField(func(m *Merged) *string { return &m.Name }, parseName),
	},
	{
		Name: "detach", Shorthand: "d", Default: "false", Kind: KindBool,
		Usage: "run in the background; return when the network is ready",
		field: boolField(func(m *Merged) *bool { return &m.Detach }),
	},
	{
		Name: "wait-listen", Arg: "PORT[/PROTO]", Kind: KindList,
		Usage: "ready only when something inside listens on `PORT[/PROTO]`; PROTO is tcp, udp, tcp4, tcp6, udp4 or udp6 [tcp]; repeatable",
		field: listField(func(m *Merged) *[]Listen { return &m.WaitListen }, parseListen),
	},
	{
		Name: "publish", Shorthand: "p", Arg: "SPEC", Kind: KindList,
		Usage: "forward the port `SPEC`, [HOSTIP:][HOSTPORT]:[GUESTIP:]GUESTPORT[/PROTO,...], or auto[:HOSTIP]; a port may be a range, " +
			"8000-8010; HOSTIP is 0.0.0.0 if not given (127.0.0.1 with auto); PROTO is tcp (the default), udp, tcp4, tcp6, udp4 or udp6; repeatable",
		field: publishField(),
	},
	{
		Name: "auto-exclude", Arg: "PORT[-END]", Kind: KindList,
		Usage: "`PORT[-END]` that --publish auto does not forward; repeatable",
		field: listField(func(m *Merged) *[]PortRange { return &m.AutoExclude }, parsePortRanges),
	},
	{
		Name: "annotation-ports", Arg: "PORT[-END]", Kind: KindText,
		Usage: "host ports `PORT[-END]` that a container's annotations may publish (all unprivileged ports if not given)",
		field: valueField(func(m *Merged) *PortRange { return &m.AnnotationPorts }, parseAnyRange, PortRange.String),
	},
	{
		Name: "port-handler", Podman: "port_handler", Default: string(HandlerDirect), Arg: "HANDLER", Kind: KindEnum, Values: handlers,
		Usage: "`HANDLER` of forwarded ports: direct, rootlesskit or slirp4netns",
		field: enumField(func(m *Merged) *PortHandler { return &m.PortHandler }, handlers...),
	},
	{
		Name: "source-ip-transparent", Default: "false", Kind: KindBool,
		Usage: "keep the client's source address in forwarded connections (handlers direct, and rootlesskit for TCP)",
		field: boolField(func(m *Merged) *bool { return &m.SourceIPTransparent }),
	},
	{
		Name: "cidr", Podman: "cidr", Default: subnet.Default().String(), Arg: "CIDR", Kind: KindText,
		Usage: "IPv4 network of the namespace as a `CIDR` with a prefix of 1 to 25",
		field: valueField(func(m *Merged) *subnet.Network { return &m.CIDR }, subnet.Parse, subnet.Network.String),
	},
	{
		Name: "mtu", Podman: "mtu", Default: "65520", Arg: "BYTES", Kind: KindInt,
		Usage: "MTU of the tap in `BYTES`, 68 to 65521",
		field: intField(func(m *Merged) *int { return &m.MTU }, 68, 65521),
	},
	{
		Name: "ipv6", Podman: "enable_ipv6", Default: "false", Kind: KindBool,
		Usage: "enable IPv6 in the namespace",
		field: boolField(func(m *Merged) *bool { return &m.IPv6 }),
	},
	{
		Name: "allow-host-loopback", Podman: "allow_host_loopback", Default: "false", Kind: KindBool,
		Usage: "let the namespace reach the host's 127.0.0.1 through the gateway",
		field: boolField(func(m *Merged) *bool { return &m.AllowHostLoopback }),
	},
	{
		Name: "outbound-addr", Podman: "outbound_addr", Arg: "IPV4|INTERFACE", Kind: KindText,
		Usage: "source address of outgoing traffic, `IPV4|INTERFACE`",
		field: outboundField(func(m *Merged) *Outbound { return &m.OutboundAddr }, "IPv4"),
	},
	{
		Name: "outbound-addr6", Podman: "outbound_addr6", Arg: "IPV6|INTERFACE", Kind: KindText,
		Usage: "source address of outgoing IPv6 traffic, `IPV6|INTERFACE`; needs --ipv6",
		field: outboundField(func(m *Merged) *Outbound { return &m.OutboundAddr6 }, "IPv6"),
	},
	{
		Name: "tap-name", Default: "tap0", Arg: "NAME", Kind: KindText,
		Usage: "`NAME` of the network interface in the namespace",
		field: textField(func(m *Merged) *string { return &m.TapName }, parseTapName),
	},
	{
		Name: "macaddress", Arg: "MAC", Kind: KindText,
		Usage: "`MAC` address of the tap (random if not given)",
		field: valueField(func(m *Merged) *net.HardwareAddr { return &m.MACAddress }, parseMAC, net.HardwareAddr.String),
	},
	{
		Name: "disable-dns", Default: "false", Kind: KindBool,
		Usage: "disable the built-in DNS server",
		field: boolField(func(m *Merged) *bool { return &m.DisableDNS }),
	},
	{
		Name: "egress", Default: egress.Open.String(), Arg: "MODE", Kind: KindEnum, Values: egressModes,
		Usage: "`MODE` of what leaves: open, log (record it) or deny (all that no --allow allows; the default with a rule)",
		field: valueField(func(m *Merged) *egress.Mode { return &m.Egress.Mode }, egress.ParseMode, egress.Mode.String),
	},
	{
		Name: "allow", Arg: "RULE", Kind: KindList,
		Usage: "let the namespace reach `RULE`, TARGET[:PORTS][/PROTO], and no other; TARGET is a name, *.name, an address, a CIDR or *; repeatable",
		field: rulesField(egress.Allow),
	},
	{
		Name: "deny", Arg: "RULE", Kind: KindList,
		Usage: "keep the namespace from `RULE`, whatever is allowed; repeatable",
		field: rulesField(egress.Deny),
	},
	{
		Name: "egress-policy", Arg: "FILE", Kind: KindText,
		Usage: "read egress rules from `FILE` too",
		field: textField(func(m *Merged) *string { return &m.Egress.File }, parseFilePath),
	},
	{
		Name: "egress-record", Arg: "FILE", Kind: KindText,
		Usage: "at the end write a policy that allows what has passed to `FILE`",
		field: textField(func(m *Merged) *string { return &m.Egress.Record }, parseFilePath),
	},
	{
		Name: "upstream-proxy", Arg: "URL", Kind: KindText,
		Usage: "with egress rules, let TCP go through the proxy at `URL`, http://[USER:PASSWORD@]HOST:PORT or socks5://…, by name",
		field: textField(func(m *Merged) *string { return &m.Egress.Upstream }, parseProxy),
	},
	{
		Name: "fail-on-deny", Default: "false", Kind: KindBool,
		Usage: "end with status 125 if anything that -- COMMAND tried was denied",
		field: boolField(func(m *Merged) *bool { return &m.Egress.FailOnDeny }),
	},
	{
		Name: "preserve-fds", Default: "0", Arg: "N", Kind: KindInt,
		Usage: "with --egress deny, the `N` file descriptors after 2 that -- COMMAND gets nevertheless",
		field: intField(func(m *Merged) *int { return &m.Egress.PreserveFDs }, 0, 1<<16),
	},
	{
		Name: "sandbox", Default: string(Auto), Arg: "WHEN", Kind: KindEnum, Values: toggles,
		Usage: "`WHEN` to run slirp4netns in a sandbox: auto (wherever possible), true or false",
		field: enumField(func(m *Merged) *Toggle { return &m.Sandbox }, toggles...),
	},
	{
		Name: "seccomp", Default: string(Auto), Arg: "WHEN", Kind: KindEnum, Values: toggles,
		Usage: "`WHEN` to filter slirp4netns's system calls: auto (wherever possible), true or false",
		field: enumField(func(m *Merged) *Toggle { return &m.Seccomp }, toggles...),
	},
	{
		Name: "network", Arg: "slirp4netns:K=V,...", Kind: KindList, Scope: ScopeFlagOnly,
		Usage: "options in Podman's syntax, `slirp4netns:K=V,...`",
	},
	{
		Name: "option", Shorthand: "o", Arg: "K=V", Kind: KindList, Scope: ScopeFlagOnly,
		Usage: "one option `K=V` in Podman's syntax; repeatable",
	},
	{
		Name: "slirp4netns-path", Arg: "FILE", Kind: KindText,
		Usage: "slirp4netns `FILE` to run (searched for in PATH if not given)",
		field: textField(func(m *Merged) *string { return &m.Slirp4netnsPath }, parsePath),
	},
	{
		Name: "restart", Default: string(RestartOnFailure), Arg: "POLICY", Kind: KindEnum, Values: policies,
		Usage: "`POLICY` when slirp4netns dies: on-failure (restart it and restore the forwards) or never",
		field: enumField(func(m *Merged) *RestartPolicy { return &m.Restart }, policies...),
	},
	{
		Name: "timeout", Default: "10s", Arg: "DURATION", Kind: KindDuration,
		Usage: "give up if the network is not ready after `DURATION`",
		field: durationField(func(m *Merged) *time.Duration { return &m.Timeout }, 1),
	},
	{
		Name: "wait-netns", Default: "500ms", Arg: "DURATION", Kind: KindDuration,
		Usage: "wait up to `DURATION` for the process to unshare its network namespace",
		field: durationField(func(m *Merged) *time.Duration { return &m.WaitNetns }, 0),
	},
	{
		Name: "ready-fd", Arg: "FD", Kind: KindInt,
		Usage: "write 1 to the file descriptor `FD` and close it when the network is ready",
		field: fdField(func(m *Merged) *int { return &m.ReadyFD }),
	},
	{
		Name: "exit-fd", Arg: "FD", Kind: KindInt,
		Usage: "stop when the other end of the file descriptor `FD` is closed",
		field: fdField(func(m *Merged) *int { return &m.ExitFD }),
	},
	{
		Name: "pid-file", Arg: "FILE", Kind: KindText,
		Usage: "write the supervisor's PID to `FILE`",
		field: textField(func(m *Merged) *string { return &m.PIDFile }, parseFilePath),
	},
	{
		Name: "map-users", Default: "false", Kind: KindBool,
		Usage: "also map the caller's ranges of /etc/subuid and /etc/subgid (for -- COMMAND)",
		field: boolField(func(m *Merged) *bool { return &m.MapUsers }),
	},
	{
		Name: "user", Default: string(UserRoot), Arg: "WHO", Kind: KindEnum, Values: users,
		Usage: "`WHO` runs -- COMMAND: root (id 0 of its user namespace), or keep (the caller's own id, without capabilities)",
		field: enumField(func(m *Merged) *User { return &m.User }, users...),
	},
	{
		Name: "dry-run", Default: "false", Kind: KindBool,
		Usage: "print the slirp4netns command line and change nothing",
		field: boolField(func(m *Merged) *bool { return &m.DryRun }),
	},
	{
		Name: "pid-namespace", Default: string(Auto), Arg: "WHEN", Kind: KindEnum, Values: toggles,
		Usage: "`WHEN` to give -- COMMAND a PID namespace: auto (wherever /proc can be mounted in it), true or false",
		field: enumField(func(m *Merged) *Toggle { return &m.PIDNamespace }, toggles...),
	},
	{
		Name: "containers_conf", Default: "false", Arg: "true|FILE", Kind: KindText, Scope: ScopeNoFlag,
		Usage: "read [engine] of Podman's containers.conf: true, false, or a path",
		field: textField(func(m *Merged) *string { return &m.ContainersConf }, parseContainersConf),
	},
	{
		Name: "log-level", Default: "warning", Arg: "LEVEL", Kind: KindEnum, Values: logLevels, Scope: ScopeGeneral,
		Usage: "least severe `LEVEL` to log, also in the instance's log [info there]: trace, debug, info, warning or error",
		field: textField(func(m *Merged) *string { return &m.LogLevel }, parseLogLevel),
	},
	{
		Name: "log-format", Default: "text", Arg: "FORMAT", Kind: KindEnum, Values: logFormats, Scope: ScopeGeneral,
		Usage: "`FORMAT` of errors, hints and logs: text or json",
		field: enumField(func(m *Merged) *string { return &m.LogFormat }, logFormats...),
	},
	{
		Name: "state-dir", Arg: "DIR", Kind: KindText, Scope: ScopeGeneral,
		Usage: "directory `DIR` of the state of instances (slirpctl in the runtime directory if not given)",
		field: textField(func(m *Merged) *string { return &m.StateDir }, parsePath),
	},
}

func defaults() Merged {
	var m Merged
	for i := range table {
		k := &table[i]
		if k.Scope == ScopeFlagOnly || k.Kind == KindList {
			continue
		}
		// Some kinds have no value for "" and need none: their zero value is "none".
		if err := k.field.set(&m, []string{k.Default}); err != nil {
			panic("options: default of " + k.Name + ": " + err.Error())
		}
	}
	return m
}
