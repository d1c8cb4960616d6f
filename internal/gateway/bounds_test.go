package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/egress"
)

// heap returns the bytes of objects and stacks that are in use.
func heap() int {
	runtime.GC()
	runtime.GC() // what finalizers and pools of the first held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// TestDenialsDontGrow: what was denied is not kept, however much it is.
func TestDenialsDontGrow(t *testing.T) {
	s, _, _ := testDNS(t, egress.Enforce, "www.example")
	recorder := egress.NewRecorder(io.Discard)
	s.policy.Record = recorder.Write
	x, _, _, _ := testInspector(t)
	x.decider, x.guest = s.policy, discard{}
	n := 0
	deny := func(until int) int {
		for ; n < until; n++ {
			b := syn
			b.dst, b.ports[1] = netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}).String(), uint16(n)
			x.fromGuest(b.frame())
			if n%500 == 499 {
				waitUntil(t, "all are decided about", x.settled)
			}
			s.answer(query(t, fmt.Sprintf("name%d.of.some.length.in.the.evil.example.", n), dnsmessage.TypeA), false)
		}
		return heap()
	}
	before := deny(3000)
	after := deny(12000)
	if grown := after - before; grown > 256<<10 {
		t.Errorf("9,000 connections and names took %d bytes", grown)
	}
	first, more := recorder.Denials()
	total := more
	for _, d := range first {
		total += d.Times
	}
	if total != 24000 {
		t.Errorf("%d denials are counted", total)
	}
}

// TestHeldFramesAreBounded: frames that wait for a decision take no more than a fixed amount.
func TestHeldFramesAreBounded(t *testing.T) {
	x, d, _, _ := testInspector(t)
	x.guest = discard{}
	d.wait, d.refuse = make(chan struct{}), true
	before := heap()
	long := strings.Repeat("x", 60000)
	for i := range 2 * mostAsked {
		s, u := syn, datagram
		s.data, s.ports[0], u.data, u.ports[0] = long, uint16(i+1), long, uint16(i+1)
		x.fromGuest(s.frame())
		for range mostWaiting {
			x.fromGuest(u.frame())
		}
	}
	if grown := heap() - before; grown > mostHeld+4<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	x.mu.Lock()
	if x.held > mostHeld || x.held < mostHeld/2 || x.asked > mostAsked || len(x.flows) > mostAsked {
		t.Errorf("%d bytes are counted, %d flows are asked for", x.held, x.asked)
	}
	x.mu.Unlock()
	x.forget() // flows that wait, too
	close(d.wait)
	waitUntil(t, "all are decided about", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.held == 0 && x.asked == 0 && len(x.dialing) == 0
	})
	d.refuse = false
	gate := make(wire, 64)
	x.gate = gate
	x.fromGuest(syn.frame())
	gate.next(t)
}

// endless gives what a request begins with, and then nothing until it is closed.
type endless struct {
	r      io.Reader
	closed chan struct{}
}

func (e *endless) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if n == 0 {
		<-e.closed
	}
	return n, err
}

// TestHeadsAreBounded: so do connections whose first bytes are looked at.
func TestHeadsAreBounded(t *testing.T) {
	p, _ := testPolicy(t, egress.Enforce, "www.example")
	check := p.passHead(checkFor("www.example", 80))
	before, closed := heap(), make(chan struct{})
	var refused, waiting sync.WaitGroup
	const size, all = 60000, 400
	refused.Add(all - mostHeads/size)
	head := append([]byte("GET / HTTP/1.1\r\nHost: www.example\r\nX: "), bytes.Repeat([]byte{'x'}, size)...)
	var mu sync.Mutex
	many := 0
	for range all {
		waiting.Go(func() {
			_, err := check(&endless{bytes.NewReader(head[:size]), closed}, io.Discard)
			mu.Lock()
			defer mu.Unlock()
			if err == errManyHeads {
				many++
				refused.Done()
			}
		})
	}
	refused.Wait()
	if grown := heap() - before; grown > 4*mostHeads {
		t.Errorf("%d bytes are held", grown)
	}
	close(closed)
	waiting.Wait()
	if many >= all || p.heads.Load() != 0 {
		t.Errorf("%d of %d are refused, %d bytes are counted at the end", many, all, p.heads.Load())
	}
	var out bytes.Buffer
	request := "GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"
	if n, err := check(strings.NewReader(request), &out); err != nil || int(n) != len(request) || out.String() != request {
		t.Errorf("afterwards %v, %q passes", err, out.String())
	}
}

// TestSlowReaders: connections of which nobody reads take little, hold up no other, and end with the relay.
func TestSlowReaders(t *testing.T) {
	r := newRelay(nil)
	var ended sync.WaitGroup
	open := func() (guest, host net.Conn) {
		guest, inner := tcpPair(t)
		outer, host := tcpPair(t)
		ended.Add(1)
		r.join(&joint{inner, &Conn{Host: outer, Allowed: func() bool { return true }, Done: func(int64, int64, error) { ended.Done() }}})
		return guest, host
	}
	before := heap()
	var stalled sync.WaitGroup
	const each = 100
	for i := range 2 * each {
		writer, other := open()
		if i < each {
			writer, other = other, writer
		}
		_ = other // never reads
		stalled.Go(func() {
			for data, err := make([]byte, 1<<16), error(nil); err == nil; {
				_ = writer.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				_, err = writer.Write(data)
			}
		})
	}
	stalled.Wait()
	if grown := heap() - before; grown > 2*each*100<<10 {
		t.Errorf("%d connections that stand still took %d bytes", 2*each, grown)
	}
	guest, host := open()
	for _, way := range [][2]net.Conn{{guest, host}, {host, guest}} {
		buf := make([]byte, 5)
		_, err := io.WriteString(way[0], "hello")
		if _, rerr := io.ReadFull(way[1], buf); err != nil || rerr != nil {
			t.Errorf("another connection carries nothing: %v, %v", err, rerr)
		}
	}
	r.close()
	r.joined.Wait()
	ended.Wait()
}

func TestConnLimit(t *testing.T) {
	for files, want := range map[uint64]int64{1024: 128, 4096: 512, 20000: 2500, 1 << 20: mostConns, unix.RLIM_INFINITY: mostConns} {
		if n := connLimit(files); n != want {
			t.Errorf("with %d descriptors: %d", files, n)
		}
	}
}

// TestShortOfDescriptors: who can't be connected to for that is not refused, and not recorded.
func TestShortOfDescriptors(t *testing.T) {
	s := newService(t)
	p, rec := testPolicy(t, egress.Enforce, fmt.Sprintf("10.0.2.2:%d", s.port))
	p.Loopback = true
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	defer func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}))
	c, err := p.connect(netip.AddrPortFrom(netip.MustParseAddr(tGateway), s.port))
	if err != errBusy || len(rec.list) != 0 || p.conns.Load() != 0 {
		t.Errorf("%v, %v, recorded %+v", c, err, rec.list)
	}
}
