package supervisor

import (
	"github.com/slirpctl/slirpctl/internal/nettune"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// tcpReuse lets connect(2) reuse a port whose last connection ended more than a second ago
// (ip-sysctl.rst: tcp_tw_reuse). The kernel's default, 2, does so for loopback addresses only.
const tcpReuse = "net/ipv4/tcp_tw_reuse"

// reusePorts sets tcpReuse in the namespace, for the connections that the handlers direct and rootlesskit
// make to the guest's address. Without it the ports run out at about 14,000 short connections a
// minute: each port stays in TIME_WAIT for a minute, and once half of ip_local_port_range is in use a
// connect takes milliseconds (measured: 9,600 connections a second, then 500). A value of 0 is left
// alone: somebody switched it off.
func (s *supervisor) reusePorts() {
	if _, err := nsexec.Sysctl(s.entry, s.tgt.Netns, tcpReuse, "0", "1"); err != nil {
		s.log.Debugf("%s: %v", tcpReuse, err)
	}
}

// tune sets the namespace's TCP settings that make slirp4netns faster, while it starts. COMMAND's init
// does so itself; other namespaces are entered, only on hosts where there is something to set.
func (s *supervisor) tune() {
	if s.tuned || s.cmd != nil || !nettune.Needed() {
		return
	}
	s.tuned = true
	if err := nettune.Enter(s.tgt.Netns, s.entry); err != nil {
		s.log.Debugf("TCP settings of the namespace: %v", err)
	}
}
