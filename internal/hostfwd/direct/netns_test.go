package direct

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// guestIP is the address of the test's namespace, which also has 127.0.0.1 and ::1.
var guestIP = netip.MustParseAddr("10.0.2.100")

// testNetns is a network namespace on a thread of its own, which ends with the test. Sockets
// made by do belong to it.
type testNetns struct {
	work  chan func()
	asked atomic.Int32 // calls of Sockets
	fail  atomic.Bool  // Sockets fails
	gate  chan struct{}
}

func needRoot(t testing.TB) {
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root to make a network namespace")
	}
	t.Skip("needs root to make a network namespace")
}

func newNetns(t testing.TB) *testNetns {
	t.Helper()
	needRoot(t)
	ns := &testNetns{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ready <- enterNewNetns()
		for f := range ns.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(ns.work) })
	return ns
}

func enterNewNetns() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	up, _ := unix.NewIfreq("lo")
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("lo up: %w", err)
	}
	addr, _ := unix.NewIfreq("lo:1")
	if err := addr.SetInet4Addr(guestIP.AsSlice()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, addr); err != nil {
		return fmt.Errorf("lo address: %w", err)
	}
	return nil
}

// do runs f on the namespace's thread.
func (ns *testNetns) do(f func()) {
	done := make(chan struct{})
	ns.work <- func() { defer close(done); f() }
	<-done
}

// Sockets implements Sockets.
func (ns *testNetns) Sockets(_ context.Context, family, typ, n int) (fds []int, err error) {
	ns.asked.Add(1)
	if ns.gate != nil {
		<-ns.gate
	}
	if ns.fail.Load() {
		return nil, unix.EPERM
	}
	ns.do(func() {
		for range n {
			fd, e := unix.Socket(family, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if e != nil {
				err = e
				return
			}
			fds = append(fds, fd)
		}
	})
	return fds, err
}

// listen listens inside on addr ("10.0.2.100:0"); the listener is closed at the end of the test.
func (ns *testNetns) listen(t testing.TB, addr string) *net.TCPListener {
	t.Helper()
	var ln net.Listener
	var err error
	ns.do(func() { ln, err = net.Listen("tcp", addr) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

func (ns *testNetns) listenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	var pc net.PacketConn
	var err error
	ns.do(func() { pc, err = net.ListenPacket("udp", addr) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.(*net.UDPConn)
}

// newFDs lists descriptors that were not open before. Those of earlier tests may have been closed
// since.
func newFDs(t testing.TB, before map[string]string) map[string]string {
	t.Helper()
	now := openFDs(t)
	maps.DeleteFunc(now, func(fd, to string) bool { return before[fd] == to })
	return now
}

// openFDs lists this process's descriptors and their targets, for comparison.
func openFDs(t testing.TB) map[string]string {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := make(map[string]string)
	for _, e := range dir {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "/proc/") {
			fds[e.Name()] = to
		}
	}
	return fds
}
