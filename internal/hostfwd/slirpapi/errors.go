package slirpapi

import (
	"context"
	"fmt"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// RefusedError is an error that slirp4netns replied.
type RefusedError struct{ Desc string }

func (e *RefusedError) Error() string { return fmt.Sprintf("slirp4netns refused: %s", e.Desc) }

func timedOut(path string) error {
	// Whether the request will still be carried out is not known.
	return &fault.Error{
		Kind: fault.Timeout, Msg: "slirp4netns did not answer in time on " + path, Err: context.DeadlineExceeded,
		Help: "slirp4netns may be stopped, or another client keeps a connection to the socket open without a request",
	}
}

// unreachable is an API socket that can't be connected to: none there, nobody listening on it any more, or no
// permission.
func unreachable(path string, err error) error {
	return fault.Errorf(fault.NotFound, "", "connect to the slirp4netns API socket %s: %w", path, err)
}

// noReply is a connection that ended early, in the end with io.ErrUnexpectedEOF.
func noReply(path string, err error) error {
	return fmt.Errorf("no reply from slirp4netns on %s: %w", path, err)
}

// unexpected is a reply that is not slirp4netns's.
func unexpected(data []byte, err error) error {
	return fmt.Errorf("unexpected reply, is it slirp4netns? %q: %w", data[:min(len(data), 80)], err)
}

// unsupported is a forward that the slirp4netns handler can never do, and others can.
func unsupported(format string, a ...any) error {
	return fault.Errorf(fault.Unsupported, "choose another handler with --port-handler rootlesskit or --port-handler direct",
		"the slirp4netns port handler %s; rootlesskit and direct can", fmt.Sprintf(format, a...))
}
