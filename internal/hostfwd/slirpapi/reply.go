package slirpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// envelope holds every shape of reply.
type envelope struct {
	Return *struct {
		ID      int            `json:"id"`
		Entries *[]wireForward `json:"entries"`
	} `json:"return"`
	Entries *[]wireForward `json:"entries"`
	Error   *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

func open(data []byte) (envelope, error) {
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return e, unexpected(data, err)
	}
	if e.Error != nil {
		return e, &RefusedError{e.Error.Desc}
	}
	return e, nil
}

// parseAdd parses {"return":{"id":1}}.
func parseAdd(data []byte) (id int, err error) {
	e, err := open(data)
	if err != nil {
		return 0, err
	}
	if e.Return == nil || e.Return.ID < 1 {
		return 0, unexpected(data, errors.New("no id"))
	}
	return e.Return.ID, nil
}

// parseRemove parses {"return":{}}.
func parseRemove(data []byte) error {
	e, err := open(data)
	if err == nil && e.Return == nil {
		err = unexpected(data, errors.New("no return"))
	}
	return err
}

// parseList parses {"entries":[…]}, which every version sends, and {"return":{"entries":[…]}},
// which the manual page documents.
func parseList(data []byte) ([]hostfwd.Status, error) {
	e, err := open(data)
	if err != nil {
		return nil, err
	}
	entries := e.Entries
	if entries == nil && e.Return != nil {
		entries = e.Return.Entries
	}
	if entries == nil {
		return nil, unexpected(data, errors.New("no entries"))
	}
	list := make([]hostfwd.Status, len(*entries))
	for i, w := range *entries {
		if list[i], err = w.status(); err != nil {
			return nil, unexpected(data, fmt.Errorf("entry %d: %w", i, err))
		}
	}
	return list, nil
}

// wireForward is a forward as slirp4netns lists it. Its ports are numbers as clients have sent them:
// slirp4netns keeps fractions.
type wireForward struct {
	ID        int           `json:"id,omitzero"`
	Proto     hostfwd.Proto `json:"proto"`
	HostAddr  netip.Addr    `json:"host_addr,omitzero"`
	HostPort  float64       `json:"host_port"`
	GuestAddr netip.Addr    `json:"guest_addr,omitzero"`
	GuestPort float64       `json:"guest_port"`
}

// status returns the effective forward: slirp4netns accepts any number as a port, and binds its low 16 bits.
func (w wireForward) status() (st hostfwd.Status, err error) {
	const limit = 1 << 31
	switch {
	case w.ID < 1:
		return st, errors.New("no id")
	case w.Proto != hostfwd.TCP && w.Proto != hostfwd.UDP:
		return st, fmt.Errorf("proto %q", w.Proto)
	case !w.HostAddr.Is4() || !w.GuestAddr.Is4():
		return st, errors.New("an address is not IPv4")
	case w.HostPort <= -limit || w.HostPort >= limit || w.GuestPort <= -limit || w.GuestPort >= limit:
		return st, errors.New("a port is beyond 32 bits")
	}
	return hostfwd.Status{ID: w.ID, Forward: hostfwd.Forward{
		Proto: w.Proto, HostIP: w.HostAddr, HostPort: uint16(int(w.HostPort)), GuestIP: w.GuestAddr, GuestPort: uint16(int(w.GuestPort)),
	}}, nil
}
