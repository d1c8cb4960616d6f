package forwardtest

import (
	"os"
	"strings"
	"testing"
)

// TestNotes: limitations of a forward are reported.
func TestNotes(t *testing.T) {
	asCaller(t, func(t *testing.T) {
		const noAnswer = "will not answer clients on this host's 127.0.0.1"
		w := newWorld(t)
		for _, c := range []struct {
			name   string
			flags  []string
			warned bool
			source bool
		}{
			{"barred", []string{"--port-handler=slirp4netns"}, true, false},
			{"allowed", []string{"--port-handler=slirp4netns", "--allow-host-loopback"}, false, false},
			{"direct", []string{"--port-handler=direct"}, false, true},
			{"rootlesskit", []string{"--port-handler=rootlesskit"}, false, true},
			{"transparent", []string{"--port-handler=rootlesskit", "--source-ip-transparent"}, false, false},
			{"transparent-direct", []string{"--source-ip-transparent"}, false, false},
		} {
			args := append([]string{"up", "-d", "--name", c.name}, c.flags...)
			if c.name != "transparent" {
				args = append(args, "-p", "0:53/udp")
			}
			if r := w.run(append(args, "--", bin(t, "idle"))...); r.code != 0 || strings.Contains(r.err, noAnswer) != c.warned {
				t.Errorf("%s: up: exit status %d, a warning is wanted: %t\n%s", c.name, r.code, c.warned, r.err)
			}
			proto := "/udp"
			if c.name == "transparent" {
				proto = "/tcp"
			}
			if r := w.run("forward", "add", c.name, "0:54"+proto); r.code != 0 || strings.Contains(r.err, noAnswer) != c.warned {
				t.Errorf("%s: forward add: exit status %d, a warning is wanted: %t\n%s", c.name, r.code, c.warned, r.err)
			}
			log, err := os.ReadFile(w.state() + "/" + c.name + "/log")
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(log), "does not keep source addresses"); n > 1 || (n == 1) != c.source {
				t.Errorf("%s: the log says %d times that source addresses are not kept:\n%s", c.name, n, log)
			}
		}
		for flag, warned := range map[string]bool{"--disable-host-loopback": true, "--mtu=1500": false} {
			r := w.run("forward", "add", "--api-socket", slirp4netns(t, flag), "0:53/udp")
			if r.code != 0 || strings.Contains(r.err, noAnswer) != warned {
				t.Errorf("foreign %s: exit status %d, a warning is wanted: %t\n%s", flag, r.code, warned, r.err)
			}
		}
	})
}
