package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestNoThreads: whichever process of a start is refused a thread or a process, its user gets one
// line about that and one with what helps, never the Go runtime's own words, which fill hundreds; and
// a status that is not COMMAND's.
func TestNoThreads(t *testing.T) {
	t.Parallel()
	u := newUserLab(t)
	pid := strconv.Itoa(u.target())
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"up", "-d", "--name", "x", "-p", "127.0.0.1::80", pid}, exitFailure},
		{[]string{"up", "-d", "--name", "x", "--port-handler", "direct", "-p", "127.0.0.1::80", "--", "sleep", "1000"}, 125},
		{[]string{"up", "--name", "x", "-p", "127.0.0.1::80", "--", "true"}, 125},
		{[]string{"list"}, exitFailure},
	} {
		failed, worked := 0, 0
		// Every process that runs as this user counts, also another test's: how many are enough, shows.
		for n := 1; n < 1000 && worked < 3; n += 1 + failed/10*2 {
			r := u.finish(u.limited(fmt.Sprintf("-u %d", n), c.args...))
			u.run("down", "--all")
			if r.code == 0 {
				worked++
				continue
			}
			worked = 0
			failed++
			lines := strings.Split(strings.TrimSpace(r.err), "\n")
			for len(lines) > 2 && strings.HasPrefix(lines[0], "slirpctl: warning: ") {
				lines = lines[1:]
			}
			if r.code != c.code || len(lines) != 2 || !strings.HasPrefix(lines[0], "slirpctl: error: ") ||
				!strings.HasPrefix(lines[1], "slirpctl: hint: raise the limit: ulimit -u") {
				t.Errorf("%q with %d: exit status %d, want %d: %.2000s", c.args, n, r.code, c.code, r.err)
			}
		}
		if failed == 0 || worked == 0 {
			t.Errorf("%q: %d failed and %d worked: the limits mean nothing", c.args, failed, worked)
		}
		u.noneLeft()
	}
}
