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

// job is a forward of a batch while it is being opened.
type job struct {
	index int
	asked Forward
	e     *entry
	l     Listener
}

// picks reports whether j's host port is unknown until it is open.
func (j *job) picks() bool { return j.asked.HostPort == 0 || j.asked.HostPortEnd != 0 }

func (j *job) fail(err error) *AddError { return &AddError{j.index, j.asked, err} }

// MaxForwards is the maximum number of forwards of a [Manager].
const MaxForwards = 65536

// ErrTooMany reports more than [MaxForwards] forwards.
var ErrTooMany = fault.New(fault.Usage, fmt.Sprintf("an instance has at most %d forwards", MaxForwards), "")

// plan resolves and checks all of fs, which are added to have existing forwards.
func (m *Manager) plan(fs []Forward, have int) ([]*job, error) {
	if room := MaxForwards - have; len(fs) > room {
		return nil, &AddError{room, fs[room], ErrTooMany}
	}
	jobs := make([]*job, len(fs))
	for i, f := range fs {
		jobs[i] = &job{index: i, asked: f}
		e, err := m.resolve(f, m.guest)
		if err != nil {
			return nil, jobs[i].fail(err)
		}
		jobs[i].e = e
	}
	return jobs, nil
}

func (m *Manager) resolve(f Forward, guest netip.Addr) (*entry, error) {
	e := &entry{f: f, auto: f.HostPort == 0, defGuest: !f.GuestIP.IsValid()}
	if !f.Proto.Valid() {
		return nil, badField("proto", "%q is not one of tcp, udp, tcp4, tcp6, udp4, udp6", string(f.Proto))
	}
	if !f.HostIP.IsValid() {
		e.f.HostIP = unspecified(f.Proto == TCP6 || f.Proto == UDP6)
	}
	e.f.HostIP = e.f.HostIP.Unmap()
	if !f.Proto.fits(e.f.HostIP) {
		return nil, badField("host address", "%s does not fit %s", e.f.HostIP, f.Proto)
	}
	if e.defGuest {
		e.f.GuestIP = guest
	}
	e.f.GuestIP = e.f.GuestIP.Unmap()
	if err := checkGuest(e.f.GuestIP); err != nil {
		return nil, err
	}
	if f.GuestPort == 0 {
		return nil, badField("guest port", "must be 1 to 65535")
	}
	if f.HostPortEnd != 0 {
		if f.HostPort == 0 || f.HostPortEnd < f.HostPort {
			return nil, badField("host port", "range %d-%d is empty", f.HostPort, f.HostPortEnd)
		}
		e.f.HostPort, e.f.HostPortEnd = 0, 0 // until one is picked
	}
	return e, m.h.Check(e.f)
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

// reserve adds the jobs whose host port is known to the table of host ports.
func (m *Manager) reserve(jobs []*job) error {
	for i, j := range jobs {
		if j.e.f.HostPort == 0 {
			continue
		}
		if err := m.taken.take(j.e); err != nil {
			m.release(jobs[:i])
			return j.fail(err)
		}
	}
	return nil
}

func (m *Manager) release(jobs []*job) {
	for _, j := range jobs {
		m.taken.free(j.e)
	}
}

// openAll opens all reserved jobs or none; on failure it also drops the reservations. Jobs with
// a given host port go first and those with any free port last, so that no port is picked that
// the batch needs.
func (m *Manager) openAll(ctx context.Context, jobs []*job) error {
	var opened []*job
	fail := func(j *job, err error) error {
		err = j.fail(takeBack(opened, err))
		m.release(jobs)
		return err
	}
	var ranges, free [][]*job
	for rest := jobs; len(rest) > 0; {
		n := groupLen(rest)
		switch group := rest[:n]; {
		case !group[0].picks():
			if err := m.openOne(ctx, group[0]); err != nil {
				return fail(group[0], err)
			}
			opened = append(opened, group[0])
		case group[0].asked.HostPortEnd != 0:
			ranges = append(ranges, group)
		default:
			free = append(free, group)
		}
		rest = rest[n:]
	}
	for _, group := range slices.Concat(ranges, free) {
		if j, err := m.openGroup(ctx, group); err != nil {
			return fail(j, err)
		}
		opened = append(opened, group...)
	}
	return nil
}

func (m *Manager) openOne(ctx context.Context, j *job) error {
	l, err := m.open(ctx, j.e.f)
	if err != nil {
		return err
	}
	j.l = l
	return nil
}

// takeBack closes what was opened, last first, and returns cause with any further errors. After
// a close that timed out, it does not wait for the others to time out as well.
func takeBack(opened []*job, cause error) error {
	for i, j := range slices.Backward(opened) {
		err := j.l.Close()
		j.l = nil
		if err != nil {
			cause = fmt.Errorf("%w (and %s could not be taken back: %w)", cause, j.e.f, err)
		}
		if errors.Is(err, context.DeadlineExceeded) && i > 0 {
			for _, rest := range opened[:i] {
				rest.l = nil
			}
			return fmt.Errorf("%w (and %d others)", cause, i)
		}
	}
	return cause
}

// groupLen counts the jobs, from the first, that must pick the same host port; it is 1 if the
// port is given.
func groupLen(jobs []*job) int {
	a := jobs[0].asked
	if !jobs[0].picks() {
		return 1
	}
	for n := 1; n < len(jobs); n++ {
		b := jobs[n].asked
		if b.Proto = a.Proto; a != b {
			return n
		}
		for _, j := range jobs[:n] {
			if j.asked.Proto == jobs[n].asked.Proto {
				return n
			}
		}
	}
	return len(jobs)
}

// sameNumberTries is how often a port that is free for the first protocol may turn out to be
// taken for another. With half of the ports taken, all attempts fail once in 2^16.
const sameNumberTries = 16

// openGroup opens jobs that should pick the same host port, or else each on its own.
func (m *Manager) openGroup(ctx context.Context, group []*job) (*job, error) {
	j, err := m.pick(ctx, group)
	if err == nil || len(group) == 1 || !errors.Is(err, syscall.EADDRINUSE) {
		return j, err
	}
	for i := range group {
		if j, err := m.pick(ctx, group[i:i+1]); err != nil {
			return j, takeBack(group[:i], err)
		}
	}
	return nil, nil
}

// pick opens all of group on one host port, or none, and then returns the one that failed.
func (m *Manager) pick(ctx context.Context, group []*job) (failed *job, err error) {
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
func (m *Manager) busy(group []*job, port uint16) bool {
	for _, j := range group {
		f := j.e.f
		f.HostPort = port
		if m.taken.conflict(f) != nil || m.hostTaken(f) {
			return true
		}
	}
	return false
}

// openSame opens the first of group on port (0: the handler picks one) and the others on the
// same port. If one fails, it is returned, and none is open.
func (m *Manager) openSame(ctx context.Context, group []*job, port uint16) (*job, error) {
	for i, j := range group {
		j.e.f.HostPort = port
		err := m.openTaken(ctx, j)
		if err == nil {
			port = j.e.f.HostPort
			continue
		}
		err = takeBack(group[:i], err)
		for _, o := range group[:i+1] {
			m.taken.free(o.e)
			o.e.f.HostPort = 0
		}
		return j, err
	}
	return nil, nil
}

// openTaken opens j and adds it to the table of host ports.
func (m *Manager) openTaken(ctx context.Context, j *job) error {
	if j.e.f.HostPort != 0 {
		if err := m.taken.take(j.e); err != nil {
			return err
		}
		return m.openOne(ctx, j)
	}
	if err := m.openOne(ctx, j); err != nil {
		return err
	}
	j.e.f.HostPort = j.l.Forward().HostPort
	if err := m.taken.take(j.e); err != nil {
		return takeBack([]*job{j}, err)
	}
	return nil
}

// enter gives the opened jobs their ids.
func (m *Manager) enter(jobs []*job) []*entry {
	es := make([]*entry, len(jobs))
	for i, j := range jobs {
		if j.e.id == 0 {
			m.lastID++
			j.e.id = m.lastID
		}
		j.e.l, j.e.failed = j.l, ""
		m.byID[j.e.id] = j.e
		es[i] = j.e
	}
	return es
}

func statuses(jobs []*job) []Status {
	list := make([]Status, len(jobs))
	for i, j := range jobs {
		list[i] = j.e.status()
	}
	return list
}
