package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// slowHandler opens a forward when it is told to.
type slowHandler struct {
	handler
	opening, open chan struct{}
	listening     atomic.Int32
}

func (h *slowHandler) Open(_ context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	h.opening <- struct{}{}
	<-h.open
	h.listening.Add(1)
	return counted{listener(f), h}, nil
}

type counted struct {
	listener
	h *slowHandler
}

func (c counted) Close() error {
	c.h.listening.Add(-1)
	return nil
}

func serveSlowly(t *testing.T) (path string, h *slowHandler, m *hostfwd.Manager) {
	t.Helper()
	h = &slowHandler{opening: make(chan struct{}), open: make(chan struct{})}
	m = hostfwd.NewManager(h, hostfwd.Config{Guest: netip.MustParseAddr("10.0.2.100")})
	return serveBackend(t, backend{m: m, down: make(chan struct{})}), h, m
}

// raw sends a request and returns the connection.
func raw(t *testing.T, path, method, route, body string, header ...string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	head := strings.Join(append([]string{method + " " + route + " HTTP/1.1", "Host: x", fmt.Sprintf("Content-Length: %d", len(body))}, header...), "\r\n")
	if _, err := io.WriteString(c, head+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return c
}

func answer(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

const (
	oneForward = `[{"proto":"tcp","hostIP":"127.0.0.1","hostPort":8080,"guestPort":80}]`
	oneSpec    = `{"proto":"tcp","parentIP":"127.0.0.1","parentPort":8080,"childPort":80}`
)

// TestNobodyWaits: what a caller has given up, or who has gone, is not done any more, whether it was
// noticed before or while it was being done.
func TestNobodyWaits(t *testing.T) {
	late := fmt.Sprintf("%s: %d", deadlineHeader, time.Now().Add(-time.Millisecond).UnixNano())
	for _, c := range []struct{ name, route, body string }{
		{"forwards", prefix + "/forwards", oneForward},
		{"rootlessctl", "/v1/ports", oneSpec},
	} {
		t.Run(c.name+", late", func(t *testing.T) {
			path, h, m := serveSlowly(t)
			status, body := answer(t, raw(t, path, "POST", c.route, c.body, late))
			if status != http.StatusBadRequest || !strings.Contains(body, "deadline") {
				t.Errorf("%d %s", status, body)
			}
			if n := h.listening.Load(); n != 0 || len(m.List()) != 0 {
				t.Errorf("%d listen, %v listed", n, m.List())
			}
		})
		t.Run(c.name+", late meanwhile", func(t *testing.T) {
			path, h, m := serveSlowly(t)
			deadline := time.Now().Add(300 * time.Millisecond)
			conn := raw(t, path, "POST", c.route, c.body, fmt.Sprintf("%s: %d", deadlineHeader, deadline.UnixNano()))
			<-h.opening
			time.Sleep(time.Until(deadline))
			h.open <- struct{}{}
			if status, body := answer(t, conn); status != http.StatusBadRequest || !strings.Contains(body, "deadline") {
				t.Errorf("%d %s", status, body)
			}
			if n := h.listening.Load(); n != 0 || len(m.List()) != 0 {
				t.Errorf("%d listen, %v listed", n, m.List())
			}
		})
		t.Run(c.name+", gone", func(t *testing.T) {
			path, h, m := serveSlowly(t)
			conn := raw(t, path, "POST", c.route, c.body)
			<-h.opening
			conn.Close()
			h.open <- struct{}{}
			// A change waits for the one before.
			if err := m.Remove(t.Context(), []int{1}); !errors.As(err, new(*hostfwd.NotFoundError)) {
				t.Errorf("remove: %v", err)
			}
			if n := h.listening.Load(); n != 0 || len(m.List()) != 0 {
				t.Errorf("%d listen, %v listed", n, m.List())
			}
		})
		t.Run(c.name+", says no more", func(t *testing.T) {
			path, h, m := serveSlowly(t)
			conn := raw(t, path, "POST", c.route, c.body)
			if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			<-h.opening
			h.open <- struct{}{}
			if status, body := answer(t, conn); status/100 != 2 || len(m.List()) != 1 {
				t.Errorf("%d %s, %v listed", status, body, m.List())
			}
		})
	}
}

// TestAttackRequests: nobody may say too much on any route, nor too slowly, nor what makes no sense.
func TestAttackRequests(t *testing.T) {
	_, b := serve(t)
	path := b.path
	big := strings.Repeat(" ", maxSpec+1)
	for _, r := range []struct {
		method, route, body string
		want                int
	}{
		{"POST", "/v1/ports", big, 413},
		{"DELETE", "/v1/ports/1", big, 413},
		{"GET", "/v1/info", big, 413},
		{"GET", "/v1/slirpctlx", big, 413},
		{"POST", prefix + "/forwards", big, 400},
		{"POST", prefix + "/forwards", strings.Repeat("[", maxSpec), 400},
		{"POST", "/v1/ports", strings.Repeat(`{"a":`, 10000), 400},
		{"POST", prefix + "/none", "", 404},
		{"PATCH", prefix + "/forwards", "", 405},
	} {
		if status, body := answer(t, raw(t, path, r.method, r.route, r.body)); status != r.want {
			t.Errorf("%s %s with %d bytes: %d %.100s, want %d", r.method, r.route, len(r.body), status, body, r.want)
		}
	}
	// Longer than what is taken even of slirpctl's own, said but not sent.
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "POST %s/forwards HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", prefix, maxBody+1)
	go func() { _, _ = io.Copy(conn, io.LimitReader(zeros{}, maxBody+1)) }()
	if status, body := answer(t, conn); status != 413 {
		t.Errorf("%d %.100s", status, body)
	}
	if status, body := answer(t, raw(t, path, "GET", "/v1/info", "", "X: "+strings.Repeat("x", 2*maxHeader))); status != 431 {
		t.Errorf("a long header: %d %.100s", status, body)
	}
	for name, request := range map[string]string{
		"two lengths":          "POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"length and encoding":  "POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: xchunked\r\n\r\nhello",
		"a space in a name":    "GET /v1/info HTTP/1.1\r\nHost : x\r\n\r\n",
		"a chunk of no length": "POST /v1/ports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
		"no HTTP":              "\x00\x01\x02\r\n\r\n",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, request)
		if status, body := answer(t, conn); status/100 != 4 && status != 501 {
			t.Errorf("%s: %d %s", name, status, body)
		}
		conn.Close()
	}
	if list := b.m.List(); len(list) != 0 {
		t.Errorf("listed: %v", list)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestAttackSlowRequest: who connects and doesn't say all of a header is not waited for.
func TestAttackSlowRequest(t *testing.T) {
	t.Parallel()
	_, b := serve(t)
	conn, err := net.Dial("unix", b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET /v1/info HTTP/1.1\r\nHos")
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}
