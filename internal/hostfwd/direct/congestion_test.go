package direct

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

func congestion(t *testing.T, fd int) string {
	t.Helper()
	name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestCongestion uses cubic as the algorithm to replace, because every kernel has it.
func TestCongestion(t *testing.T) {
	needRoot(t)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	own := newSockaddr(netip.MustParseAddr("127.0.0.1"), 0)
	if e := bind(fd, &own); e != 0 {
		t.Fatal(e)
	}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic"); err != nil {
		t.Fatal(err)
	}
	if was := replaceCongestion(fd, "bbr"); was != "" || congestion(t, fd) != "cubic" {
		t.Errorf("another algorithm was replaced: %q, %s", was, congestion(t, fd))
	}
	if was := replaceCongestion(fd, "cubic"); was != "cubic" || congestion(t, fd) != "reno" {
		t.Fatalf("replace: %q, %s", was, congestion(t, fd))
	}
	for _, tt := range []struct{ client, want string }{
		{"127.0.0.1", "reno"},
		{"127.0.0.9", "reno"},
		{"::1", "reno"},
		{"::ffff:127.0.0.1", "reno"},
		{"192.0.2.1", "cubic"},
		{"2001:db8::1", "cubic"},
	} {
		if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"); err != nil {
			t.Fatal(err)
		}
		client := newSockaddr(netip.MustParseAddr(tt.client), 1)
		restoreCongestion(fd, &client, "cubic")
		if got := congestion(t, fd); got != tt.want {
			t.Errorf("client %s: %s, want %s", tt.client, got, tt.want)
		}
	}
}

// TestCongestionInUse checks that listeners don't use BBR, and restore it for clients elsewhere.
func TestCongestionInUse(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	h := newHandler(t, ns)
	data, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimSpace(string(data))
	want, restored := host, ""
	if strings.HasPrefix(host, "bbr") {
		want, restored = "reno", host
	}
	for ip, restored := range map[string]string{"127.0.0.1": "", "0.0.0.0": restored, "::": restored} {
		ln := openAt(t, h, hostfwd.TCP, ip, guest.Addr()).(*tcpListener)
		if got := congestion(t, ln.fd); got != want || ln.congestion != restored {
			t.Errorf("on %s: %s, and %q for others; want %s and %q", ip, got, ln.congestion, want, restored)
		}
		say(t, dial(t, ln), "hello")
	}
}
