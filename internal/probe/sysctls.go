package probe

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// pingGroupRange opens the kind of socket with which slirp4netns sends pings from inside. The kernel
// allows it to the groups in net.ipv4.ping_group_range. With CAP_NET_RAW libslirp opens a raw
// socket instead (verified with 1.2.0), but the sandbox drops that capability.
func pingGroupRange(_ context.Context, env *Env) Result {
	err := env.PingSocket()
	if err == nil {
		return ok("an ICMP socket was opened: ping works inside, over IPv4; %s", onlyIPv4Ping)
	}
	if errno := errnoOf(err); errno != unix.EACCES && errno != unix.EPERM {
		return unknown("no ICMP socket can be opened: %v", err)
	}
	reason := "ping won't work inside: no group of ours is in net.ipv4.ping_group_range"
	if env.HasCap(unix.CAP_NET_RAW) {
		reason = "ping works inside only with the sandbox off: no group of ours is in net.ipv4.ping_group_range"
	}
	if have, err := env.readInts("proc/sys/net/ipv4/ping_group_range", 2); err == nil {
		reason += fmt.Sprintf(" (%d to %d)", have[0], have[1])
	}
	return warning(env.sudo(`sysctl -w net.ipv4.ping_group_range="0 2147483647"`), "%s; %s", reason, onlyIPv4Ping)
}

// onlyIPv4Ping is a note: libslirp answers ICMPv6 echo requests to its own addresses and drops all
// others (icmp6_input in ip6_icmp.c).
const onlyIPv4Ping = "only gateway and DNS answer ping6, because slirp4netns forwards no ICMPv6"

// unprivilegedPorts reports the first port that this user can publish. The kernel's default of 1024
// is not a warning.
func unprivilegedPorts(_ context.Context, env *Env) Result {
	const kernelDefault = 1024
	if env.HasCap(unix.CAP_NET_BIND_SERVICE) {
		return ok("every port can be published (CAP_NET_BIND_SERVICE)")
	}
	have, err := env.readInts("proc/sys/net/ipv4/ip_unprivileged_port_start", 1)
	switch {
	case err != nil:
		return unknown("can't read net.ipv4.ip_unprivileged_port_start: %v", err)
	case have[0] <= 1:
		return ok("every port can be published")
	}
	r := ok("ports from %d can be published, not those below (net.ipv4.ip_unprivileged_port_start)", have[0])
	r.Remedy = env.sudo("sysctl -w net.ipv4.ip_unprivileged_port_start=80")
	if have[0] > kernelDefault {
		r.Status = Warning
	}
	return r
}

// tcpRmem checks the default receive buffer that new network namespaces inherit. Above
// 87380 bytes some kernels forward slowly (upstream issue 128).
func tcpRmem(_ context.Context, env *Env) Result {
	const good = 87380
	have, err := env.readInts("proc/sys/net/ipv4/tcp_rmem", 3)
	switch {
	case err != nil:
		return unknown("can't read net.ipv4.tcp_rmem: %v", err)
	case have[1] > good:
		return warning(fmt.Sprintf(`slirpctl exec $NAME -- sysctl -w net.ipv4.tcp_rmem="%d %d %d"`, have[0], good, have[2]),
			"the default receive buffer is %d bytes; above %d some kernels forward ports slowly", have[1], good)
	}
	return ok("the default receive buffer is %d bytes", have[1])
}
