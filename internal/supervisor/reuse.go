package supervisor

import "github.com/slirpctl/slirpctl/internal/nsexec"

// tcpReuse lets connect(2) take a port again whose last connection ended over a second ago
// (ip-sysctl.rst: tcp_tw_reuse). The kernel's own default, 2, does so for loopback addresses only.
const tcpReuse = "net/ipv4/tcp_tw_reuse"

// reusePorts sets that in the namespace, for the connections that the handlers direct and rootlesskit
// make to the guest's address. Otherwise the ports run out where a service gets some 14,000 short
// connections a minute: each stays in TIME_WAIT for that long, and once half of
// ip_local_port_range is taken, a connect costs milliseconds (measured: 9,600 connections a
// second, then 500). Who has switched it off keeps it off.
func (s *supervisor) reusePorts() {
	if _, err := nsexec.Sysctl(s.entry, s.tgt.Netns, tcpReuse, "0", "1"); err != nil {
		s.log.Debugf("%s: %v", tcpReuse, err)
	}
}
