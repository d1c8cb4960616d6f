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
	m, _, err := f.manager(ctx)
	if err != nil {
		return nil, err
	}
	return m.List(), nil
}

// Add opens all of fs or none; see [hostfwd.Manager.Add].
func (f *Foreign) Add(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	m, known, err := f.manager(ctx)
	if err != nil {
		return nil, err
	}
	list, err := m.Add(ctx, fs)
	if err != nil || known {
		return list, err
	}
	now, err := f.Client.List(ctx)
	guests := map[int]netip.Addr{}
	for _, st := range now {
		guests[st.ID] = st.GuestIP
	}
	for i, st := range list {
		if st.GuestIP == noGuest && err == nil {
			list[i].GuestIP = guests[st.ID]
		}
	}
	return list, err
}

// Remove removes forwards by id and those that specs match ([hostfwd.Match]), all or none: if
// one does not exist, none is removed.
func (f *Foreign) Remove(ctx context.Context, ids []int, specs []hostfwd.Spec) error {
	m, _, err := f.manager(ctx)
	if err != nil {
		return err
	}
	list := m.List()
	for _, spec := range specs {
		found, err := hostfwd.Match(list, spec)
		if err != nil {
			return err
		}
		ids = append(ids[:len(ids):len(ids)], found...)
	}
	return m.Remove(ctx, ids)
}

// Set makes the forwards exactly fs; see [hostfwd.Manager.Set]. slirp4netns does not record
// which host ports were picked, so a forward with any port satisfies port 0. If Set fails,
// forwards that had to be closed for a moment are reopened with new ids.
func (f *Foreign) Set(ctx context.Context, fs []hostfwd.Forward) ([]hostfwd.Status, error) {
	m, known, err := f.manager(ctx)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, ErrNetworkUnknown
	}
	return m.Set(ctx, fs)
}

// Warnings returns the [Warnings] about fresh, as far as slirp4netns's options can be read.
func (f *Foreign) Warnings(ctx context.Context, fresh []hostfwd.Status) []string {
	list, pid, err := f.Client.list(ctx)
	if err != nil {
		return nil
	}
	return Warnings(list, fresh, barsLoopback(commandLine(pid)))
}

// manager returns a Manager over the forwards that there are now, for one change, and whether their network is known.
func (f *Foreign) manager(ctx context.Context) (m *hostfwd.Manager, known bool, err error) {
	list, pid, err := f.Client.list(ctx)
	if err != nil {
		return nil, false, err
	}
	var network netip.Prefix
	guest := noGuest
	if cidr, ok := cidrOf(commandLine(pid)); ok {
		if n, g := f.Network(cidr); n.IsValid() {
			network, guest = n, g
		}
	}
	h := NewHandler(Config{Path: f.Client.Path, Timeout: f.Client.Timeout, Network: network})
	ls := make([]hostfwd.Listener, len(list))
	for i, st := range list {
		ls[i] = &listener{h: h, f: st.Forward, id: st.ID}
	}
	m = hostfwd.NewManager(h, hostfwd.Config{Guest: guest, ID: func(l hostfwd.Listener) int { return l.(*listener).id }})
	m.Adopt(list, ls)
	return m, network.IsValid(), nil
}
