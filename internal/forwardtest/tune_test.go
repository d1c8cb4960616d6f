package forwardtest

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestCongestionControl: if the host's TCP uses pacing, a namespace's does not, whoever made the
// namespace; otherwise it is unchanged.
func TestCongestionControl(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		const setting = "/proc/sys/net/ipv4/tcp_congestion_control"
		data, err := os.ReadFile(setting)
		if err != nil {
			t.Fatal(err)
		}
		want := string(data)
		if strings.HasPrefix(want, "bbr") {
			want = "reno\n"
		}
		w := newWorld(t)
		if got := w.must("up", "--", "cat", setting); got != want {
			t.Errorf("up -- COMMAND: %q, want %q", got, want)
		}
		pid := strconv.Itoa(namespaces(t))
		w.must("up", "-d", "--name", "p", pid)
		if got := w.must("exec", "p", "--", "cat", setting); got != want {
			t.Errorf("up PID: %q, want %q", got, want)
		}
	})
}
