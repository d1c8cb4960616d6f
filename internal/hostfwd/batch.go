package hostfwd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// MaxForwards is the maximum number of forwards of a [Manager].
const MaxForwards = 65536

// ErrTooMany reports more than [MaxForwards] forwards.
var ErrTooMany = fault.New(fault.Usage, fmt.Sprintf("an instance has at most %d forwards", MaxForwards), "")

// plan resolves and checks all of fs, which are added to have existing forwards.
func (m *Manager) plan(fs []Forward, have int) ([]*entry, error) {
	if room := MaxForwards - have; len(fs) > room {
		return nil, &AddError{room, fs[room], ErrTooMany}
	}
	batch := make([]*entry, len(fs))
	for i, f := range fs {
		e := &entry{index: i, asked: f}
		var err error
		if e.f, err = m.resolve(f); err != nil {
			return nil, e.fail(err)
		}
		batch[i] = e
	}
	return batch, nil
}

// resolve fills in what f leaves to defaults; a host port that is to be picked becomes 0.
func (m *Manager) resolve(f Forward) (Forward, error) {
	if !f.Proto.Valid() {
		return f, badField("proto", "%q is not one of tcp, udp, tcp4, tcp6, udp4, udp6", string(f.Proto))
	}
	if !f.HostIP.IsValid() {
		f.HostIP = unspecified(f.Proto == TCP6 || f.Proto == UDP6)
	}
	f.HostIP = f.HostIP.Unmap()
	if !f.Proto.fits(f.HostIP) {
		return f, badField("host address", "%s does not fit %s", f.HostIP, f.Proto)
	}
	if !f.GuestIP.IsValid() {
		f.GuestIP = m.guest
	}
	f.GuestIP = f.GuestIP.Unmap()
	if err := checkGuest(f.GuestIP); err != nil {
		return f, err
	}
	if f.GuestPort == 0 {
		return f, badField("guest port", "must be 1 to 65535")
	}
	if f.HostPortEnd != 0 {
		if f.HostPort == 0 || f.HostPortEnd < f.HostPort {
			return f, badField("host port", "range %d-%d is empty", f.HostPort, f.HostPortEnd)
		}
		f.HostPort, f.HostPortEnd = 0, 0
	}
	return f, m.h.Check(f)
}

func checkGuest(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return badField("guest address", "is missing")
	case a.IsUnspecified() || a.IsMulticast() || a.Zone() != "":
		return badField("guest address", "%s is not a valid destination", a)
	}
	return nil
}

// openBatch opens all of batch or none. Given host ports are reserved first; then these forwards are opened, and those
// with any free port last, so that no port is picked that the batch needs.
func (m *Manager) openBatch(ctx context.Context, batch []*entry) error {
	for i, e := range batch {
		if e.f.HostPort == 0 {
			continue
		}
		if err := m.taken.take(e); err != nil {
			return m.takeBack(batch[:i], e.fail(err))
		}
	}
	var ranges, free [][]*entry
	for rest := batch; len(rest) > 0; {
		n := groupLen(rest)
		switch group := rest[:n]; {
		case !group[0].picks():
			if err := m.open(ctx, group[0]); err != nil {
				return m.takeBack(batch, group[0].fail(err))
			}
		case group[0].asked.HostPortEnd != 0:
			ranges = append(ranges, group)
		default:
			free = append(free, group)
		}
		rest = rest[n:]
	}
	for _, group := range slices.Concat(ranges, free) {
		if e, err := m.openGroup(ctx, group); err != nil {
			return m.takeBack(batch, e.fail(err))
		}
	}
	return nil
}

// takeBack closes those of a batch that are open, last first, and releases the host ports of new ones. It returns cause
// with any further errors. After a close that timed out, it does not wait for the others to time out as well.
func (m *Manager) takeBack(batch []*entry, cause error) error {
	timedOut, left := false, 0
	for _, e := range slices.Backward(batch) {
		if timedOut && e.l != nil {
			left++
		} else if err := closeEntry(e); err != nil {
			cause = fmt.Errorf("%w (and %s could not be taken back: %w)", cause, e.f, err)
			timedOut = errors.Is(err, context.DeadlineExceeded)
		}
		switch {
		case e.id == 0:
			e.l = nil
			m.taken.free(e)
		case e.l == nil:
			e.failed = cause.Error()
		}
	}
	if left > 0 {
		cause = fmt.Errorf("%w (and %d others)", cause, left)
	}
	return cause
}

// groupLen counts the entries, from the first, that should pick the same host port; it is 1 if the
// port is given.
func groupLen(batch []*entry) int {
	a := batch[0].asked
	if !batch[0].picks() {
		return 1
	}
	seen := []Proto{a.Proto}
	for n, e := range batch[1:] {
		b := e.asked
		if b.Proto = a.Proto; a != b || slices.Contains(seen, e.asked.Proto) {
			return n + 1
		}
		seen = append(seen, e.asked.Proto)
	}
	return len(batch)
}

// sameNumberTries is how often a port that is free for the first protocol may turn out to be
// taken for another. With half of the ports taken, all attempts fail once in 2^16.
const sameNumberTries = 16

// openGroup opens entries that should pick the same host port, or else each on its own. If one fails, it is returned.
func (m *Manager) openGroup(ctx context.Context, group []*entry) (failed *entry, err error) {
	failed, err = m.pick(ctx, group)
	if err == nil || len(group) == 1 || !errors.Is(err, syscall.EADDRINUSE) {
		return failed, err
	}
	for i := range group {
		if failed, err = m.pick(ctx, group[i:i+1]); err != nil {
			return failed, err
		}
	}
	return nil, nil
}

// pick opens all of group on one host port, or none, and then returns the one that failed.
func (m *Manager) pick(ctx context.Context, group []*entry) (failed *entry, err error) {
	asked := group[0].asked
	if asked.HostPortEnd == 0 {
		for range sameNumberTries {
			if failed, err = m.openSame(ctx, group, 0); !errors.Is(err, syscall.EADDRINUSE) {
				break
			}
		}
		return failed, err
	}
	var first error // why the range's first port failed
	for port := int(asked.HostPort); port <= int(asked.HostPortEnd); port++ {
		if first != nil && m.busy(group, uint16(port)) {
			continue
		}
		failed, err = m.openSame(ctx, group, uint16(port))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) {
			return failed, err
		}
		if first == nil {
			first = err
		}
	}
	return group[0], fmt.Errorf("no host port of %d-%d is free: %w", asked.HostPort, asked.HostPortEnd, first)
}

// busy reports, by a quick check, whether a host port is taken for any of group.
func (m *Manager) busy(group []*entry, port uint16) bool {
	return slices.ContainsFunc(group, func(e *entry) bool {
		f := e.f
		f.HostPort = port
		return m.taken.conflict(f) != nil || m.hostTaken(f)
	})
}

// openSame opens the first of group on port (0: the handler picks one) and the others on the
// same port. If one fails, it is returned, and none is open.
func (m *Manager) openSame(ctx context.Context, group []*entry, port uint16) (*entry, error) {
	for i, e := range group {
		e.f.HostPort = port
		err := m.openTaken(ctx, e)
		if err == nil {
			port = e.f.HostPort
			continue
		}
		err = m.takeBack(group[:i+1], err)
		for _, o := range group[:i+1] {
			o.f.HostPort = 0
		}
		return e, err
	}
	return nil, nil
}

// openTaken opens e and adds it to the table of host ports.
func (m *Manager) openTaken(ctx context.Context, e *entry) error {
	if e.f.HostPort != 0 {
		if err := m.taken.take(e); err != nil {
			return err
		}
		return m.open(ctx, e)
	}
	if err := m.open(ctx, e); err != nil {
		return err
	}
	e.f.HostPort = e.l.Forward().HostPort
	return m.taken.take(e)
}

// enter gives the new ones of the opened entries their ids.
func (m *Manager) enter(opened []*entry) {
	for _, e := range opened {
		if e.id != 0 {
			continue
		}
		m.lastID++
		e.id = m.lastID
		if m.cfg.ID != nil {
			e.id = m.cfg.ID(e.l)
		}
		m.byID[e.id] = e
	}
}

func statuses(es []*entry) []Status {
	list := make([]Status, len(es))
	for i, e := range es {
		list[i] = e.status()
	}
	return list
}
