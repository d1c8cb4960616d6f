package slirpapi

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// commandLine returns a process's arguments, at least one, or nil if they can't be read.
func commandLine(pid int) []string {
	if pid == 0 {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
}

// barsLoopback reports whether slirp4netns was told not to let the namespace reach the host's
// loopback. --no-host-loopback is a hidden alias.
func barsLoopback(args []string) bool {
	for _, a := range args {
		for _, option := range []string{"--disable-host-loopback", "--no-host-loopback"} {
			if len(a) > len("--disable-h") && strings.HasPrefix(option, a) {
				return true
			}
		}
	}
	return false
}

// cidrOf finds --cidr in a slirp4netns command line as getopt_long does: possibly abbreviated, the last one
// wins. It is "" without one; ok is false if args are not slirp4netns's.
func cidrOf(args []string) (cidr string, ok bool) {
	if len(args) == 0 || !strings.Contains(args[0], "slirp4netns") {
		return "", false
	}
	for i, a := range args[1:] {
		name, value, inline := strings.Cut(a, "=")
		if len(name) < len("--ci") || !strings.HasPrefix("--cidr", name) {
			continue
		}
		switch {
		case inline:
			cidr = value
		case i+2 < len(args):
			cidr = args[i+2]
		}
	}
	return cidr, true
}

// filesExhausted returns [hostfwd.FileLimit] if pid can't open two more files: the
// connection of the failed request, which may be closed by now, and its socket.
func filesExhausted(pid int) error {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return nil
	}
	for line := range bytes.Lines(limits) {
		rest, ok := bytes.CutPrefix(line, []byte("Max open files"))
		if !ok {
			continue
		}
		soft := string(bytes.Fields(rest)[0])
		limit, err := strconv.ParseUint(soft, 10, 64)
		if err == nil && uint64(len(fds))+2 > limit {
			return hostfwd.FileLimit(max(limit+1, uint64(len(fds))+2), limit)
		}
	}
	return nil
}
