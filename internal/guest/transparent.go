package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// The mark of sockets that have a client's address, and the tables and priorities of the rules. Other software marks
// bits of its own above the lowest eight, and uses tables with smaller numbers.
const (
	sourceMark  = 0x73
	firstTable  = 0x736c00 // of the mark; the next ones are one for each guest address that UDP goes to
	sourceTable = 16       // maximum number of tables
	markRule    = 100
	sessionRule = 101
)

// sourceSysctls make accepted sockets, and resets and ICMP errors, inherit the mark of the packet they answer.
var sourceSysctls = []string{"net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect", "net/ipv6/fwmark_reflect"}

// Transparency lets connections into a namespace come from their clients' addresses. The sockets are bound to
// those (IP_TRANSPARENT); what remains is that answers come back to them instead of leaving through the tap.
//
// For TCP the socket has a mark. The kernel gives it to the socket that the program inside accepts, so one
// rule by mark leads all answers to a table whose only route delivers everything locally. UDP has no accepted
// socket, so each session has a rule by addresses and ports. Its table is that of the guest address, and gives
// answers that address as their source. Packets of other connections match none of these rules.
//
// The supervisor sends the requests itself, over a socket that the agent has created. It has the capabilities, as root or
// as the creator of the user namespace that owns the network namespace, so the agent needs none.
type Transparency struct {
	cfg TransparencyConfig
	old map[string]string // values of sysctls before
	v6  bool

	mu     sync.Mutex
	fd     int // NETLINK_ROUTE; -1: closed
	seq    uint32
	buf    [4096]byte
	tables []netip.Addr // firstTable+1 and following

	removeMu sync.Mutex
	removals [][2]netip.AddrPort
	removing sync.WaitGroup
	busy     bool // a goroutine works on removals
}

// TransparencyConfig describes a namespace.
type TransparencyConfig struct {
	Netns  *os.File
	Userns *os.File        // as in [Config]
	Guest  []netip.Addr    // its addresses, which may be missing for a moment
	Own    []netip.Prefix  // its networks: clients' addresses in them are not kept
	Log    func(err error) // receives failures to take rules away
}

// NewTransparency prepares the namespace. The error names what is missing.
func NewTransparency(ctx context.Context, a *Agent, cfg TransparencyConfig) (_ *Transparency, err error) {
	t := &Transparency{cfg: cfg, fd: -1, old: map[string]string{}}
	defer func() {
		if err != nil {
			t.Close()
			err = fault.Errorf(fault.Unsupported, "--port-handler slirp4netns keeps the address by itself", "--source-ip-transparent: %w", err)
		}
	}()
	if t.fd, err = a.Netlink(ctx, unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	if err := sameNetns(t.fd, cfg.Netns); err != nil {
		return nil, err
	}
	t.flush() // what a supervisor that was killed left
	if err := t.mark(unix.AF_INET); err != nil {
		return nil, err
	}
	switch err := t.mark(unix.AF_INET6); {
	case err == nil:
		t.v6 = true
	case slices.ContainsFunc(cfg.Guest, netip.Addr.Is6):
		return nil, err
	}
	for _, name := range sourceSysctls {
		was, err := nsexec.Sysctl(cfg.Userns, cfg.Netns, name, "", "1")
		switch {
		case errors.Is(err, fs.ErrNotExist) && !t.v6 && strings.HasPrefix(name, "net/ipv6/"):
		case err != nil:
			return nil, fmt.Errorf("the namespace's %s must be 1: %w", strings.ReplaceAll(name, "/", "."), err)
		case was != "1":
			t.old[name] = was
		}
	}
	return t, nil
}

// sameNetns checks that a socket belongs to a network namespace: the agent may be controlled from inside.
func sameNetns(fd int, netns *os.File) error {
	ns, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGSKNS, 0)
	if errno != 0 {
		return fmt.Errorf("CAP_NET_ADMIN over the network namespace: %w", errno)
	}
	defer unix.Close(int(ns))
	var have, want unix.Stat_t
	if err := errors.Join(unix.Fstat(int(ns), &have), unix.Fstat(int(netns.Fd()), &want)); err != nil {
		return err
	}
	if have.Dev != want.Dev || have.Ino != want.Ino {
		return errors.New("the helper gave a socket of another network namespace")
	}
	return nil
}

// mark makes the table and the rule of marked packets.
func (t *Transparency) mark(family int) error {
	err := t.route(family, firstTable, netip.Addr{})
	if err == nil {
		err = t.do(unix.RTM_NEWRULE, unix.NLM_F_CREATE, rule(family), u32(unix.FRA_FWMARK, sourceMark), u32(unix.FRA_PRIORITY, markRule), u32(unix.FRA_TABLE, firstTable))
	}
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES): %w", err)
	case err != nil:
		return fmt.Errorf("a route and a rule for answers: %w", err)
	}
	return nil
}

// Mark returns the mark for sockets with a client's address.
func (t *Transparency) Mark() int { return sourceMark }

// Keeps reports whether connections to a guest address can have a client's address.
func (t *Transparency) Keeps(guest, client netip.Addr) bool {
	if guest.Is4() != client.Is4() || client.IsLoopback() || client.Is6() && (!t.v6 || client.IsLinkLocalUnicast()) {
		return false
	}
	return !slices.ContainsFunc(t.cfg.Own, func(p netip.Prefix) bool { return p.Contains(client) })
}

// Local reports whether an address is one of the namespace's own. Answers of others, behind it, could not be
// told from what they send elsewhere.
func (t *Transparency) Local(guest netip.Addr) bool {
	if guest.IsLoopback() || slices.Contains(t.cfg.Guest, guest) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	msg := nl.NewRtMsg()
	msg.Family, msg.Dst_len = family(guest), uint8(guest.BitLen())
	typ, err := t.ask(unix.RTM_GETROUTE, 0, msg, nl.NewRtAttr(unix.RTA_DST, guest.AsSlice()))
	return err == nil && typ == unix.RTN_LOCAL
}

// Add makes answers from guest to a UDP client return to the client's socket inside.
func (t *Transparency) Add(guest, client netip.AddrPort) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	table, err := t.tableOf(guest.Addr())
	if err != nil {
		return err
	}
	return t.session(unix.RTM_NEWRULE, unix.NLM_F_CREATE, table, guest.Port(), client)
}

// Remove undoes Add, a moment later.
func (t *Transparency) Remove(guest, client netip.AddrPort) {
	t.removeMu.Lock()
	defer t.removeMu.Unlock()
	t.removals = append(t.removals, [2]netip.AddrPort{guest, client})
	if !t.busy {
		t.busy = true
		t.removing.Go(t.removeAll)
	}
}

func (t *Transparency) removeAll() {
	for {
		t.removeMu.Lock()
		work := t.removals
		t.removals = nil
		t.busy = len(work) > 0
		t.removeMu.Unlock()
		if len(work) == 0 {
			return
		}
		for _, w := range work {
			t.mu.Lock()
			if i := slices.Index(t.tables, w[0].Addr()); i >= 0 && t.fd >= 0 {
				if err := t.session(unix.RTM_DELRULE, 0, firstTable+1+i, w[0].Port(), w[1]); err != nil && !errors.Is(err, unix.ENOENT) {
					t.cfg.Log(fmt.Errorf("rule for %s: %w", w[1], err))
				}
			}
			t.mu.Unlock()
		}
	}
}

func (t *Transparency) session(typ, flags, table int, sport uint16, client netip.AddrPort) error {
	msg := rule(int(family(client.Addr())))
	msg.Dst_len = uint8(client.Addr().BitLen())
	return t.do(typ, flags, msg, nl.NewRtAttr(unix.FRA_DST, client.Addr().AsSlice()), u32(unix.FRA_PRIORITY, sessionRule), u32(unix.FRA_TABLE, uint32(table)),
		nl.NewRtAttr(unix.FRA_IP_PROTO, []byte{unix.IPPROTO_UDP}), ports(unix.FRA_SPORT_RANGE, sport), ports(unix.FRA_DPORT_RANGE, client.Port()))
}

// tableOf returns the table of a guest address, which it makes first.
func (t *Transparency) tableOf(guest netip.Addr) (int, error) {
	i := slices.Index(t.tables, guest)
	if i >= 0 {
		return firstTable + 1 + i, nil
	}
	if len(t.tables) == sourceTable-1 {
		return 0, errors.New("forwards of UDP go to more than 15 addresses inside")
	}
	table := firstTable + 1 + len(t.tables)
	if err := t.route(int(family(guest)), table, guest); err != nil {
		return 0, fmt.Errorf("route for answers of %s: %w", guest, err)
	}
	t.tables = append(t.tables, guest)
	return table, nil
}

// Renew makes the routes again that the kernel took away with a guest address. That happens when slirp4netns
// is started again.
func (t *Transparency) Renew() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for i, guest := range t.tables {
		errs = append(errs, t.route(int(family(guest)), firstTable+1+i, guest))
	}
	return errors.Join(errs...)
}

// Close removes rules and routes, and restores the sysctls, unless somebody else has changed them.
func (t *Transparency) Close() {
	t.removing.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return
	}
	t.flush()
	unix.Close(t.fd)
	t.fd = -1
	for name, was := range t.old {
		if now, err := nsexec.Sysctl(t.cfg.Userns, t.cfg.Netns, name, "", ""); err == nil && now == "1" {
			_, _ = nsexec.Sysctl(t.cfg.Userns, t.cfg.Netns, name, "", was)
		}
	}
}

// flush removes the tables, and every rule that leads to one of them. The bound is for somebody inside who makes
// them again.
func (t *Transparency) flush() {
	const most = 1 << 16
	n := 0
	all := func(typ int, msg *nl.RtMsg, table *nl.RtAttr) {
		for ; n < most && t.do(typ, 0, msg, table) == nil; n++ {
		}
	}
	for _, fam := range []int{unix.AF_INET, unix.AF_INET6} {
		for table := uint32(firstTable); table < firstTable+sourceTable; table++ {
			all(unix.RTM_DELRULE, rule(fam), u32(unix.FRA_TABLE, table))
			all(unix.RTM_DELROUTE, local(fam, unix.RT_SCOPE_NOWHERE), u32(unix.RTA_TABLE, table))
		}
	}
}

// route makes or replaces a table's route. source is that of packets without one; the zero address: none.
func (t *Transparency) route(fam, table int, source netip.Addr) error {
	attrs := []*nl.RtAttr{u32(unix.RTA_TABLE, uint32(table)), u32(unix.RTA_OIF, 1)} // lo is 1 in every namespace
	if source.IsValid() {
		attrs = append(attrs, nl.NewRtAttr(unix.RTA_PREFSRC, source.AsSlice()))
	}
	return t.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, local(fam, unix.RT_SCOPE_HOST), attrs...)
}

func local(fam int, scope uint8) *nl.RtMsg {
	msg := nl.NewRtMsg()
	msg.Family, msg.Table, msg.Scope, msg.Type = uint8(fam), unix.RT_TABLE_UNSPEC, scope, unix.RTN_LOCAL
	return msg
}

func rule(fam int) *nl.RtMsg {
	msg := nl.NewRtMsg()
	msg.Family, msg.Table, msg.Scope, msg.Type, msg.Protocol = uint8(fam), unix.RT_TABLE_UNSPEC, 0, unix.FR_ACT_TO_TBL, 0
	return msg
}

func family(addr netip.Addr) uint8 {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func u32(attr int, v uint32) *nl.RtAttr {
	return nl.NewRtAttr(attr, binary.NativeEndian.AppendUint32(nil, v))
}

func ports(attr int, port uint16) *nl.RtAttr {
	return nl.NewRtAttr(attr, binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, port), port))
}

func (t *Transparency) do(typ, flags int, msg *nl.RtMsg, attrs ...*nl.RtAttr) error {
	_, err := t.ask(typ, flags|unix.NLM_F_ACK, msg, attrs...)
	return err
}

// ask makes a request, which the kernel has answered when sendto returns. The caller holds t.mu, or is the only
// one. It returns the type of the route in the answer. The destination makes the kernel check the capabilities of
// this process only, and not also those of the agent (__netlink_ns_capable in net/netlink/af_netlink.c).
func (t *Transparency) ask(typ, flags int, msg *nl.RtMsg, attrs ...*nl.RtAttr) (route uint8, err error) {
	if t.fd < 0 {
		return 0, ErrEnded
	}
	t.seq++
	req := nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: uint16(typ), Flags: unix.NLM_F_REQUEST | uint16(flags), Seq: t.seq}}
	req.AddData(msg)
	for _, a := range attrs {
		req.AddData(a)
	}
	if err := unix.Sendto(t.fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	for {
		n, _, err := unix.Recvfrom(t.fd, t.buf[:], 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		msgs, err := syscall.ParseNetlinkMessage(t.buf[:n])
		if err != nil {
			return 0, err
		}
		for _, m := range msgs {
			switch {
			case m.Header.Seq != t.seq:
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				if e := -int32(binary.NativeEndian.Uint32(m.Data)); e != 0 {
					return 0, syscall.Errno(e)
				}
				return 0, nil
			case m.Header.Type == unix.RTM_NEWROUTE && len(m.Data) >= unix.SizeofRtMsg:
				return nl.DeserializeRtMsg(m.Data).Type, nil
			}
		}
	}
}
