package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// mostHead bounds what is read of a connection before it is known whom it is about.
const mostHead = 64 << 10

// recorder keeps what is read through it. It is a connection for [tls.Server], which gets no answer out.
type recorder struct {
	r    io.Reader
	data []byte
}

var errLongHead = errors.New("too long")

func (r *recorder) Read(b []byte) (int, error) {
	if len(r.data) >= mostHead {
		return 0, errLongHead
	}
	n, err := r.r.Read(b[:min(len(b), mostHead-len(r.data))])
	r.data = append(r.data, b[:n]...)
	return n, err
}

func (*recorder) Write(b []byte) (int, error)      { return len(b), nil }
func (*recorder) Close() error                     { return nil }
func (*recorder) LocalAddr() net.Addr              { return nil }
func (*recorder) RemoteAddr() net.Addr             { return nil }
func (*recorder) SetDeadline(time.Time) error      { return nil }
func (*recorder) SetReadDeadline(time.Time) error  { return nil }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }

var errFound = errors.New("found")

// serverName reads a ClientHello and returns its server name; a hello without one is an error.
func serverName(r *recorder) (name string, err error) {
	found := false
	err = tls.Server(r, &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, found = hello.ServerName, true
		return nil, errFound
	}}).Handshake()
	switch {
	case found && name != "":
		return name, nil
	case found:
		return "", errors.New("the hello has no server name")
	}
	return "", err
}

// requestHost reads the head of an HTTP/1 request and returns its host, without a port. A head that two
// programs may read differently (RFC 9112, 3.2) is an error.
func requestHost(r *recorder) (string, error) {
	req, err := http.ReadRequest(bufio.NewReader(r))
	if err != nil {
		return "", err
	}
	lines := hostLines(r.data)
	if len(lines) != 1 || !strings.EqualFold(lines[0], req.Host) {
		return "", errors.New("the request has no host, or several")
	}
	host, _, err := net.SplitHostPort(req.Host)
	if err != nil {
		host = req.Host
	}
	return host, nil
}

// hostLines returns the hosts that the head of a request names to the most lenient reader: in any line that
// could be a Host header.
func hostLines(head []byte) (hosts []string) {
	for line := range bytes.Lines(head) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) == 0 {
			break
		}
		for part := range strings.FieldsFuncSeq(string(line), func(c rune) bool { return c == '\r' || c == 0 }) {
			name, value, _ := strings.Cut(part, ":")
			if strings.EqualFold(strings.TrimSpace(name), "host") {
				hosts = append(hosts, strings.TrimSpace(value))
			}
		}
	}
	return hosts
}
