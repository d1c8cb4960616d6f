package selftest

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// within is the deadline of exchanges that succeed; they take much less.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestExchange(t *testing.T) {
	s, err := serve("127.0.0.1", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for k, addr := range map[kind]net.Addr{tcp: s.tcp.Addr(), udp: s.udp.LocalAddr(), dns: s.dns.LocalAddr(), anyDNS: s.dns.LocalAddr()} {
		if err := exchange(within(t, time.Minute), k, addr.String()); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	if err := exchange(within(t, time.Second), "nonsense", s.udp.LocalAddr().String()); err == nil {
		t.Error("nonsense was sent")
	}
}

// A wrong reply, or none, is not accepted as an answer.
func TestExchangeFails(t *testing.T) {
	garbling, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { garbling.Close() }) // not before the parallel tests have run
	go func() {
		for {
			conn, err := garbling.Accept()
			if err != nil {
				return
			}
			got := make([]byte, streamSize)
			_, _ = io.ReadFull(conn, got) // unread data would make the close a reset
			got[0]++
			_, _ = conn.Write(got)
			_ = conn.Close()
		}
	}()
	answering := func(to func([]byte) []byte) string {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go reply(conn, to)
		return conn.LocalAddr().String()
	}
	nobody := func() string { // a port that was free a moment ago
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.LocalAddr().String()
	}
	for _, tc := range []struct {
		name, addr string
		kind       kind
		want       string // "no answer in time" takes the whole time
	}{
		{"nobody listens", "127.0.0.1:1", tcp, "connection refused"},
		{"garbled stream", garbling.Addr().String(), tcp, "other ones came back"},
		{"nobody there", nobody(), udp, ""},
		{"silence", answering(func([]byte) []byte { return nil }), udp, "no answer in time"},
		{"another datagram", answering(func(b []byte) []byte { return append(b, 'x') }), udp, "no answer in time"},
		{"the question again", answering(func(b []byte) []byte { return b }), dns, "no answer in time"},
		{"another's answer", answering(func(b []byte) []byte { b = answer(b); b[0]++; return b }), anyDNS, "no answer in time"},
		{"a refusal, of what we know", answering(func(b []byte) []byte { b = answer(b); b[3] |= 5; return b }), dns, "no answer in time"},
		{"another address", answering(func(b []byte) []byte { b = answer(b); b[len(b)-1]++; return b }), dns, "no answer in time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			limit := 300 * time.Millisecond
			if !strings.Contains(tc.want, "in time") && tc.want != "" {
				limit = time.Minute
			}
			err := exchange(within(t, limit), tc.kind, tc.addr)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	// A refusal is an answer, for a check whether any server is there.
	refusing := answering(func(b []byte) []byte { b = answer(b)[:dnsHeader]; b[3] |= 5; return b })
	if err := exchange(within(t, time.Minute), anyDNS, refusing); err != nil {
		t.Error(err)
	}
}

// The end of the context ends an exchange at any point.
func TestExchangeCancelled(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := exchange(ctx, tcp, silent.Addr().String()); err == nil {
		t.Error("there was an answer")
	}
}

func TestAnswer(t *testing.T) {
	q := question("www.example")
	if want := []byte("\x03www\x07example\x00\x00\x01\x00\x01"); !bytes.HasSuffix(q, want) || len(q) != dnsHeader+len(want) {
		t.Errorf("the question is %q", q)
	}
	if a := answer(q); !answersUs(q, a) || !answers(q, a) {
		t.Errorf("%q is no answer to %q", a, q)
	}
	for _, msg := range [][]byte{nil, q[:dnsHeader], answer(q)} {
		if a := answer(msg); a != nil {
			t.Errorf("%q was answered with %q", msg, a)
		}
	}
	if answers(q, nil) || answers(q, q) || answersUs(q, q) {
		t.Error("what is none was taken for an answer")
	}
}
