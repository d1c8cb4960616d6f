package forwardtest

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestAuto: --publish auto follows what programs inside listen on.
func TestAuto(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		for _, h := range handlers {
			t.Run(h, func(t *testing.T) { testAuto(t, h, "", "127.0.0.1") })
			t.Run(h+" everywhere", func(t *testing.T) { testAuto(t, h, ":0.0.0.0", "0.0.0.0") })
		}
	})
}

// testAuto uses -p auto with the suffix where, which listens on hostIP.
func testAuto(t *testing.T, handler, where, hostIP string) {
	w := newWorld(t)
	first := freeRange(t, 8)
	at := func(ip string, i int) string { return fmt.Sprintf("%s:%d", ip, first+i) }
	g := w.up("g", "--port-handler", handler, "--allow-host-loopback", "-p", "auto"+where, "-p", fmt.Sprintf("127.0.0.1::%d", first),
		"--auto-exclude", fmt.Sprintf("%d-%d", first+1, first+2))
	byHand := w.list("g")

	// The last one is seen in the same poll as those before it, or in a later one.
	g.listen("tcp4", at("0.0.0.0", 0), "echo") // forwarded by the user
	g.listen("tcp4", at("0.0.0.0", 1), "echo") // excluded
	g.listen("tcp4", at("127.0.0.1", 3), "echo")
	g.listen("tcp4", at("10.0.2.100", 4), "echo")
	g.listen("udp4", at("0.0.0.0", 5), "echo")
	start := time.Now()
	g.listen("tcp", fmt.Sprintf("[::]:%d", first+6), "echo")
	want := map[string]string{
		fmt.Sprintf("tcp %d", first+4): hostIP + " 10.0.2.100",
		fmt.Sprintf("udp %d", first+5): hostIP + " 10.0.2.100",
		fmt.Sprintf("tcp %d", first+6): hostIP + " 10.0.2.100",
	}
	if handler != "slirp4netns" {
		want[fmt.Sprintf("tcp %d", first+3)] = "127.0.0.1 127.0.0.1"
	}
	var last map[string]string
	eventually(t, func() error {
		last = map[string]string{}
		for _, r := range w.list("g")[1:] {
			if r.HostPort != r.GuestPort {
				t.Fatalf("%+v", r)
			}
			last[fmt.Sprintf("%s %d", r.Proto, r.HostPort)] = r.HostIP + " " + r.GuestIP
		}
		if len(last) < len(want) {
			return fmt.Errorf("forwards: %v, want %v", last, want)
		}
		return nil
	})
	t.Logf("all forwards are there after %s", time.Since(start).Round(time.Millisecond))
	if fmt.Sprint(last) != fmt.Sprint(want) {
		t.Errorf("forwards: %v, want %v", last, want)
	}
	for _, i := range []int{4, 6} {
		if err := echo(dial(t, local(first+i)), "x"); err != nil {
			t.Errorf("port %d: %v", first+i, err)
		}
	}
	echoUDP(t, local(first+5), "x")

	// A forward that the user removes is not added again while its program listens; it is removed
	// when the program stops.
	w.must("forward", "remove", "g", fmt.Sprintf("%d:%d", first+4, first+4))
	for _, a := range []string{"udp4" + " " + at("0.0.0.0", 5), "tcp " + fmt.Sprintf("[::]:%d", first+6)} {
		network, addr, _ := strings.Cut(a, " ")
		g.close(network, addr)
	}
	delete(want, fmt.Sprintf("tcp %d", first+4))
	delete(want, fmt.Sprintf("udp %d", first+5))
	delete(want, fmt.Sprintf("tcp %d", first+6))
	eventually(t, func() error {
		if n := len(w.list("g")); n != 1+len(want) {
			return fmt.Errorf("%d forwards, want %d", n, 1+len(want))
		}
		return nil
	})
	if list := w.list("g"); list[0] != byHand[0] {
		t.Errorf("the one by hand: %+v, before: %+v", list[0], byHand[0])
	}
	g.close("tcp4", at("10.0.2.100", 4))
	g.listen("tcp4", at("0.0.0.0", 7), "echo")
	eventually(t, func() error {
		if n := len(w.list("g")); n != 2+len(want) {
			return fmt.Errorf("%d forwards, want %d", n, 2+len(want))
		}
		return nil
	})
	g.listen("tcp4", at("10.0.2.100", 4), "echo")
	eventually(t, func() error {
		c, err := net.Dial("tcp", local(first+4))
		if err == nil {
			c.Close()
		}
		return err
	})

	// A port that the host refuses is skipped, and the reason is logged.
	busy := taken(t)
	g.listen("tcp4", fmt.Sprintf("0.0.0.0:%d", busy), "echo")
	notes := []string{fmt.Sprintf("port %d/tcp is not forwarded: %s:%d/tcp is in use", busy, hostIP, busy)}
	if privileged(t) > 81 { // for root too
		g.listen("tcp4", "0.0.0.0:81", "echo")
		notes = append(notes, fmt.Sprintf("port 81/tcp is not forwarded: only the ports %d-65535 are", privileged(t)))
	}
	eventually(t, func() error {
		log, err := os.ReadFile(w.state() + "/g/log")
		for _, note := range notes {
			if err == nil && strings.Count(string(log), note) != 1 {
				err = fmt.Errorf("the log has no %q once:\n%s", note, log)
			}
		}
		return err
	})
}
