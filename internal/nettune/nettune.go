// Package nettune sets TCP settings of a network namespace that make TCP through slirp4netns faster. It
// exists because a new namespace copies the host's settings, which are meant for a physical network and
// not for a queue between two processes.
//
// `make bench` measures the settings, and others that were tried (docs/benchmarks.md). TCP connections end
// at slirp4netns: its own connections on the host use the host's settings.
package nettune

import (
	"os"
	"strings"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// congestion is the sysctl of the congestion control algorithm, and fast the value to set. Only reno is allowed in all
// namespaces by all kernels (ip-sysctl.rst: tcp_allowed_congestion_control).
const (
	congestion = "net/ipv4/tcp_congestion_control"
	fast       = "reno"
)

// Needed reports whether the caller's network namespace, whose settings a new namespace copies, has any
// that Apply would change.
func Needed() bool { return slow(read()) }

// Apply sets the settings in the caller's network namespace: it replaces BBR, which measures a bottleneck and
// paces itself below it, by reno. The benchmark compares the two for data that the namespace sends; the
// other direction does not depend on it.
func Apply() error {
	if !slow(read()) {
		return nil
	}
	return os.WriteFile("/proc/sys/"+congestion, []byte(fast), 0)
}

// Enter applies the settings in another network namespace; userns, if not nil, is joined first.
func Enter(netns, userns *os.File) error {
	now, err := nsexec.Sysctl(userns, netns, congestion, "", "")
	if err != nil || !slow(now) {
		return err
	}
	_, err = nsexec.Sysctl(userns, netns, congestion, "", fast)
	return err
}

func read() string {
	data, _ := os.ReadFile("/proc/sys/" + congestion)
	return strings.TrimSpace(string(data))
}

// slow reports whether an algorithm is known to be slow through slirp4netns.
func slow(algorithm string) bool { return strings.HasPrefix(algorithm, "bbr") }
