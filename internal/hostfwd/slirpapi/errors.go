package slirpapi

import (
	"context"
	"fmt"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// RefusedError is an error that slirp4netns replied.
type RefusedError struct{ Desc string }

func (e *RefusedError) Error() string { return fmt.Sprintf("slirp4netns refused: %s", e.Desc) }

// TimeoutError is a slirp4netns that did not answer in time. It unwraps to
// context.DeadlineExceeded. Whether the request will still be carried out is not known.
type TimeoutError struct{ Path string }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("slirp4netns did not answer in time on %s", e.Path)
}

func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }

// Hint says what the user can do.
func (e *TimeoutError) Hint() string {
	return "slirp4netns may be stopped, or another client keeps a connection to the socket open without a request"
}

// UnreachableError is an API socket that can't be connected to: none there, nobody listening
// on it any more, or no permission.
type UnreachableError struct {
	Path string
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("connect to the slirp4netns API socket %s: %v", e.Path, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// ReplyError is a conversation that went wrong: a connection that ended early
// (io.ErrUnexpectedEOF), or a reply that is not slirp4netns's.
type ReplyError struct {
	Path  string // "" if not known
	Start string // of the reply, at most 80 bytes
	Err   error
}

func (e *ReplyError) Error() string {
	from := ""
	if e.Path != "" {
		from = " on " + e.Path
	}
	if e.Start == "" {
		return fmt.Sprintf("no reply from slirp4netns%s: %v", from, e.Err)
	}
	return fmt.Sprintf("unexpected reply%s, is it slirp4netns? %q: %v", from, e.Start, e.Err)
}

func (e *ReplyError) Unwrap() error { return e.Err }

func start(reply []byte) string { return string(reply[:min(len(reply), 80)]) }

// UnsupportedError is a forward that the slirp4netns handler can never do, and others can.
type UnsupportedError struct {
	Forward hostfwd.Forward
	Reason  string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the slirp4netns port handler %s; rootlesskit and direct can", e.Reason)
}

// Hint says what the user can do.
func (e *UnsupportedError) Hint() string {
	return "choose another handler with --port-handler rootlesskit or --port-handler direct"
}
