package slirpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
)

// envelope holds every shape of reply.
type envelope struct {
	Return  json.RawMessage `json:"return"`
	Entries json.RawMessage `json:"entries"`
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

func unexpected(data []byte, err error) error { return &ReplyError{Start: start(data), Err: err} }

// parseAdd parses {"return":{"id":1}}.
func parseAdd(data []byte) (id int, err error) {
	e, err := open(data)
	if err != nil {
		return 0, err
	}
	var ret struct{ ID int }
	if err := json.Unmarshal(e.Return, &ret); err != nil {
		return 0, unexpected(data, err)
	}
	if ret.ID < 1 {
		return 0, unexpected(data, errors.New("no id"))
	}
	return ret.ID, nil
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
// which its manual page promises.
func parseList(data []byte) ([]Entry, error) {
	e, err := open(data)
	if err != nil {
		return nil, err
	}
	if e.Entries == nil {
		var ret struct{ Entries json.RawMessage }
		if err := json.Unmarshal(e.Return, &ret); err != nil {
			return nil, unexpected(data, err)
		}
		if e.Entries = ret.Entries; e.Entries == nil {
			return nil, unexpected(data, errors.New("no entries"))
		}
	}
	var wire []wireEntry
	if err := json.Unmarshal(e.Entries, &wire); err != nil {
		return nil, unexpected(data, err)
	}
	entries := make([]Entry, len(wire))
	for i, w := range wire {
		if entries[i], err = w.entry(); err != nil {
			return nil, unexpected(data, fmt.Errorf("entry %d: %w", i, err))
		}
	}
	return entries, nil
}

// wireEntry has its ports as other clients may have sent them: slirp4netns keeps fractions.
type wireEntry struct {
	ID        int        `json:"id"`
	Proto     string     `json:"proto"`
	HostAddr  netip.Addr `json:"host_addr"`
	HostPort  float64    `json:"host_port"`
	GuestAddr netip.Addr `json:"guest_addr"`
	GuestPort float64    `json:"guest_port"`
}

func (w wireEntry) entry() (Entry, error) {
	const limit = 1 << 31
	switch {
	case w.ID < 1:
		return Entry{}, errors.New("no id")
	case w.Proto != "tcp" && w.Proto != "udp":
		return Entry{}, fmt.Errorf("proto %q", w.Proto)
	case !w.HostAddr.Is4() || !w.GuestAddr.Is4():
		return Entry{}, errors.New("an address is not IPv4")
	case w.HostPort <= -limit || w.HostPort >= limit || w.GuestPort <= -limit || w.GuestPort >= limit:
		return Entry{}, errors.New("a port is beyond 32 bits")
	}
	return Entry{w.ID, w.Proto, w.HostAddr, int(w.HostPort), w.GuestAddr, int(w.GuestPort)}, nil
}
