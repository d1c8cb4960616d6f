package slirpapi

import (
	"context"
	"fmt"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// RefusedError is an error reply of slirp4netns.
type RefusedError struct{ Desc string }

func (e *RefusedError) Error() string { return fmt.Sprintf("slirp4netns refused: %s", e.Desc) }

func timedOut(path string) error {
	// Whether the request will still be carried out is unknown.
	return &fault.Error{
		Kind: fault.Timeout, Msg: "slirp4netns did not answer in time on " + path, Err: context.DeadlineExceeded,
		Help: "slirp4netns may be stopped, or another client keeps a connection to the socket open without a request",
	}
}

// noReply returns the error for a connection that ended early; it wraps io.ErrUnexpectedEOF in the end.
func noReply(path string, err error) error {
	return fmt.Errorf("no reply from slirp4netns on %s: %w", path, err)
}

// unexpected returns the error for a reply that slirp4netns would not send.
func unexpected(data []byte, err error) error {
	return fmt.Errorf("unexpected reply, is it slirp4netns? %q: %w", data[:min(len(data), 80)], err)
}

// unsupported returns the error for a forward that this handler can never do, but others can.
func unsupported(format string, a ...any) error {
	return fault.Errorf(fault.Unsupported, "choose another handler with --port-handler rootlesskit or --port-handler direct",
		"the slirp4netns port handler %s; rootlesskit and direct can", fmt.Sprintf(format, a...))
}
