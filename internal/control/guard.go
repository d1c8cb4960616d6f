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
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// deadlineHeader has the caller's deadline, in nanoseconds since 1970.
const deadlineHeader = "Slirpctl-Deadline"

type peerKey struct{}

// peer is the other end of a connection. refused says why it may not use the socket, or is nil.
type peer struct {
	conn    *net.UnixConn
	refused error
}

// guard wraps every route: it refuses callers that may not use the socket, bounds the size and time of requests,
// and gives handlers a context that ends when the caller has gone ([request]).
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(status int, err error) {
			w.Header().Set("Connection", "close")
			e := NewError(err)
			e.Refused = errors.Is(err, errRefused)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(e)
		}
		p, ok := r.Context().Value(peerKey{}).(*peer)
		if !ok {
			refuse(http.StatusForbidden, refused("the caller is unknown"))
			return
		}
		if p.refused != nil {
			refuse(http.StatusForbidden, p.refused)
			return
		}
		limit := int64(maxSpec)
		if strings.HasPrefix(r.URL.Path, prefix+"/") {
			limit = maxBody
		}
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(requestTime))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &large):
			refuse(http.StatusRequestEntityTooLarge, fmt.Errorf("the request is longer than %d bytes", limit))
			return
		case err != nil:
			refuse(http.StatusBadRequest, err)
			return
		}
		_ = rc.SetReadDeadline(time.Time{}) // the context would be cancelled at the deadline
		r.Body = io.NopCloser(bytes.NewReader(body))
		// net/http cancels the context also if the caller only closed its write side.
		ctx := context.WithoutCancel(r.Context())
		if text := r.Header.Get(deadlineHeader); text != "" {
			nanos, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				refuse(http.StatusBadRequest, fmt.Errorf("%s: %q is not a time", deadlineHeader, text))
				return
			}
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, time.Unix(0, nanos))
			defer cancel()
		}
		next.ServeHTTP(w, r.WithContext(&request{ctx, p.conn}))
	})
}

// request is the context of a request. Err checks the deadline and the connection itself: in a process that was
// stopped and continued, timers and the runtime's poller may not have run yet.
type request struct {
	context.Context
	conn *net.UnixConn
}

var errCallerGone = errors.New("the caller has closed the connection")

func (r *request) Err() error {
	if err := r.Context.Err(); err != nil {
		return err
	}
	if d, ok := r.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	if hungUp(r.conn) {
		return errCallerGone
	}
	return nil
}

// hungUp reports whether the other end is closed, not only for writing.
func hungUp(c *net.UnixConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = rc.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}
