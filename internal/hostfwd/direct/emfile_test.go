package direct

import (
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// TestOutOfDescriptors fills the descriptor table: connections that can't be accepted must
// wait without the loop spinning, and be carried once descriptors are free.
func TestOutOfDescriptors(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	first := dial(t, ln)
	say(t, first, "before")
	eventually(t, "the pool is full", func() bool {
		h.tcp.v4.mu.Lock()
		defer h.tcp.v4.mu.Unlock()
		return !h.tcp.v4.filling && len(h.tcp.v4.free) > 0
	})

	// Created before, connected when no descriptor is left.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := os.NewFile(uintptr(fd), "client")
	defer c.Close()

	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var filler []int
	restore := func() {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
		for _, fd := range filler {
			unix.Close(fd)
		}
		filler = nil
	}
	defer restore()
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			break
		}
		filler = append(filler, fd)
	}
	sa := &unix.SockaddrInet4{Port: int(ln.Forward().HostPort), Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	ms := -1
	eventually(t, "the listener is paused", func() (paused bool) {
		for _, l := range h.loops {
			l.do(func() {
				if len(l.paused) > 0 { // paused from time to time
					paused, ms = true, l.timeout()
				}
			})
		}
		return paused
	})
	if ms != int(acceptPause.Milliseconds()) {
		t.Errorf("the loop sleeps for %d ms", ms)
	}
	say(t, first, "open connections go on")
	restore()
	if _, err := unix.Write(fd, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(testTimeout / time.Second)})
	got := make([]byte, 10)
	if n, err := unix.Read(fd, got); err != nil || string(got[:n]) != "hello" {
		t.Fatalf("read %q, %v", got[:max(n, 0)], err)
	}
	say(t, first, "after")
	_ = net.Conn(first).Close()
}
