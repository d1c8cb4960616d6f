package selftest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// kind is the kind of an exchange.
type kind string

const (
	tcp    kind = "tcp"     // a stream, echoed
	udp    kind = "udp"     // a datagram, echoed
	dns    kind = "dns"     // a question that our server answers
	anyDNS kind = "any-dns" // a question to another server; any answer will do
)

// timeout is how long an exchange may take.
func (k kind) timeout() time.Duration {
	if k == anyDNS {
		return dnsTimeout
	}
	return stepTimeout
}

const (
	streamSize   = 64 << 10 // bytes; more than one packet at the largest MTU
	datagramSize = 1000     // bytes; one packet at the usual MTUs
	resendAfter  = 250 * time.Millisecond
)

// servers are an echo server for TCP and UDP, and a DNS server.
type servers struct {
	tcp      net.Listener
	udp, dns net.PacketConn
}

// serve listens on ip ("" for every address) at the two ports; 0 picks free ones.
func serve(ip string, echoPort, dnsPort int) (*servers, error) {
	at := func(port int) string { return net.JoinHostPort(ip, fmt.Sprint(port)) }
	var s servers
	var err error
	if s.tcp, err = net.Listen("tcp", at(echoPort)); err != nil {
		return nil, err
	}
	if s.udp, err = net.ListenPacket("udp", at(echoPort)); err != nil {
		s.close()
		return nil, err
	}
	if s.dns, err = net.ListenPacket("udp", at(dnsPort)); err != nil {
		s.close()
		return nil, err
	}
	go func() {
		for {
			conn, err := s.tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * stepTimeout))
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	go reply(s.udp, func(msg []byte) []byte { return msg })
	go reply(s.dns, answer)
	return &s, nil
}

func (s *servers) close() {
	for _, c := range []io.Closer{s.tcp, s.udp, s.dns} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// reply answers every datagram until conn is closed.
func reply(conn net.PacketConn, to func([]byte) []byte) {
	buf := make([]byte, 2*datagramSize)
	for {
		n, from, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			continue // the error of an earlier answer to a closed port
		}
		if out := to(buf[:n]); out != nil {
			_, _ = conn.WriteTo(out, from)
		}
	}
}

// exchange sends something to addr and checks the reply. It ends with ctx, which must have a
// deadline.
func exchange(ctx context.Context, k kind, addr string) error {
	network := "udp"
	if k == tcp {
		network = "tcp"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return plainError(err)
	}
	defer conn.Close()
	// The end of ctx ends reads and writes.
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	switch k {
	case tcp:
		err = stream(conn.(*net.TCPConn))
	case udp:
		err = datagram(ctx, conn, random(datagramSize), bytes.Equal)
	case dns:
		err = datagram(ctx, conn, question("self-test"), answersUs)
	case anyDNS:
		err = datagram(ctx, conn, question("localhost"), answers)
	default:
		return fmt.Errorf("%q can't be sent", k)
	}
	return plainError(err)
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return b
}

// stream sends and receives concurrently, so that no buffer on the way must hold all of it.
func stream(conn *net.TCPConn) error {
	sent := random(streamSize)
	wrote := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		if err == nil {
			err = conn.CloseWrite()
		}
		wrote <- err
	}()
	got, err := io.ReadAll(io.LimitReader(conn, streamSize+1))
	if err != nil {
		_ = conn.Close()
	}
	if writeErr := <-wrote; err == nil {
		err = writeErr
	}
	if err == nil && !bytes.Equal(got, sent) {
		err = fmt.Errorf("sent %d bytes, and %d other ones came back", len(sent), len(got))
	}
	return err
}

// datagram sends msg repeatedly until a matching reply arrives.
func datagram(ctx context.Context, conn net.Conn, msg []byte, fits func(msg, got []byte) bool) error {
	buf := make([]byte, 2*datagramSize)
	for {
		_, err := conn.Write(msg)
		for err == nil && ctx.Err() == nil {
			_ = conn.SetReadDeadline(time.Now().Add(resendAfter))
			var n int
			if n, err = conn.Read(buf); err == nil && fits(msg, buf[:n]) {
				return nil
			}
		}
		switch {
		case ctx.Err() != nil:
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				err = ctx.Err()
			}
			return err
		case !errors.Is(err, os.ErrDeadlineExceeded):
			// Refused: nothing listens, perhaps not yet.
			select {
			case <-ctx.Done():
				return err
			case <-time.After(resendAfter / 5):
			}
		}
	}
}

// plainError shortens a network error.
func plainError(err error) error {
	var opErr *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &opErr):
		return opErr.Err
	}
	return err
}
