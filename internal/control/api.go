// Package control serves and speaks the control socket of an instance. It exists so that every
// instance can be driven by RootlessKit's own client (rootlessctl) whatever carries the bytes,
// and so that slirpctl's commands are clients of the same socket.
//
// RootlessKit's routes (/v1/ports, /v1/info) are served by RootlessKit's own router. What it has
// no route for is below /v1/slirpctl: whole batches, the instance's state, its end.
//
//	GET    /v1/slirpctl/state     the state, with every forward
//	GET    /v1/slirpctl/forwards  every forward, by id
//	POST   /v1/slirpctl/forwards  add a batch, all or nothing
//	PUT    /v1/slirpctl/forwards  make the forwards exactly these
//	DELETE /v1/slirpctl/forwards  remove by id, all or nothing
//	POST   /v1/slirpctl/reload    re-create every forward, to a new guest address if given
//	GET    /v1/slirpctl/traffic   the tap's counters
//	POST   /v1/slirpctl/down      end the instance
package control

import (
	"net/netip"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

const prefix = "/v1/slirpctl"

type reloadRequest struct {
	GuestIP netip.Addr `json:"guestIP"`
}

// Error is a failure as it travels: message and hint for people, its kind for the exit status.
type Error struct {
	Message string     `json:"message"`
	HintStr string     `json:"hint,omitempty"`
	Kind    fault.Kind `json:"code,omitempty"`    // 0: none
	Refused bool       `json:"refused,omitempty"` // by who is asked, whatever is asked for
	Index   *int       `json:"index,omitempty"`   // which forward of a batch it is about, from 0
}

// NewError returns err as it travels.
func NewError(err error) *Error {
	e := &Error{Message: err.Error(), HintStr: fault.Hint(err), Kind: fault.Of(err)}
	if add, ok := errorAs[*hostfwd.AddError](err); ok {
		e.Index = &add.Index
	}
	return e
}

func (e *Error) Error() string { return e.Message }

// Is says which kind of failure it is.
func (e *Error) Is(target error) bool { return e.Kind != 0 && target == e.Kind }

// Hint says what to do about it.
func (e *Error) Hint() string { return e.HintStr }
