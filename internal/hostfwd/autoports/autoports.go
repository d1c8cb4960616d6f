// Package autoports forwards the ports that programs inside a network namespace listen on, for
// as long as they do (--publish auto). It exists so that nobody has to know ports in advance.
//
// It asks for the namespace's sockets a few times a second: the kernel announces the end of a
// socket (sock_diag(7)) but not its beginning. What is followed:
//
//   - TCP sockets that listen, and UDP sockets without a peer. UDP ports in the ephemeral range
//     are left out: there every client that asks a name server would be a listener.
//   - On any address that the port handler reaches. One that listens on all addresses or on the
//     guest address is forwarded from all of the host's, one on the namespace's loopback only
//     from the host's 127.0.0.1: what was local stays local.
//
// The host port is the guest port. One that is forwarded by hand already, on either side, is
// left alone, and so is one that the host refuses: the log says so once.
package autoports

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

const (
	// every is how often sockets are asked for: a port has to appear within half a second.
	every = 200 * time.Millisecond
	// patience is after how many looks a refused port is tried again.
	patience = 25
)

// Manager is what is needed of [hostfwd.Manager].
type Manager interface {
	List() []hostfwd.Status
	Guest() netip.Addr
	Add(context.Context, []hostfwd.Forward) ([]hostfwd.Status, error)
	Remove(context.Context, []int) error
}

// Config is what a [Follower] needs to know. All fields but Guest6 are required.
type Config struct {
	Manager Manager
	// Guest6 is the guest's IPv6 address, if it has one.
	Guest6 netip.Addr
	// Scan is where the sockets are listed.
	Scan *Scanner
	// Check refuses forwards that the port handler can't do.
	Check func(hostfwd.Forward) error
	// Exclude reports ports to leave alone.
	Exclude func(port uint16) bool
	Log     func(format string, args ...any)
}

// key names a forward of ours: host and guest port are the same.
type key struct {
	network string
	port    uint16
}

// following is one port that somebody inside listens on.
type following struct {
	f    hostfwd.Forward
	id   int // 0: not forwarded
	wait int // looks until the next try
	told bool
}

// Follower keeps forwards in step with sockets. It is used by one goroutine.
type Follower struct {
	cfg         Config
	ports       map[key]*following
	first, last uint16 // ephemeral
}

// New returns a Follower; nothing is forwarded yet.
func New(cfg Config) *Follower {
	f := &Follower{cfg: cfg, ports: map[key]*following{}}
	f.first, f.last = ephemeral()
	return f
}

// Run follows until ctx ends. The forwards stay; they end with the Manager.
func (f *Follower) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	failed := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := f.Look(ctx)
		if errors.Is(err, hostfwd.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil && !failed {
			f.cfg.Log("--publish auto: %v", err)
		}
		failed = err != nil
	}
}

// Look asks for the sockets once and adds and removes what has changed.
func (f *Follower) Look(ctx context.Context) error {
	sockets, err := f.cfg.Scan.scan()
	if err != nil {
		return err
	}
	wanted := f.wanted(sockets)
	byHand := f.byHand()
	for _, k := range f.sorted() {
		p := f.ports[k]
		want, still := wanted[k]
		if still && want == p.f && !byHand[k] {
			continue
		}
		if err := f.drop(ctx, p); err != nil {
			return err
		}
		delete(f.ports, k)
	}
	for k, want := range wanted {
		if f.ports[k] == nil && !byHand[k] {
			f.ports[k] = &following{f: want}
		}
	}
	for _, k := range f.sorted() {
		if err := f.open(ctx, f.ports[k]); err != nil {
			return err
		}
	}
	return nil
}

func (f *Follower) sorted() []key {
	keys := make([]key, 0, len(f.ports))
	for k := range f.ports {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.port, b.port))
	})
	return keys
}

// wanted turns sockets into forwards, one for each port: the one that reaches most.
func (f *Follower) wanted(sockets []socket) map[key]hostfwd.Forward {
	guest := f.cfg.Manager.Guest()
	best := map[key]hostfwd.Forward{}
	ranks := map[key]int{}
	for _, s := range sockets {
		k := key{s.network, s.at.Port()}
		if f.cfg.Exclude(k.port) || (k.network == "udp" && f.first <= k.port && k.port <= f.last) {
			continue
		}
		fwd := hostfwd.Forward{Proto: hostfwd.Proto(s.network), HostPort: k.port, GuestPort: k.port}
		rank, a := 3, s.at.Addr()
		switch {
		case a.IsUnspecified() && s.v6only:
			if !f.cfg.Guest6.IsValid() {
				continue
			}
			fwd.GuestIP, rank = f.cfg.Guest6, 2
		case a.IsUnspecified() || a == guest:
		case a.IsLoopback():
			fwd.HostIP, fwd.GuestIP, rank = netip.AddrFrom4([4]byte{127, 0, 0, 1}), a, 1
		case a.IsLinkLocalUnicast() || a.IsMulticast():
			continue // needs an interface, or is no address to connect to
		default:
			fwd.GuestIP, rank = a, 2
		}
		if rank <= ranks[k] && (rank != ranks[k] || best[k].GuestIP.Compare(fwd.GuestIP) <= 0) {
			continue
		}
		full := fwd
		if !full.HostIP.IsValid() {
			full.HostIP = netip.IPv4Unspecified()
		}
		if !full.GuestIP.IsValid() {
			full.GuestIP = guest
		}
		if f.cfg.Check(full) == nil {
			best[k], ranks[k] = fwd, rank
		}
	}
	return best
}

// byHand returns the ports, of host and guest, that forwards which are not ours use.
func (f *Follower) byHand() map[key]bool {
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

func (f *Follower) drop(ctx context.Context, p *following) error {
	if p.id == 0 {
		return nil
	}
	err := f.cfg.Manager.Remove(ctx, []int{p.id})
	var gone *hostfwd.NotFoundError
	if errors.As(err, &gone) { // removed by hand
		return nil
	}
	return err
}

// open forwards p unless it is. One that was removed by hand is not opened again while its
// program listens.
func (f *Follower) open(ctx context.Context, p *following) error {
	if p.id != 0 {
		return nil
	}
	if p.wait--; p.wait > 0 {
		return nil
	}
	list, err := f.cfg.Manager.Add(ctx, []hostfwd.Forward{p.f})
	if err == nil {
		p.id = list[0].ID
		return nil
	}
	if errors.Is(err, hostfwd.ErrClosed) || ctx.Err() != nil {
		return err
	}
	p.wait = patience
	if !p.told {
		p.told = true
		var add *hostfwd.AddError
		if errors.As(err, &add) {
			err = add.Err
		}
		f.cfg.Log("--publish auto: port %d/%s is not forwarded: %v", p.f.GuestPort, p.f.Proto, err)
	}
	return nil
}
