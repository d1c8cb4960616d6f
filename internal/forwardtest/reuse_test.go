package forwardtest

import (
	"fmt"
	"os"
	"testing"
)

// TestPortsAreReused: with the direct handler, the namespace does not run out of ports if a service
// gets many short connections; a sysctl set by the user is kept.
func TestPortsAreReused(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		const setting = "/proc/sys/net/ipv4/tcp_tw_reuse"
		w := newWorld(t)
		w.must("up", "-d", "--name", "r", "--port-handler", "direct", "-p", "127.0.0.1::80", "--", bin(t, "idle"))
		eventually(t, func() error { // it is set with the first sockets, which are created in the background
			if got := w.must("exec", "r", "--", "cat", setting); got != "1\n" {
				return fmt.Errorf("tcp_tw_reuse is %q", got)
			}
			return nil
		})
		w.must("down", "r")

		w.must("up", "-d", "--name", "off", "--port-handler", "direct", "--", "sh", "-c", "echo 0 >"+setting+" && echo done >"+w.dir+"/done && exec "+bin(t, "idle"))
		eventually(t, func() error { _, err := os.Stat(w.dir + "/done"); return err })
		w.must("forward", "add", "off", "127.0.0.1::80")
		if got := w.must("exec", "off", "--", "cat", setting); got != "0\n" {
			t.Errorf("tcp_tw_reuse was switched off by hand, and is %q", got)
		}
		w.must("down", "off")
	})
}
