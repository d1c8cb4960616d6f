package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

const (
	upstreamTimeout = 30 * time.Second
	mostProxyHead   = 16 << 10 // bytes of a proxy's answer
)

// dialThrough connects to target, HOST:PORT, through the proxy at u, whose scheme is http or socks5. The proxy
// gets the name.
func dialThrough(ctx context.Context, d *net.Dialer, u *url.URL, target string) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	if u.Scheme == "socks5" {
		var auth *proxy.Auth
		if u.User != nil {
			password, _ := u.User.Password()
			auth = &proxy.Auth{User: u.User.Username(), Password: password}
		}
		socks, err := proxy.SOCKS5("tcp", u.Host, auth, d)
		if err != nil {
			return nil, err
		}
		// Dial, not DialContext, returns the connection itself.
		c, err := socks.Dial("tcp", target)
		if err != nil {
			return nil, fmt.Errorf("upstream proxy: %w", err)
		}
		return c.(*net.TCPConn), nil
	}
	c, err := d.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("upstream proxy: %w", err)
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if err := connectThrough(c, u.User, target); err != nil {
		c.Close()
		return nil, fmt.Errorf("upstream proxy: %w", err)
	}
	_ = c.SetDeadline(time.Time{})
	return c.(*net.TCPConn), nil
}

// connectThrough has an HTTP proxy connect (RFC 9110, 9.3.6). Nothing that follows its answer is read.
func connectThrough(c net.Conn, user *url.Userinfo, target string) error {
	head := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if user != nil {
		password, _ := user.Password()
		head += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := c.Write([]byte(head + "\r\n")); err != nil {
		return err
	}
	var answer []byte
	for b := make([]byte, 1); !bytes.HasSuffix(answer, []byte("\r\n\r\n")); answer = append(answer, b[0]) {
		if len(answer) >= mostProxyHead {
			return errors.New("its answer does not end")
		}
		if _, err := c.Read(b); err != nil {
			return err
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}
