package probe

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// PingGroupRange opens the kind of socket with which slirp4netns sends pings from inside. The kernel
// allows it to the groups in net.ipv4.ping_group_range. With CAP_NET_RAW libslirp opens a raw
// socket instead (verified with 1.2.0), but the sandbox drops that capability.
func PingGroupRange(_ context.Context, env *Env) Result {
	r := Result{Name: "ping-group-range"}
	err := env.PingSocket()
	switch errno := errnoOf(err); {
	case err == nil:
		r.Status, r.Reason = OK, "an ICMP socket was opened: ping works inside, over IPv4; "+onlyIPv4Ping
	case errno == unix.EACCES || errno == unix.EPERM:
		r.Status, r.Reason = Warning, "ping won't work inside: no group of ours is in net.ipv4.ping_group_range"
		if env.HasCap(unix.CAP_NET_RAW) {
			r.Reason = "ping works inside only with the sandbox off: no group of ours is in net.ipv4.ping_group_range"
		}
		if have, readErr := env.readInts("proc/sys/net/ipv4/ping_group_range"); readErr == nil && len(have) == 2 {
			r.Reason += fmt.Sprintf(" (%d to %d)", have[0], have[1])
		}
		r.Reason += "; " + onlyIPv4Ping
		r.Remedy = env.sudo(`sysctl -w net.ipv4.ping_group_range="0 2147483647"`)
	default:
		r.Status, r.Reason = Unknown, "no ICMP socket can be opened: "+err.Error()
	}
	return r
}

// onlyIPv4Ping is a note: libslirp answers ICMPv6 echo requests to its own addresses and drops all
// others (icmp6_input in ip6_icmp.c).
const onlyIPv4Ping = "only gateway and DNS answer ping6, because slirp4netns forwards no ICMPv6"

// UnprivilegedPorts reports the first port that this user can publish. The kernel's default of 1024
// is not a warning.
func UnprivilegedPorts(_ context.Context, env *Env) Result {
	const kernelDefault = 1024
	r := Result{Name: "unprivileged-ports", Status: OK}
	if env.HasCap(unix.CAP_NET_BIND_SERVICE) {
		r.Reason = "every port can be published (CAP_NET_BIND_SERVICE)"
		return r
	}
	have, err := env.readInts("proc/sys/net/ipv4/ip_unprivileged_port_start")
	switch {
	case err != nil || len(have) != 1:
		r.Status, r.Reason = Unknown, "can't read net.ipv4.ip_unprivileged_port_start"
		if err != nil {
			r.Reason += ": " + err.Error()
		}
	case have[0] <= 1:
		r.Reason = "every port can be published"
	default:
		r.Reason = fmt.Sprintf("ports from %d can be published, not those below (net.ipv4.ip_unprivileged_port_start)", have[0])
		r.Remedy = env.sudo("sysctl -w net.ipv4.ip_unprivileged_port_start=80")
		if have[0] > kernelDefault {
			r.Status = Warning
		}
	}
	return r
}

// TCPRmem checks the default receive buffer that new network namespaces inherit. Above
// 87380 bytes some kernels forward slowly (upstream issue 128).
func TCPRmem(_ context.Context, env *Env) Result {
	const good = 87380
	r := Result{Name: "tcp-rmem"}
	have, err := env.readInts("proc/sys/net/ipv4/tcp_rmem")
	switch {
	case err != nil || len(have) != 3:
		r.Status, r.Reason = Unknown, "can't read net.ipv4.tcp_rmem"
		if err != nil {
			r.Reason += ": " + err.Error()
		}
	case have[1] > good:
		r.Status = Warning
		r.Reason = fmt.Sprintf("the default receive buffer is %d bytes; above %d some kernels forward ports slowly", have[1], good)
		r.Remedy = fmt.Sprintf(`slirpctl exec $NAME -- sysctl -w net.ipv4.tcp_rmem="%d %d %d"`, have[0], good, have[2])
	default:
		r.Status, r.Reason = OK, fmt.Sprintf("the default receive buffer is %d bytes", have[1])
	}
	return r
}
