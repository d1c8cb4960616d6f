package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// httpProxy answers CONNECT as an HTTP proxy does, for one user, and speaks first on behalf of the target.
func httpProxy(t *testing.T) (u *url.URL, asked chan string) {
	asked = make(chan string, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.Host
		if r.Header.Get("Proxy-Authorization") != "Basic dTpw" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(rw, "HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello")
		rw.Flush()
	}))
	t.Cleanup(s.Close)
	u, _ = url.Parse(s.URL)
	return u, asked
}

func TestUpstreamProxy(t *testing.T) {
	u, asked := httpProxy(t)
	_, err := dialThrough(t.Context(), &net.Dialer{}, u, "www.example:443")
	if err == nil || !strings.Contains(err.Error(), "407") {
		t.Errorf("without a password: %v", err)
	}
	<-asked
	u.User = url.UserPassword("u", "p")
	// As a policy uses it: by name, which nobody here resolves.
	set, err := egress.NewSet(egress.Rule{Action: egress.Allow, Name: "www.example", Ports: []egress.Ports{{First: 443, Last: 443}}, Proto: egress.TCP})
	if err != nil {
		t.Fatal(err)
	}
	p := NewPolicy(set, egress.Enforce, subnet.Default(), func(egress.Record) {})
	p.Upstream = u
	c, err := p.connect(netip.AddrPortFrom(p.names.addr("www.example"), 443))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Host.Close()
	if got := <-asked; got != "CONNECT www.example:443" {
		t.Errorf("the proxy was asked %q", got)
	}
	if got, err := io.ReadAll(c.Host); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := p.connect(netip.MustParseAddrPort("203.0.113.1:443")); err == nil {
		t.Error("what is denied went through the proxy")
	}
}

// TestUpstreamSOCKS: the name goes to the proxy, not an address (RFC 1928).
func TestUpstreamSOCKS(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 300)
		_, _ = io.ReadFull(c, buf[:2])
		_, _ = io.ReadFull(c, buf[:buf[1]])
		_, _ = c.Write([]byte{5, 0})
		_, _ = io.ReadFull(c, buf[:5])
		n := int(buf[4])
		typ := buf[3]
		_, _ = io.ReadFull(c, buf[:n+2])
		asked <- fmt.Sprintf("%d %s", typ, buf[:n])
		_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 'h', 'i'})
	}()
	c, err := dialThrough(context.Background(), &net.Dialer{}, &url.URL{Scheme: "socks5", Host: ln.Addr().String()}, "www.example:22")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-asked; got != "3 www.example" {
		t.Errorf("the proxy was asked %q", got)
	}
	if got, _ := io.ReadAll(c); string(got) != "hi" {
		t.Errorf("%q", got)
	}
}
