package control

import (
	"context"
	"net"
	"net/netip"

	"github.com/rootless-containers/rootlesskit/v3/pkg/api"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// portDriver shows the forwards as RootlessKit's router wants them.
type portDriver struct{ b Backend }

func (d portDriver) Info(context.Context) (*api.PortDriverInfo, error) {
	info := &api.PortDriverInfo{Driver: "builtin", Protos: []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"}}
	switch h := d.b.State().PortHandler; h {
	case "rootlesskit":
	case "slirp4netns":
		info.Driver = h
		info.Protos = []string{"tcp", "udp"}
		info.DisallowLoopbackChildIP = true
	default:
		info.Driver = h
	}
	return info, nil
}

func (d portDriver) AddPort(ctx context.Context, s port.Spec) (*port.Status, error) {
	f, err := forwardOf(s)
	if err != nil {
		return nil, err
	}
	list, err := d.b.Forwards().Add(ctx, []hostfwd.Forward{f})
	if err != nil {
		return nil, err
	}
	st := d.status(list[0])
	return &st, nil
}

func (d portDriver) ListPorts(context.Context) ([]port.Status, error) {
	var out []port.Status
	for _, s := range d.b.Forwards().List() {
		out = append(out, d.status(s))
	}
	return out, nil
}

func (d portDriver) RemovePort(ctx context.Context, id int) error {
	return d.b.Forwards().Remove(ctx, []int{id})
}

func forwardOf(s port.Spec) (f hostfwd.Forward, err error) {
	f.Proto = hostfwd.Proto(s.Proto)
	if f.HostIP, err = parseAddr(s.ParentIP, "parentIP"); err != nil {
		return f, err
	}
	if f.GuestIP, err = parseAddr(s.ChildIP, "childIP"); err != nil {
		return f, err
	}
	if f.HostPort, err = parsePort(s.ParentPort, 0, "parentPort"); err != nil {
		return f, err
	}
	f.GuestPort, err = parsePort(s.ChildPort, 1, "childPort")
	return f, err
}

// status leaves the child address out where it is the default, as RootlessKit does.
func (d portDriver) status(s hostfwd.Status) port.Status {
	spec := port.Spec{
		Proto: string(s.Proto), ParentIP: s.HostIP.String(),
		ParentPort: int(s.HostPort), ChildPort: int(s.GuestPort),
	}
	if s.GuestIP != d.b.Forwards().Guest() {
		spec.ChildIP = s.GuestIP.String()
	}
	return port.Status{ID: s.ID, Spec: spec}
}

// networkDriver describes the network as RootlessKit's slirp4netns driver does.
type networkDriver struct{ b Backend }

func (d networkDriver) Info(context.Context) (*api.NetworkDriverInfo, error) {
	st := d.b.State()
	info := &api.NetworkDriverInfo{Driver: "slirp4netns", ChildIP: toIP(st.Guest), IPv6: st.IPv6 != nil}
	if st.DNS.IsValid() {
		info.DNS = []net.IP{toIP(st.DNS)}
	}
	return info, nil
}

func toIP(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
