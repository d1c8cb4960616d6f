package direct

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

func TestHalfClose(t *testing.T) {
	for _, first := range []string{"client", "guest"} {
		t.Run(first, func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listen(t, "10.0.2.100:0")
			h := newHandler(t, ns)
			a := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
			b := accept1(t, guest)
			if first == "guest" {
				a, b = b, a
			}
			if _, err := io.WriteString(a, "question"); err != nil {
				t.Fatal(err)
			}
			if err := a.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(b); string(got) != "question" || err != nil {
				t.Fatalf("read %q, %v", got, err)
			}
			// The other direction still works, for a while and in bulk.
			answer := bytes.Repeat([]byte("answer "), 1<<20)
			go func() {
				_, _ = b.Write(answer)
				_ = b.CloseWrite()
			}()
			if got, err := io.ReadAll(a); !bytes.Equal(got, answer) || err != nil {
				t.Fatalf("read %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestCloseAtOnce closes the client's side before the guest is connected.
func TestCloseAtOnce(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	for range 20 {
		c := dial(t, ln)
		_, _ = io.WriteString(c, "bye")
		c.Close()
		if got, err := io.ReadAll(accept1(t, guest)); string(got) != "bye" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

func TestReset(t *testing.T) {
	for _, who := range []string{"client", "guest"} {
		t.Run(who, func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listen(t, "10.0.2.100:0")
			h := newHandler(t, ns)
			a := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
			b := accept1(t, guest)
			if who == "guest" {
				a, b = b, a
			}
			if _, err := io.WriteString(a, "x"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			_ = a.SetLinger(0)
			a.Close()
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("read after the other side's reset: %v", err)
			}
		})
	}
}

// TestCutAnswer: data that a server sends before a reset arrives, and so does the reset, so that a cut
// answer does not look complete. The same from the client's side.
func TestCutAnswer(t *testing.T) {
	for _, who := range []string{"client", "guest"} {
		t.Run(who, func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listen(t, "10.0.2.100:0")
			h := newHandler(t, ns)
			a := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
			b := accept1(t, guest)
			if who == "guest" {
				a, b = b, a
			}
			data := bytes.Repeat([]byte("x"), 1000)
			if _, err := a.Write(data); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(b, data); err != nil {
				t.Fatal(err)
			}
			_ = a.SetLinger(0)
			a.Close()
			if n, err := b.Read(data); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("after the 1,000 bytes: %d, %v", n, err)
			}
		})
	}
}

// TestResetAfterHalfClose: a reset is forwarded after the other direction has ended.
func TestResetAfterHalfClose(t *testing.T) {
	for _, who := range []string{"client", "guest"} {
		t.Run(who, func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listen(t, "10.0.2.100:0")
			h := newHandler(t, ns)
			a := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
			b := accept1(t, guest)
			if who == "guest" {
				a, b = b, a
			}
			_ = b.CloseWrite()
			if _, err := a.Read(make([]byte, 1)); err != io.EOF {
				t.Fatal(err)
			}
			_ = a.SetLinger(0)
			a.Close()
			if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("read after the other side's reset: %v", err)
			}
		})
	}
}

// TestResetPassesAReaderThatWaits: a reset does not wait until the data before it has been read.
func TestResetPassesAReaderThatWaits(t *testing.T) {
	for _, who := range []string{"client", "guest"} {
		t.Run(who, func(t *testing.T) {
			ns := newNetns(t)
			guest := ns.listen(t, "10.0.2.100:0")
			h := newHandler(t, ns)
			a := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
			b := accept1(t, guest)
			if who == "guest" {
				a, b = b, a
			}
			_ = b.SetReadBuffer(4096)
			_ = a.SetWriteDeadline(time.Now().Add(300 * time.Millisecond)) // all buffers are full then
			if n, err := io.Copy(onlyWriter{a}, zeros{}); !os.IsTimeout(err) {
				t.Fatalf("%d bytes, %v", n, err)
			}
			_ = a.SetLinger(0)
			a.Close()
			eventually(t, "the connection is gone", func() bool { return h.quota.conns.Load() == 0 })
			if _, err := io.Copy(io.Discard, b); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the reader sees %v", err)
			}
		})
	}
}

// TestNothingListens: it is logged once if nothing listens inside, and again if that recurs.
func TestNothingListens(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	at := guest.Addr().String()
	guest.Close()
	var said logged
	h := newHandler(t, ns, func(c *Config) { c.Log = said.add })
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	want := "nothing listens on " + at + "/tcp inside"
	for range 3 {
		wantReset(t, ln)
	}
	if n := said.count(want); n != 1 {
		t.Errorf("said %d times: %v", n, said.lines)
	}
	again := ns.listen(t, at)
	echo(again)
	say(t, dial(t, ln), "listens")
	again.Close()
	wantReset(t, ln)
	if n := said.count(want); n != 2 {
		t.Errorf("said %d times: %v", n, said.lines)
	}

	udp := ns.listenUDP(t, "10.0.2.100:0")
	udp.Close()
	dgram := open(t, h, hostfwd.UDP, udp.LocalAddr())
	c := dialUDP(t, hostAddr(dgram))
	eventually(t, "the log says that nothing listens", func() bool {
		_, _ = c.Write([]byte("x"))
		return said.count("nothing listens on "+udp.LocalAddr().String()+"/udp inside") == 1
	})
}

// TestAnswerBeforeReset: a server that answers and closes without reading everything resets;
// its answer still arrives.
func TestAnswerBeforeReset(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	h := newHandler(t, ns)
	c := dial(t, open(t, h, hostfwd.TCP, guest.Addr()))
	g := accept1(t, guest)
	_, _ = io.WriteString(c, "more than is read")
	if _, err := io.ReadFull(g, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(g, "no")
	got := make([]byte, 2)
	if _, err := io.ReadFull(c, got); string(got) != "no" || err != nil {
		t.Fatalf("read %q, %v", got, err)
	}
	g.Close()
	if _, err := c.Read(got); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v", err)
	}
}

// wantReset connects and expects a reset at once: on the first read, or while connecting.
func wantReset(t testing.TB, ln hostfwd.Listener) {
	t.Helper()
	c, err := net.DialTimeout("tcp", hostAddr(ln), testTimeout)
	if err == nil {
		defer c.Close()
		deadline(t, c)
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a connection that can't be carried ends with %v", err)
	}
}

func TestClosedGuestPort(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	guest.Close()
	h := newHandler(t, ns)
	wantReset(t, open(t, h, hostfwd.TCP, guest.Addr()))
}

func TestUnreachableGuest(t *testing.T) {
	ns := newNetns(t)
	h := newHandler(t, ns)
	wantReset(t, open(t, h, hostfwd.TCP, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}))
}

func TestNoSockets(t *testing.T) {
	ns := newNetns(t)
	guest := ns.listen(t, "10.0.2.100:0")
	echo(guest)
	ns.fail.Store(true)
	h := newHandler(t, ns)
	ln := open(t, h, hostfwd.TCP, guest.Addr())
	wantReset(t, ln)
	ns.fail.Store(false)
	say(t, dial(t, ln), "works again")
}

// TestSocketsAtTheEnd: it is not logged if there are no more sockets because their source has ended.
func TestSocketsAtTheEnd(t *testing.T) {
	for _, failure := range []error{ErrClosed, errors.New("another")} {
		asked, told := make(chan struct{}, 64), make(chan struct{}, 64)
		h := New(Config{Log: func(string, ...any) { told <- struct{}{} }, Sockets: socketsFunc(func() error {
			asked <- struct{}{}
			return failure
		})})
		ln := open(t, h, hostfwd.TCP, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80})
		<-asked
		if failure != ErrClosed {
			<-told
			h.Close()
			continue
		}
		wantReset(t, ln) // a second attempt, so that the log of the first one is complete
		<-asked
		h.Close()
		if len(told) > 0 {
			t.Errorf("%v is told", failure)
		}
	}
}

type socketsFunc func() error

func (f socketsFunc) Sockets(context.Context, int, int, int) ([]int, error) { return nil, f() }
