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

// deadlineHeader carries the time, in nanoseconds since 1970, after which the caller does not wait any more.
const deadlineHeader = "Slirpctl-Deadline"

type peerKey struct{}

// peer is who is at the other end of a connection.
type peer struct {
	conn    *net.UnixConn
	refused error
}

// guard stands before every route: who may not ask gets no answer, nobody may say too much or too slowly, and
// what nobody waits for any more is not done ([request]).
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
			refuse(http.StatusForbidden, refused("it can't be told who it is"))
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
		_ = rc.SetReadDeadline(time.Time{}) // or the context would end with it
		r.Body = io.NopCloser(bytes.NewReader(body))
		// net/http takes a caller who says no more for one who has gone.
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

// request is the context of a request. Err looks whether somebody waits for the answer at that very moment: a
// process that was stopped and let go on does not know of its timers and sockets yet.
type request struct {
	context.Context
	conn *net.UnixConn
}

var errCallerGone = errors.New("nobody waits for the answer any more")

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

// hungUp reports whether the other end is closed altogether; one that only says no more still reads.
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
