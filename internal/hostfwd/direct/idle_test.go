package direct

import (
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// TestIdleConnections: connections over many forwards on which nothing happens cost little memory, and do not make
// the loop do more for another one.
func TestIdleConnections(t *testing.T) {
	const forwards, each, most = 20, 50, 4 << 10
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0") // the kernel accepts
	echo := ns.listen(t, "10.0.2.100:0")
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = c.Write([]byte("x")); _, _ = c.Read(make([]byte, 1)); c.Close() }()
		}
	}()
	h := newHandler(t, ns)
	one := open(t, h, hostfwd.TCP, echo.Addr())
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	rounds := func() (n int64) {
		h.loops[0].do(func() { n = h.loops[0].round })
		return n
	}
	exchange := func() int64 {
		was := rounds()
		c := dial(t, one)
		if n, err := c.Read(make([]byte, 1)); n != 1 {
			t.Fatal(err)
		}
		c.Close()
		return rounds() - was
	}
	exchange()
	var addrs []sockaddr
	for range forwards {
		addrs = append(addrs, newSockaddr(netip.MustParseAddr("127.0.0.1"), open(t, h, hostfwd.TCP, guest.Addr()).Forward().HostPort))
	}
	before := heap()
	for i := range forwards * each {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if e := connect(fd, &addrs[i%forwards]); e != 0 {
			t.Fatal(e)
		}
	}
	eventually(t, "all are connected", func() bool {
		n := 0
		for _, l := range h.loops {
			l.do(func() {
				for c := range l.conns {
					if c.side[0].up && c.side[1].up {
						n++
					}
				}
			})
		}
		return n >= forwards*each
	})
	if n := (int64(heap()) - int64(before)) / (forwards * each); n > most {
		t.Errorf("%d bytes for each idle connection, want at most %d", n, most)
	}
	// Seven events, the two requests for the number, and what the pool's refill reports.
	if n := exchange(); n > 20 {
		t.Errorf("%d rounds of the loop for one short connection beside idle ones", n)
	}
}
