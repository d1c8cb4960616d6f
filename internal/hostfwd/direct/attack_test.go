package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// logged collects a handler's log.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// count returns how many lines contain text.
func (l *logged) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// TestAttackDescriptors: a flood on one forward gets no more than its share of the descriptors; another
// forward works, waiting clients are served when there is room, and the limit is logged once.
func TestAttackDescriptors(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	var said logged
	h := newHandler(t, ns, func(c *Config) { c.Log = said.add })
	flooded, other := open(t, h, hostfwd.TCP, guest.Addr()), open(t, h, hostfwd.TCP, guest.Addr())
	say(t, dial(t, other), "before")
	h.quota.most.Store(h.quota.used.Load() + 64)
	var flood []net.Conn
	for range 60 {
		flood = append(flood, dial(t, flooded)) // those beyond the share are in the backlog
	}
	full := func() bool { return said.count("new ones wait") > 0 }
	eventually(t, "the flooded forward has its share", full)
	if free := h.quota.free(); free < 4 {
		t.Errorf("%d descriptors are free, and nothing for another forward", free)
	}
	for range 20 {
		c := dial(t, other)
		say(t, c, "another forward works")
		c.Close()
	}
	h.quota.most.Store(1 << 20) // raise the limit
	for _, c := range flood {
		say(t, c, "those who waited are served")
	}
	if n := said.count("forward " + flooded.Forward().String()); n > len(h.loops) {
		t.Errorf("the log says %d times that connections wait: %q", n, said.lines)
	}
}

// TestAttackDatagrams: many clients of one UDP forward end no session of another.
func TestAttackDatagrams(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listenUDP(t, "10.0.2.100:0")
	seen := udpEcho(guest)
	var said logged
	h := newHandler(t, ns, func(c *Config) { c.UDPSessions, c.Log = 8, said.add })
	flooded, other := open(t, h, hostfwd.UDP, guest.LocalAddr()), open(t, h, hostfwd.UDP, guest.LocalAddr())
	for flooded.(*udpListener).l != other.(*udpListener).l { // there may be two loops
		other = open(t, h, hostfwd.UDP, guest.LocalAddr())
	}
	kept := dialUDP(t, hostAddr(other))
	// The session's address, as the guest sees it.
	session := func(c *net.UDPConn, say string) (from netip.AddrPort) {
		t.Helper()
		seen.Clear()
		sayUDP(t, c, []byte(say))
		seen.Range(func(a, _ any) bool { from = a.(netip.AddrPort); return true })
		return from
	}
	first := session(kept, "before")
	for i := range 50 {
		sayUDP(t, dialUDP(t, hostAddr(flooded)), []byte{byte(i)})
	}
	if session(kept, "after") != first {
		t.Error("the other forward's session was ended by the flood")
	}
	if said.count("had to make room") == 0 {
		t.Error("the log does not say that sessions were ended")
	}
	// A new client of the other forward gets a session too, at the expense of the flooded one.
	sayUDP(t, dialUDP(t, hostAddr(other)), []byte("new"))
	if session(kept, "after") != first {
		t.Error("the other forward's session was ended by a client of its own forward")
	}
	// The same for descriptors.
	h.quota.most.Store(h.quota.used.Load() + 2)
	for i := range 20 {
		sayUDP(t, dialUDP(t, hostAddr(flooded)), []byte{byte(i)})
	}
	if session(kept, "again") != first {
		t.Error("the other forward's session was ended by a shortage of descriptors")
	}
}

// TestAttackSlowReaders: the kernel buffers no more unread answers than the share of each
// connection.
func TestAttackSlowReaders(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	const clients = 120
	for range clients {
		dial(t, ln)
		g := accept1(t, guest)
		go func() { _, _ = io.Copy(onlyWriter{g}, zeros{}) }()
	}
	held := func() (total int, worst string) {
		for _, l := range h.loops {
			l.do(func() {
				for c := range l.conns {
					n := len(c.dir[0].pend) + len(c.dir[1].pend)
					for _, d := range c.dir {
						if d.pipe != nil {
							n += d.pipe.n
						}
					}
					for _, s := range c.side {
						if s.fd >= 0 {
							n += inKernel(t, s.fd)
						}
					}
					total += n
					// The pipes are bounded together, and a buffer may exceed its limit by a segment.
					if most := int(memoryShare/c.order) + pipeSize + 4*pieceSize; c.order > freeConns && n > most {
						worst = fmt.Sprintf("connection %d holds %d bytes, most is %d", c.order, n, most)
					}
				}
			})
		}
		return total, worst
	}
	// All connections are stuck when nothing changes any more.
	last := -1
	eventually(t, "nothing moves any more", func() bool {
		time.Sleep(50 * time.Millisecond)
		n, _ := held()
		same := n == last
		last = n
		return same && n > 0
	})
	if _, worst := held(); worst != "" {
		t.Error(worst)
	}
	pipes := 0
	for _, l := range h.loops {
		l.do(func() { pipes = max(pipes, l.pipeCount) })
	}
	if pipes > mostPipes {
		t.Errorf("%d pipes", pipes)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// inKernel returns what a socket's buffers use, bytes (SO_MEMINFO, socket(7)).
func inKernel(t testing.TB, fd int) int {
	const rmemAlloc, wmemQueued = 0, 5
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0); e != 0 {
		t.Fatal(e)
	}
	return int(info[rmemAlloc] + info[wmemQueued])
}

// TestTurns: a forward's single job is done while another has thousands.
func TestTurns(t *testing.T) {
	l := &loop{}
	var crowd, alone lane
	done := map[*lane]int{}
	for range 10000 {
		l.schedule(&countedJob{task{lane: &crowd}, done})
	}
	l.schedule(&countedJob{task{lane: &alone}, done})
	l.serve()
	if done[&alone] != 1 || done[&crowd] != turnCost {
		t.Errorf("after one round: %d jobs of the crowd, %d of the other", done[&crowd], done[&alone])
	}
	for l.timeout() == 0 {
		l.serve()
	}
	if done[&crowd] != 10000 {
		t.Errorf("%d jobs done in all", done[&crowd])
	}
}

type countedJob struct {
	task
	done map[*lane]int
}

func (j *countedJob) work(*loop) (int, bool) {
	j.done[j.lane]++
	return 1, false
}

// TestShortage: a namespace that can provide only a few sockets at once provides those.
func TestShortage(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	few := &fewSockets{testNetns: ns}
	h := newHandler(t, ns, func(c *Config) { c.Sockets = few })
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	for range 5 {
		say(t, dial(t, ln), "works")
	}
}

// TestSlowSockets: clients that come while sockets are on the way don't take the descriptors that are left
// for a forward without connections.
func TestSlowSockets(t *testing.T) {
	ns := newNetns(t)
	guest, datagrams := ns.listen(t, "10.0.2.100:0"), ns.listenUDP(t, "10.0.2.100:0")
	echo(guest)
	udpEcho(datagrams)
	slow := &slowSockets{testNetns: ns, asked: make(chan struct{}, 1), release: make(chan struct{})}
	var said logged
	h := newHandler(t, ns, func(c *Config) { c.Sockets, c.Log = slow, said.add })
	flooded, other := open(t, h, hostfwd.UDP, datagrams.LocalAddr()), open(t, h, hostfwd.TCP, guest.Addr())
	<-slow.asked
	eventually(t, "the other pool is full", func() bool {
		h.tcp.v4.mu.Lock()
		defer h.tcp.v4.mu.Unlock()
		return !h.tcp.v4.filling && len(h.tcp.v4.free) > 0
	})
	h.quota.most.Store(h.quota.used.Load() + 16)
	for i := 0; said.count("had to make room") == 0; i++ {
		if _, err := dialUDP(t, hostAddr(flooded)).Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	close(slow.release)
	eventually(t, "the sockets have come", func() bool {
		h.udp.v4.mu.Lock()
		defer h.udp.v4.mu.Unlock()
		return !h.udp.v4.filling
	})
	if free := h.quota.free(); free < spare {
		t.Errorf("%d descriptors are free, and nothing for the other forward", free)
	}
	say(t, dial(t, other), "works")
}

// slowSockets says when it is asked for sockets for datagrams, and gives them later.
type slowSockets struct {
	*testNetns
	asked, release chan struct{}
}

func (s *slowSockets) Sockets(ctx context.Context, family, typ, n int) ([]int, error) {
	if typ == unix.SOCK_DGRAM {
		select {
		case s.asked <- struct{}{}:
		default:
		}
		<-s.release
	}
	return s.testNetns.Sockets(ctx, family, typ, n)
}

type fewSockets struct{ *testNetns }

func (f *fewSockets) Sockets(ctx context.Context, family, typ, n int) ([]int, error) {
	if n > 1 {
		return nil, fmt.Errorf("sockets: %w", unix.EMFILE)
	}
	return f.testNetns.Sockets(ctx, family, typ, n)
}

// TestDialer: a guest that never answers delays its own forward only, and a waiting client's connection
// is closed with the handler.
func TestDialer(t *testing.T) {
	guest, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	echo(guest)
	var said logged
	from := make(chan netip.AddrPort, 1000)
	h := New(Config{Name: "test", EndConnections: true, Log: said.add, Dial: func(ctx context.Context, f hostfwd.Forward, client netip.AddrPort) (int, error) {
		switch f.GuestPort {
		case 1: // never answers
			<-ctx.Done()
			return -1, ctx.Err()
		case 2:
			return -1, fmt.Errorf("wrapped: %w", unix.ECONNREFUSED)
		}
		from <- client
		c, err := net.Dial("tcp", netip.AddrPortFrom(f.GuestIP, f.GuestPort).String())
		if err != nil {
			return -1, err
		}
		defer c.Close()
		file, err := c.(*net.TCPConn).File()
		if err != nil {
			return -1, err
		}
		defer file.Close()
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		_ = unix.SetNonblock(fd, true)
		return fd, err
	}})
	t.Cleanup(func() { noneLeft(t) })
	t.Cleanup(func() { h.Close() })
	stuck := open(t, h, hostfwd.TCP, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	refused := open(t, h, hostfwd.TCP, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2})
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	var waiting []net.Conn
	for range 2 * mostDials {
		waiting = append(waiting, dial(t, stuck))
	}
	for range 3 {
		c := dial(t, ln)
		say(t, c, "works")
		if got := <-from; got.String() != c.LocalAddr().String() {
			t.Errorf("the dialer was told of client %s, it is %s", got, c.LocalAddr())
		}
		wantReset(t, refused)
	}
	if n := said.count("test: nothing listens on 127.0.0.1:2/tcp inside"); n != 1 {
		t.Errorf("the log says %d times that nothing listens", n)
	}
	// Closing a forward closes its connections here.
	c := dial(t, ln)
	say(t, c, "open")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after the forward's end: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range waiting {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Fatalf("a client that waited: %v", err)
		}
	}
}
