// Package control has the server and the client of an instance's control socket. It exists so that
// RootlessKit's client (rootlessctl) works with every instance and port handler, and so that
// slirpctl's commands use the same socket.
//
// RootlessKit's routes (/v1/ports, /v1/info) are served by RootlessKit's own handlers. Routes that
// RootlessKit does not have are below /v1/slirpctl.
//
//	GET    /v1/slirpctl/state     the state, with every forward
//	GET    /v1/slirpctl/forwards  every forward, by id
//	POST   /v1/slirpctl/forwards  add a batch, all or nothing
//	PUT    /v1/slirpctl/forwards  make the forwards exactly these
//	DELETE /v1/slirpctl/forwards  remove by id, all or nothing
//	POST   /v1/slirpctl/reload    re-create every forward, to a new guest address if given
//	GET    /v1/slirpctl/egress    the egress rules, by id; POST, PUT and DELETE as with forwards
//	POST   /v1/slirpctl/egress/check   whether a target may be reached
//	POST   /v1/slirpctl/egress/policy  the rules that would have allowed what has passed
//	GET    /v1/slirpctl/traffic   the tap's counters
//	POST   /v1/slirpctl/down      stop the instance
package control

import (
	"errors"
	"net/netip"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

const prefix = "/v1/slirpctl"

// downRequest is the body of a request to stop; without one, the grace is [DefaultGrace].
type downRequest struct {
	Grace *time.Duration `json:"graceNanoseconds"`
}

type reloadRequest struct {
	GuestIP netip.Addr `json:"guestIP"`
}

// Error is the JSON form of an error: message and hint for the user, its kind for the exit status.
type Error struct {
	Message string     `json:"message"`
	HintStr string     `json:"hint,omitempty"`
	Kind    fault.Kind `json:"code,omitempty"`    // 0: none
	Refused bool       `json:"refused,omitempty"` // the server refuses the caller, for any request
	Index   *int       `json:"index,omitempty"`   // the forward of a batch that it is about, from 0
}

// NewError returns the JSON form of err.
func NewError(err error) *Error {
	e := &Error{Message: err.Error(), HintStr: fault.Hint(err), Kind: fault.Of(err)}
	if add, ok := errors.AsType[*hostfwd.AddError](err); ok {
		e.Index = &add.Index
	}
	return e
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool { return e.Kind != 0 && target == e.Kind }

// Hint returns the hint for the user.
func (e *Error) Hint() string { return e.HintStr }
