package slirpapi

import (
	"context"
	"net/netip"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// Foreign works on the forwards of a slirp4netns that another program started, with the ids that
// slirp4netns gave them. It keeps no state between calls; concurrent callers are only as safe as
// slirp4netns makes them.
type Foreign struct {
	Client Client
	// Network returns the IPv4 network and guest address of a slirp4netns that was given this --cidr, "" for none.
	// If the command line of the process behind the socket can't be read, guest addresses are not checked.
	Network func(cidr string) (network netip.Prefix, guest netip.Addr)
}

// ErrNetworkUnknown is returned by [Foreign.Set], which needs the default guest address.
var ErrNetworkUnknown = fault.New(fault.Usage, "the network of this slirp4netns can't be seen", "")

// noGuest stands for slirp4netns's own default guest while the network is unknown.
var noGuest = netip.AddrFrom4([4]byte{0, 0, 0, 1})

// List returns all forwards by id.
func (f *Foreign) List(ctx context.Context) ([]hostfwd.Status, error) {
	s, err := f.session(ctx)
	if err != nil {
		return nil, err
	}
	return s.manager.List(), nil
}

// Add opens all of fs or none; see [hostfwd.Manager.Add].
func (f *Foreign) Add(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	s, err := f.session(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.manager.Add(ctx, fs)
	if err != nil {
		return nil, err
	}
	return s.translate(ctx, list)
}

// Remove removes forwards by id and those that specs match ([hostfwd.Match]), all or none: if
// one does not exist, none is removed.
func (f *Foreign) Remove(ctx context.Context, ids []int, specs []hostfwd.Spec) error {
	s, err := f.session(ctx)
	if err != nil {
		return err
	}
	list := s.manager.List()
	for _, spec := range specs {
		found, err := hostfwd.Match(list, spec)
		if err != nil {
			return err
		}
		ids = append(ids[:len(ids):len(ids)], found...)
	}
	return s.manager.Remove(ctx, ids)
}

// Set makes the forwards exactly fs; see [hostfwd.Manager.Set]. slirp4netns does not record
// which host ports were picked, so a forward with any port satisfies port 0. If Set fails,
// forwards that had to be closed for a moment are reopened with new ids.
func (f *Foreign) Set(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	s, err := f.session(ctx)
	if err != nil {
		return nil, err
	}
	if !s.network.IsValid() {
		return nil, ErrNetworkUnknown
	}
	list, err := s.manager.Set(ctx, fs)
	if err != nil {
		return nil, err
	}
	return s.translate(ctx, list)
}

// Warnings returns the [Warnings] about fresh, as far as slirp4netns's options can be read.
func (f *Foreign) Warnings(ctx context.Context, fresh []hostfwd.Status) []string {
	list, pid, err := f.Client.list(ctx)
	if err != nil {
		return nil
	}
	return Warnings(list, fresh, barsLoopback(commandLine(pid)))
}

// session is a snapshot of the forwards and a Manager over them, for one change.
type session struct {
	client  *Client
	network netip.Prefix
	manager *hostfwd.Manager
	handler *foreignHandler
}

func (f *Foreign) session(ctx context.Context) (*session, error) {
	list, pid, err := f.Client.list(ctx)
	if err != nil {
		return nil, err
	}
	var network netip.Prefix
	guest := noGuest
	if cidr, ok := cidrOf(commandLine(pid)); ok {
		if n, g := f.Network(cidr); n.IsValid() {
			network, guest = n, g
		}
	}
	h := &foreignHandler{
		Handler: NewHandler(Config{Path: f.Client.Path, Timeout: f.Client.Timeout, Network: network}),
		ids:     map[hostSide]int{},
	}
	m := hostfwd.NewManager(h, hostfwd.Config{Guest: guest})
	ls := make([]hostfwd.Listener, len(list))
	for i, st := range list {
		ls[i] = &listener{h: h.Handler, f: st.Forward, id: st.ID}
	}
	m.Adopt(list, ls)
	return &session{&f.Client, network, m, h}, nil
}

// translate replaces the ids of forwards that were opened in this session by slirp4netns's.
func (s *session) translate(ctx context.Context, list []hostfwd.Status) ([]hostfwd.Status, error) {
	for i, st := range list {
		if id, ok := s.handler.ids[sideOf(st.Forward)]; ok {
			list[i].ID = id
		}
	}
	if s.network.IsValid() {
		return list, nil
	}
	now, err := s.client.List(ctx)
	if err != nil {
		return list, err
	}
	guests := map[int]netip.Addr{}
	for _, st := range now {
		guests[st.ID] = st.GuestIP
	}
	for i, st := range list {
		if st.GuestIP == noGuest {
			list[i].GuestIP = guests[st.ID]
		}
	}
	return list, nil
}

type hostSide struct {
	network string
	ip      netip.Addr
	port    uint16
}

func sideOf(f hostfwd.Forward) hostSide { return hostSide{f.Proto.Network(), f.HostIP, f.HostPort} }

// foreignHandler records the ids that slirp4netns gives, and leaves an unknown default
// guest to slirp4netns.
type foreignHandler struct {
	*Handler
	ids map[hostSide]int // no lock: a session is used by one goroutine
}

func (h *foreignHandler) Open(ctx context.Context, f hostfwd.Forward) (hostfwd.Listener, error) {
	if f.GuestIP == noGuest {
		f.GuestIP = netip.Addr{}
	}
	l, err := h.Handler.Open(ctx, f)
	if err != nil {
		return nil, err
	}
	h.ids[sideOf(l.Forward())] = l.(*listener).id
	return l, nil
}
