// Package options holds every option of `slirpctl up` in one typed struct, and merges it from
// flags, environment, configuration files, containers.conf and Podman's option strings. It exists
// so that an invalid value is rejected once, when it is read, with the name of its source.
//
// One table, [Keys], defines the spelling of each option in each source. Flags, environment
// variables, file keys, `slirpctl config`, completions and manual pages are generated from it.
package options

import (
	"net"
	"net/netip"
	"time"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Toggle is a security option: on, off, or on if it works on this host.
type Toggle string

// The values of a [Toggle].
const (
	Auto Toggle = "auto"
	On   Toggle = "true"
	Off  Toggle = "false"
)

// PortHandler names a port handler.
type PortHandler string

// The port handlers.
const (
	HandlerRootlessKit PortHandler = "rootlesskit"
	HandlerSlirp4netns PortHandler = "slirp4netns"
	HandlerDirect      PortHandler = "direct"
)

// RestartPolicy says what happens when slirp4netns dies.
type RestartPolicy string

// The restart policies.
const (
	RestartOnFailure RestartPolicy = "on-failure"
	RestartNever     RestartPolicy = "never"
)

// User says as whom COMMAND runs.
type User string

// The users of COMMAND.
const (
	UserRoot User = "root" // id 0 of its user namespace
	UserKeep User = "keep" // the caller's own id
)

// Outbound is the source of outgoing traffic: an address, or an interface whose first
// address is used, as found at the start. At most one of the two is set.
type Outbound struct {
	Addr      netip.Addr
	Interface string
}

// IsZero reports whether no source is set.
func (o Outbound) IsZero() bool { return !o.Addr.IsValid() && o.Interface == "" }

// String returns the address or the name of the interface.
func (o Outbound) String() string {
	if o.Addr.IsValid() {
		return o.Addr.String()
	}
	return o.Interface
}

// PortRange is an inclusive range of ports, First <= Last.
type PortRange struct{ First, Last uint16 }

// Contains reports whether port is in r.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// AutoPublish is -p auto: forward the ports that programs inside listen on. The zero value is off.
type AutoPublish struct {
	HostIP netip.Addr // the host address to listen on
	Ports  PortRange  // the host ports that may be listened on
	Max    int        // maximum number of forwards
}

// On reports whether it is enabled.
func (a AutoPublish) On() bool { return a.HostIP.IsValid() }

// String returns "auto" or "auto:ADDRESS", and "" if it is off.
func (a AutoPublish) String() string {
	switch {
	case !a.On():
		return ""
	case a.HostIP == autoHostIP:
		return autoWord
	}
	return autoWord + ":" + a.HostIP.String()
}

// Egress says whom the namespace may talk to.
type Egress struct {
	Mode  egress.Mode
	Rules []egress.Rule // all of them, those of File too
	// Narrow are the rules of a container's annotations, if Narrowed: they must allow as well.
	Narrow   []egress.Rule
	Narrowed bool
	File     string // the policy file; "" means none
	// Record is the file that a policy is written to at the end; "" means none.
	Record      string
	FailOnDeny  bool
	Upstream    string // URL of a proxy; "" means none
	PreserveFDs int    // descriptors after 2 that COMMAND gets in mode deny
}

// Options are the options of `up`, checked and typed.
type Options struct {
	Name   string // "": derived from the target
	Detach bool

	Publish             []hostfwd.Spec
	PublishAuto         AutoPublish
	AnnotationPorts     PortRange // the host ports that annotations may publish; zero: all unprivileged ones
	AutoExclude         []PortRange
	PortHandler         PortHandler
	SourceIPTransparent bool

	CIDR              subnet.Network
	MTU               int // bytes, 68 to 65521
	IPv6              bool
	AllowHostLoopback bool
	BanHostLoopback   bool     // AllowHostLoopback was set, to false
	OutboundAddr      Outbound // IPv4
	OutboundAddr6     Outbound // IPv6; needs IPv6
	TapName           string   // 1 to 15 bytes
	MACAddress        net.HardwareAddr
	DisableDNS        bool

	Egress Egress

	Sandbox Toggle
	Seccomp Toggle

	Slirp4netnsPath string // "": searched on PATH
	Restart         RestartPolicy
	Timeout         time.Duration // until ready
	WaitListen      []Listen      // what must listen for that
	WaitNetns       time.Duration // for a process that has not unshared yet

	ReadyFD  int // -1: none
	ExitFD   int // -1: none
	PIDFile  string
	MapUsers bool
	User     User // COMMAND's
	DryRun   bool // print slirp4netns's command line only
	// PIDNamespace is COMMAND's.
	PIDNamespace Toggle
}

// General holds the options of every command.
type General struct {
	// ContainersConf is "false", "true" (read Podman's usual files) or the path of one file.
	ContainersConf string
	LogLevel       string // trace, debug, info, warning or error
	LogFormat      string // text or json
	StateDir       string // "": the caller's default directory
}
