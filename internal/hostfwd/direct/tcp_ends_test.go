package direct

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

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
			// The other way still works, for a while and in bulk.
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

// TestCloseAtOnce ends the client's side before the guest is connected.
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

// TestAnswerBeforeReset: a server that answers and closes without reading everything resets;
// what it said still arrives.
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

// wantReset connects and wants the connection reset at once: on the first read, or in the
// middle of connecting.
func wantReset(t testing.TB, ln hostfwd.Listener) {
	t.Helper()
	c, err := net.DialTimeout("tcp", hostAddr(ln), patience)
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
