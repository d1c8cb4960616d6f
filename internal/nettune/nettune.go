// Package nettune sets, inside a network namespace, what makes TCP through slirp4netns quicker. It
// exists because a new namespace takes its settings from the host's, where they are right for a
// wire and not for a queue of memory between two processes.
//
// What is set, and what else was tried, is measured by `make bench` (docs/benchmarks.md). TCP ends at
// slirp4netns: what goes over a wire is a connection of slirp4netns's own on the host, with the
// host's settings.
package nettune

import (
	"os"
	"strings"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// congestion is the namespace's algorithm; only reno is allowed to every namespace by every
// kernel (ip-sysctl.rst: tcp_allowed_congestion_control).
const (
	congestion = "net/ipv4/tcp_congestion_control"
	better     = "reno"
)

// Needed reports whether the caller's own network namespace, from whose settings a new one is
// made, has any that Apply would change.
func Needed() bool { return slow(read()) }

// Apply sets what helps, in the caller's network namespace. BBR measures a bottleneck and paces
// itself below it; reno does not. The benchmark's rows of settings compare the two for what the
// namespace sends; the other direction does not depend on it.
func Apply() error {
	if !slow(read()) {
		return nil
	}
	return os.WriteFile("/proc/sys/"+congestion, []byte(better), 0)
}

// Enter applies the settings in another network namespace, to get into which userns must be entered
// first unless it is nil.
func Enter(netns, userns *os.File) error {
	now, err := nsexec.Sysctl(userns, netns, congestion, "", "")
	if err != nil || !slow(now) {
		return err
	}
	_, err = nsexec.Sysctl(userns, netns, congestion, "", better)
	return err
}

func read() string {
	data, _ := os.ReadFile("/proc/sys/" + congestion)
	return strings.TrimSpace(string(data))
}

// slow reports whether an algorithm is known to be slow through slirp4netns.
func slow(algorithm string) bool { return strings.HasPrefix(algorithm, "bbr") }
