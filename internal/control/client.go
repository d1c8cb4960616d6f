package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// Client is a client of one instance's control socket.
type Client struct {
	http *http.Client
	name string // of the instance, for errors; "": not known
}

// NewNamedClient is [NewClient] for the instance called name. If nothing answers at its socket, the error is
// [instance.ErrNotFound].
func NewNamedClient(name, path string) *Client {
	c := NewClient(path)
	c.name = name
	return c
}

// NewClient returns a client of the socket at path. Each request opens a connection.
func NewClient(path string) *Client {
	return &Client{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

// maxGrace is the maximum time between the server's deadline and the caller's, which is later.
const maxGrace = 500 * time.Millisecond

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://slirpctl"+prefix+path, body)
	if err != nil {
		return err
	}
	if d, ok := ctx.Deadline(); ok {
		// A little earlier, so that the answer to a request that was done in time arrives in time.
		d = d.Add(-min(time.Until(d)/10, maxGrace))
		req.Header.Set(deadlineHeader, strconv.FormatInt(d.UnixNano(), 10))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e Error
		data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if json.Unmarshal(data, &e) != nil || e.Message == "" {
			return fmt.Errorf("control socket: %s: %.200q", resp.Status, data)
		}
		return &e
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.explain(err)
	}
	return nil
}

// explain says what an error of the connection means: the instance has ended, is still starting, or does not answer.
func (c *Client) explain(err error) error {
	switch {
	case c.name == "":
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%q: %w answers (it may be starting or ending)", c.name, instance.ErrNotFound)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%q did not answer in time: %w", c.name, context.DeadlineExceeded)
	}
	return fmt.Errorf("control socket: %w", err)
}

// get is do for a reply of type T.
func get[T any](ctx context.Context, c *Client, method, path string, in any) (out T, err error) {
	err = c.do(ctx, method, path, in, &out)
	return out, err
}

// State returns the instance's state with its forwards.
func (c *Client) State(ctx context.Context) (*instance.State, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	st, err := get[instance.State](ctx, c, "GET", "/state", nil)
	return &st, err
}

// List returns the forwards by id.
func (c *Client) List(ctx context.Context) ([]hostfwd.Status, error) {
	return get[[]hostfwd.Status](ctx, c, "GET", "/forwards", nil)
}

// Traffic returns the traffic counters of the tap.
func (c *Client) Traffic(ctx context.Context) (instance.Traffic, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return get[instance.Traffic](ctx, c, "GET", "/traffic", nil)
}

// Add adds a batch of forwards, all or nothing.
func (c *Client) Add(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	return get[[]hostfwd.Status](ctx, c, "POST", "/forwards", fs)
}

// Set replaces all forwards.
func (c *Client) Set(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	return get[[]hostfwd.Status](ctx, c, "PUT", "/forwards", fs)
}

// Remove removes forwards by id, all or nothing.
func (c *Client) Remove(ctx context.Context, ids []int) error {
	return c.do(ctx, "DELETE", "/forwards", ids, nil)
}

// Reload re-creates every forward, with guest as the guest address if it is valid.
func (c *Client) Reload(ctx context.Context, guest netip.Addr) ([]hostfwd.Status, error) {
	return get[[]hostfwd.Status](ctx, c, "POST", "/reload", reloadRequest{guest})
}

// Down asks the instance to stop, with grace between SIGTERM and SIGKILL for COMMAND; it does not wait for that.
func (c *Client) Down(ctx context.Context, grace time.Duration) error {
	return c.do(ctx, "POST", "/down", downRequest{&grace}, nil)
}
