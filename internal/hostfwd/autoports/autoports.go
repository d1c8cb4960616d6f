// Package autoports forwards the ports that programs inside a network namespace listen on, for
// as long as they listen (--publish auto), so that ports need not be known in advance.
//
// It polls the namespace's sockets a few times a second: the kernel announces the closing of a
// socket (sock_diag(7)) but not its creation. It forwards:
//
//   - TCP sockets that listen, and UDP sockets without a peer. UDP ports in the ephemeral range
//     are excluded: they belong to clients, such as resolvers.
//   - Sockets on any address that the port handler reaches. A socket that listens only on the
//     namespace's loopback is forwarded from the host's loopback, whatever host address is configured.
//
// The host port equals the guest port. A port that the user has forwarded, on either side, is
// left alone. A port that the host refuses is skipped and logged once.
package autoports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

const (
	// interval is the time between two polls: a port must be forwarded within half a second.
	interval = 200 * time.Millisecond
	// restFactor is the minimum pause after a poll, as a multiple of the poll's duration, so that
	// ports that open and close constantly cost less than a tenth of a core.
	restFactor = 12
	// retryAfter is the number of polls after which a refused port is tried again.
	retryAfter = 25
	// maxLogged bounds the lines that programs inside can cause in the log.
	maxLogged = 200
)

// Manager is the part of [hostfwd.Manager] that a [Follower] uses.
type Manager interface {
	List() []hostfwd.Status
	Guest() netip.Addr
	Add(context.Context, []hostfwd.Forward) ([]hostfwd.Status, error)
	Remove(context.Context, []int) error
}

// Config configures a [Follower]. All fields but Guest6 are required.
type Config struct {
	Manager Manager
	// HostIP is the host address to listen on.
	HostIP netip.Addr
	// Guest6 is the guest's IPv6 address, if it has one.
	Guest6 netip.Addr
	// Sockets lists the listening sockets inside.
	Sockets func() ([]hostfwd.Socket, error)
	// Check rejects forwards that the port handler can't do. They are skipped silently.
	Check func(hostfwd.Forward) error
	// Exclude reports whether a port is never forwarded.
	Exclude func(port uint16) bool
	// Refuse returns why a host port may not be forwarded, or nil. It is called once for a
	// port, until the program that listens there stops.
	Refuse func(port uint16) error
	// Max is the maximum number of forwards at a time.
	Max int
	Log func(format string, args ...any)
}

// key identifies one of our forwards: host and guest port are the same.
type key struct {
	network string
	port    uint16
}

// following is one port that a program inside listens on.
type following struct {
	f       hostfwd.Forward
	id      int // 0: not forwarded
	wait    int // polls until the next attempt
	refused bool
}

// Follower keeps forwards in step with sockets. It must be used by one goroutine only.
type Follower struct {
	cfg         Config
	ports       map[key]*following
	logged      map[key]bool // ports whose refusal was logged
	full        bool         // it was logged that Max is reached
	first, last uint16       // ephemeral
}

// New returns a Follower without forwards.
func New(cfg Config) *Follower {
	f := &Follower{cfg: cfg, ports: map[key]*following{}, logged: map[key]bool{}}
	f.first, f.last = ephemeral()
	return f
}

// Run follows until ctx ends. The forwards remain open; the Manager closes them.
func (f *Follower) Run(ctx context.Context) {
	pause, failed := interval, false
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		start := time.Now()
		err := f.Look(ctx)
		pause = max(interval, restFactor*time.Since(start))
		if errors.Is(err, hostfwd.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			f.cfg.Log("--publish auto: %v", err)
		}
		failed = err != nil
	}
}

// Look lists the sockets once and adds and removes what has changed, each in one batch.
func (f *Follower) Look(ctx context.Context) error {
	sockets, err := f.cfg.Sockets()
	if err != nil {
		return err
	}
	wanted := f.wanted(sockets)
	manual := f.manual()
	var gone []key
	for k, p := range f.ports {
		if want, still := wanted[k]; !still || want != p.f || manual[k] {
			gone = append(gone, k)
		}
	}
	if err := f.remove(ctx, gone); err != nil {
		return err
	}
	for k, want := range wanted {
		if f.ports[k] == nil && !manual[k] {
			f.ports[k] = &following{f: want}
		}
	}
	return f.add(ctx, f.due())
}

// wanted turns sockets into forwards, one for each port: the one with the most addresses.
func (f *Follower) wanted(sockets []hostfwd.Socket) map[key]hostfwd.Forward {
	best := map[key]hostfwd.Forward{}
	ranks := map[key]int{}
	for _, s := range sockets {
		k := key{s.Network, s.Local.Port()}
		if f.cfg.Exclude(k.port) || (k.network == "udp" && f.first <= k.port && k.port <= f.last) {
			continue
		}
		fwd, rank := f.forwardTo(s)
		if rank < ranks[k] || rank == ranks[k] && best[k].GuestIP.Compare(fwd.GuestIP) <= 0 {
			continue
		}
		full := fwd
		if !full.GuestIP.IsValid() {
			full.GuestIP = f.cfg.Manager.Guest()
		}
		if f.cfg.Check(full) == nil {
			best[k], ranks[k] = fwd, rank
		}
	}
	return best
}

// forwardTo returns the forward to a socket and its rank, higher for a socket with more addresses; 0 means no forward.
func (f *Follower) forwardTo(s hostfwd.Socket) (fwd hostfwd.Forward, rank int) {
	port, a := s.Local.Port(), s.Local.Addr()
	fwd = hostfwd.Forward{Proto: hostfwd.Proto(s.Network), HostIP: f.cfg.HostIP, HostPort: port, GuestPort: port}
	switch {
	case a.IsUnspecified() && s.V6Only && f.cfg.Guest6.IsValid():
		fwd.GuestIP = f.cfg.Guest6
		return fwd, 2
	case a.IsUnspecified() && s.V6Only:
		return fwd, 0
	case a.IsUnspecified() || a == f.cfg.Manager.Guest():
		return fwd, 3
	case a.IsLoopback():
		if fwd.GuestIP = a; !fwd.HostIP.IsLoopback() {
			fwd.HostIP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		return fwd, 1
	case a.IsLinkLocalUnicast() || a.IsMulticast(): // needs an interface, or can't be connected to
		return fwd, 0
	}
	fwd.GuestIP = a
	return fwd, 2
}

// manual returns the host and guest ports of forwards that are not ours.
func (f *Follower) manual() map[key]bool {
	ours := map[int]bool{}
	for _, p := range f.ports {
		ours[p.id] = true
	}
	used := map[key]bool{}
	for _, s := range f.cfg.Manager.List() {
		if !ours[s.ID] {
			used[key{s.Proto.Network(), s.GuestPort}] = true
			used[key{s.Proto.Network(), s.HostPort}] = true
		}
	}
	return used
}

// remove removes the forwards of keys and forgets these ports. If that fails, they are tried
// again at the next poll.
func (f *Follower) remove(ctx context.Context, keys []key) error {
	ids := map[int]bool{}
	for _, k := range keys {
		if id := f.ports[k].id; id != 0 {
			ids[id] = true
		}
	}
	for len(ids) > 0 {
		err := f.cfg.Manager.Remove(ctx, slices.Sorted(maps.Keys(ids)))
		var gone *hostfwd.NotFoundError
		if errors.As(err, &gone) && ids[gone.ID] { // removed by the user
			delete(ids, gone.ID)
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	for _, k := range keys {
		delete(f.ports, k)
	}
	return nil
}

// due returns the ports to be forwarded now, sorted. A forward that the user removed is not
// added again while its program listens.
func (f *Follower) due() []*following {
	keys := slices.SortedFunc(maps.Keys(f.ports), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.port, b.port))
	})
	room := f.cfg.Max
	for _, p := range f.ports {
		if p.id != 0 {
			room--
		}
	}
	var due []*following
	for _, k := range keys {
		p := f.ports[k]
		if p.id != 0 || p.refused {
			continue
		}
		if p.wait--; p.wait > 0 {
			continue
		}
		if err := f.cfg.Refuse(k.port); err != nil {
			p.refused = true
			f.logRefused(p, err)
			continue
		}
		if len(due) >= room {
			if !f.full {
				f.full = true
				f.cfg.Log("--publish auto: only %d ports are forwarded at once", f.cfg.Max)
			}
			break
		}
		due = append(due, p)
	}
	return due
}

// add forwards ps in one batch, without those that are refused, which are logged.
func (f *Follower) add(ctx context.Context, ps []*following) error {
	for len(ps) > 0 {
		fs := make([]hostfwd.Forward, len(ps))
		for i, p := range ps {
			fs[i] = p.f
		}
		list, err := f.cfg.Manager.Add(ctx, fs)
		if err == nil {
			for i, p := range ps {
				p.id = list[i].ID
			}
			return nil
		}
		var refused *hostfwd.AddError
		if !errors.As(err, &refused) || ctx.Err() != nil {
			return err
		}
		ps[refused.Index].wait = retryAfter
		f.logRefused(ps[refused.Index], refused.Err)
		if err := f.add(ctx, ps[:refused.Index]); err != nil { // these could be opened
			return err
		}
		ps = ps[refused.Index+1:]
	}
	return nil
}

// logRefused logs, once for each port, that it is not forwarded.
func (f *Follower) logRefused(p *following, why error) {
	k := key{p.f.Proto.Network(), p.f.GuestPort}
	if f.logged[k] || len(f.logged) > maxLogged {
		return
	}
	f.logged[k] = true
	if len(f.logged) > maxLogged {
		f.cfg.Log("--publish auto: further refused ports are not logged")
		return
	}
	f.cfg.Log("--publish auto: port %d/%s is not forwarded: %v", p.f.GuestPort, p.f.Proto, why)
}

// ephemeral returns the kernel's ephemeral port range. It is read in this process's namespace;
// the namespace inside starts with the same default.
func ephemeral() (first, last uint16) {
	data, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if _, err := fmt.Sscan(string(data), &first, &last); err != nil {
		return 32768, 60999
	}
	return first, last
}
