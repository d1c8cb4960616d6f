package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"github.com/rootless-containers/rootlesskit/v3/pkg/api"
	"github.com/rootless-containers/rootlesskit/v3/pkg/api/router"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port"
	"github.com/rootless-containers/rootlesskit/v3/pkg/port/portutil"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// addRootlessKitRoutes adds RootlessKit's routes. RootlessKit's handlers don't pass on the request's context, so each
// request gets a driver of its own with that context.
func addRootlessKitRoutes(mux *http.ServeMux, b Backend) {
	asked := &askedSpecs{of: map[int]port.Spec{}}
	serve := func(pattern string, f func(*router.Backend, http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			st := b.State()
			f(&router.Backend{
				StateDir: st.StateDir, ChildPID: st.Target.PID,
				NetworkDriver: networkDriver{b}, PortDriver: portDriver{b, r.Context(), asked},
			}, w, r)
		})
	}
	serve("GET /v1/info", (*router.Backend).GetInfo)
	serve("GET /v1/ports", (*router.Backend).GetPorts)
	serve("POST /v1/ports", (*router.Backend).PostPort)
	serve("DELETE /v1/ports/{id}", (*router.Backend).DeletePort)
}

// portDriver implements RootlessKit's port driver on the forwards. Its error messages are those of
// RootlessKit, which other programs may parse.
type portDriver struct {
	b     Backend
	ctx   context.Context // of the request: the router does not pass it on
	asked *askedSpecs
}

// askedSpecs are the specs of forwards that were added here, by id. They are listed as they were given.
type askedSpecs struct {
	mu sync.Mutex
	of map[int]port.Spec
}

func (d portDriver) Info(context.Context) (*api.PortDriverInfo, error) {
	info := &api.PortDriverInfo{Driver: "builtin", Protos: []string{"tcp", "tcp4", "tcp6", "udp", "udp4", "udp6"}}
	switch h := d.b.State().PortHandler; h {
	case "rootlesskit":
		info.Extra = d.b.PortDriverExtra()
	case "slirp4netns":
		info.Driver = h
		info.Protos = []string{"tcp", "tcp4", "udp", "udp4"}
		info.DisallowLoopbackChildIP = true
	default:
		info.Driver, info.Extra = h, d.b.PortDriverExtra()
	}
	return info, nil
}

func (d portDriver) AddPort(_ context.Context, s port.Spec) (*port.Status, error) {
	existing := map[int]*port.Status{}
	for _, st := range d.list() {
		existing[st.ID] = &st
	}
	if err := portutil.ValidatePortSpec(s, existing); err != nil {
		return nil, err
	}
	f, err := forwardOf(s)
	if err != nil {
		return nil, err
	}
	list, err := d.b.Forwards().Add(d.ctx, []hostfwd.Forward{f})
	if err != nil {
		return nil, rootlessKitError(f, err)
	}
	d.asked.mu.Lock()
	defer d.asked.mu.Unlock()
	d.asked.of[list[0].ID] = s
	return &port.Status{ID: list[0].ID, Spec: s}, nil
}

// rootlessKitError prefixes err with RootlessKit's message for a port that the host refuses.
func rootlessKitError(f hostfwd.Forward, err error) error {
	if add, ok := errors.AsType[*hostfwd.AddError](err); ok {
		err = add.Err
	}
	for _, errno := range []syscall.Errno{syscall.EADDRINUSE, syscall.EACCES, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT} {
		if errors.Is(err, errno) {
			at := net.JoinHostPort(f.HostIP.String(), strconv.Itoa(int(f.HostPort)))
			if !f.HostIP.IsValid() {
				at = fmt.Sprintf(":%d", f.HostPort)
			}
			return fmt.Errorf("listen %s %s: bind: %w: %w", f.Proto, at, errno, err)
		}
	}
	return err
}

func (d portDriver) ListPorts(context.Context) ([]port.Status, error) { return d.list(), nil }

func (d portDriver) list() []port.Status {
	var out []port.Status
	list := d.b.Forwards().List()
	d.asked.mu.Lock()
	defer d.asked.mu.Unlock()
	live := map[int]port.Spec{}
	for _, s := range list {
		if s.Failed != "" {
			continue // RootlessKit has no status for it
		}
		spec, ok := d.asked.of[s.ID]
		if ok {
			live[s.ID] = spec
		} else {
			spec = d.spec(s)
		}
		out = append(out, port.Status{ID: s.ID, Spec: spec})
	}
	d.asked.of = live
	return out
}

func (d portDriver) RemovePort(_ context.Context, id int) error {
	err := d.b.Forwards().Remove(d.ctx, []int{id})
	if _, ok := errors.AsType[*hostfwd.NotFoundError](err); ok {
		return fmt.Errorf("unknown id: %d", id)
	}
	return err
}

// forwardOf converts a valid spec to a forward.
func forwardOf(s port.Spec) (f hostfwd.Forward, err error) {
	f = hostfwd.Forward{Proto: hostfwd.Proto(s.Proto), HostPort: uint16(s.ParentPort), GuestPort: uint16(s.ChildPort)}
	if !f.Proto.Valid() {
		return f, fmt.Errorf("unsupported port protocol %s", s.Proto)
	}
	if f.HostIP, err = parseAddr(s.ParentIP, "parentIP"); err != nil {
		return f, err
	}
	f.GuestIP, err = parseAddr(s.ChildIP, "childIP")
	return f, err
}

// spec returns the spec of a forward that was not added here. Like RootlessKit, it omits the child
// address if it is the default.
func (d portDriver) spec(s hostfwd.Status) port.Spec {
	spec := port.Spec{
		Proto: string(s.Proto), ParentIP: s.HostIP.String(),
		ParentPort: int(s.HostPort), ChildPort: int(s.GuestPort),
	}
	if s.GuestIP != d.b.Forwards().Guest() {
		spec.ChildIP = s.GuestIP.String()
	}
	return spec
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
