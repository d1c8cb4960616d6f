// Package autoports forwards the ports that programs inside a network namespace listen on, for
// as long as they do (--publish auto). It exists so that nobody has to know ports in advance.
//
// It asks for the namespace's sockets a few times a second: the kernel announces the end of a
// socket (sock_diag(7)) but not its beginning. What is followed:
//
//   - TCP sockets that listen, and UDP sockets without a peer. UDP ports in the ephemeral range
//     are left out: there every client that asks a name server would be a listener.
//   - On any address that the port handler reaches. One that listens on the namespace's loopback
//     only is forwarded from the host's loopback, whatever host address was asked for.
//
// The host port is the guest port. One that is forwarded by hand already, on either side, is
// left alone, and so is one that the host refuses: the log says so once.
package autoports

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

const (
	// interval is how often sockets are asked for: a port has to appear within half a second.
	interval = 200 * time.Millisecond
	// restFactor times as long as a look took is the least pause after it, so that ports that
	// open and close without end cost less than a tenth of a core.
	restFactor = 12
	// retryAfter is the number of looks after which a refused port is tried again.
	retryAfter = 25
	// maxTold bounds the lines that programs inside can write into the log.
	maxTold = 200
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
	// HostIP is the host address to listen on.
	HostIP netip.Addr
	// Guest6 is the guest's IPv6 address, if it has one.
	Guest6 netip.Addr
	// Sockets lists what listens inside.
	Sockets func() ([]hostfwd.Socket, error)
	// Check refuses forwards that the port handler can't do. They are left out silently.
	Check func(hostfwd.Forward) error
	// Exclude reports ports to leave alone.
	Exclude func(port uint16) bool
	// Refuse says why a host port may not be forwarded; nil if it may. It is asked once for a
	// port, until the program that listens there stops.
	Refuse func(port uint16) error
	// Max is how many ports are forwarded at once.
	Max int
	Log func(format string, args ...any)
}

// key names a forward of ours: host and guest port are the same.
type key struct {
	network string
	port    uint16
}

// following is one port that somebody inside listens on.
type following struct {
	f       hostfwd.Forward
	id      int // 0: not forwarded
	wait    int // looks until the next try
	refused bool
}

// Follower keeps forwards in step with sockets. It is used by one goroutine.
type Follower struct {
	cfg         Config
	ports       map[key]*following
	told        map[key]bool // ports that the log named
	full        bool         // the log said that Max is reached
	first, last uint16       // ephemeral
}

// New returns a Follower; nothing is forwarded yet.
func New(cfg Config) *Follower {
	f := &Follower{cfg: cfg, ports: map[key]*following{}, told: map[key]bool{}}
	f.first, f.last = ephemeral()
	return f
}

// Run follows until ctx ends. The forwards stay; they end with the Manager.
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

// Look asks for the sockets once and adds and removes what has changed, each in one batch.
func (f *Follower) Look(ctx context.Context) error {
	sockets, err := f.cfg.Sockets()
	if err != nil {
		return err
	}
	wanted := f.wanted(sockets)
	byHand := f.byHand()
	var gone []key
	for k, p := range f.ports {
		if want, still := wanted[k]; !still || want != p.f || byHand[k] {
			gone = append(gone, k)
		}
	}
	if err := f.remove(ctx, gone); err != nil {
		return err
	}
	for k, want := range wanted {
		if f.ports[k] == nil && !byHand[k] {
			f.ports[k] = &following{f: want}
		}
	}
	return f.add(ctx, f.due())
}

// wanted turns sockets into forwards, one for each port: the one that reaches most.
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

// forwardTo returns the forward to a socket and its rank, higher for a socket with more addresses; 0: there is none.
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
	case a.IsLinkLocalUnicast() || a.IsMulticast(): // needs an interface, or is no address to connect to
		return fwd, 0
	}
	fwd.GuestIP = a
	return fwd, 2
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

// remove takes the forwards of keys back and forgets these ports. If that fails, they are tried
// again at the next look.
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
		if errors.As(err, &gone) && ids[gone.ID] { // removed by hand
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

// due returns the ports to be forwarded now, sorted. One that was removed by hand is not
// forwarded again while its program listens.
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
			f.tell(p, err)
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

// add forwards ps in one batch; without those that are refused, which is told.
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
		f.tell(ps[refused.Index], refused.Err)
		if err := f.add(ctx, ps[:refused.Index]); err != nil { // these could be opened
			return err
		}
		ps = ps[refused.Index+1:]
	}
	return nil
}

// tell logs, once for a port, that it is not forwarded.
func (f *Follower) tell(p *following, why error) {
	k := key{p.f.Proto.Network(), p.f.GuestPort}
	if f.told[k] || len(f.told) > maxTold {
		return
	}
	f.told[k] = true
	if len(f.told) > maxTold {
		f.cfg.Log("--publish auto: further ports that are not forwarded are not named")
		return
	}
	f.cfg.Log("--publish auto: port %d/%s is not forwarded: %v", p.f.GuestPort, p.f.Proto, why)
}

// ephemeral returns the ports that the kernel picks from by itself. The range inside is the
// default one unless somebody changes it there, and then so it is here.
func ephemeral() (first, last uint16) {
	first, last = 32768, 60999
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return first, last
	}
	f := strings.Fields(string(data))
	if len(f) != 2 {
		return first, last
	}
	a, aerr := strconv.ParseUint(f[0], 10, 16)
	b, berr := strconv.ParseUint(f[1], 10, 16)
	if aerr != nil || berr != nil {
		return first, last
	}
	return uint16(a), uint16(b)
}
