package hostfwd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// job is a forward of a batch on its way to listening.
type job struct {
	index int
	asked Forward
	e     *entry
	l     Listener
}

func (j *job) fail(err error) *AddError { return &AddError{j.index, j.asked, err} }

// plan resolves and checks all of fs.
func (m *Manager) plan(fs []Forward) ([]*job, error) {
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
		return nil, &ForwardError{"proto", fmt.Sprintf("%q is not one of tcp, udp, tcp4, tcp6, udp4, udp6", string(f.Proto))}
	}
	if !f.HostIP.IsValid() {
		e.f.HostIP = unspecified(f.Proto == TCP6 || f.Proto == UDP6)
	}
	e.f.HostIP = e.f.HostIP.Unmap()
	if !f.Proto.fits(e.f.HostIP) {
		return nil, &ForwardError{"host address", fmt.Sprintf("%s does not fit %s", e.f.HostIP, f.Proto)}
	}
	if e.defGuest {
		e.f.GuestIP = guest
	}
	e.f.GuestIP = e.f.GuestIP.Unmap()
	if err := m.checkGuest(e.f.GuestIP); err != nil {
		return nil, err
	}
	if f.GuestPort == 0 {
		return nil, &ForwardError{"guest port", "must be 1 to 65535"}
	}
	return e, m.h.Check(e.f)
}

func (m *Manager) checkGuest(a netip.Addr) error {
	switch n := m.cfg.Network; {
	case !a.IsValid():
		return &ForwardError{"guest address", "is missing"}
	case a.IsUnspecified() || a.IsMulticast() || a.Zone() != "":
		return &ForwardError{"guest address", a.String() + " can't be one"}
	case n.IsValid() && a.Is4() == n.Addr().Is4() && !n.Contains(a) && !a.IsLoopback():
		return outsideNetwork(n)
	}
	return nil
}

// reserve enters the jobs that know their host port into the books.
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

// openAll opens all reserved jobs or none; then none is reserved any more. Those with a given
// host port go first, so that a free one can't be one that the batch needs.
func (m *Manager) openAll(ctx context.Context, jobs []*job) error {
	var opened []*job
	fail := func(j *job, err error) error {
		err = j.fail(takeBack(opened, err))
		m.release(jobs)
		return err
	}
	for _, j := range jobs {
		if j.e.f.HostPort == 0 {
			continue
		}
		if err := m.openOne(ctx, j); err != nil {
			return fail(j, err)
		}
		opened = append(opened, j)
	}
	for i := 0; i < len(jobs); {
		if jobs[i].l != nil {
			i++
			continue
		}
		n := groupLen(jobs[i:])
		if j, err := m.openGroup(ctx, jobs[i:i+n]); err != nil {
			return fail(j, err)
		}
		opened = append(opened, jobs[i:i+n]...)
		i += n
	}
	return nil
}

func (m *Manager) openOne(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := m.h.Open(ctx, j.e.f)
	if err != nil {
		return Explain(j.e.f, err)
	}
	j.l = l
	return nil
}

// takeBack closes what was opened, last first, and returns cause, with what went wrong. After
// a closing that timed out, it does not wait for the others to do so as well.
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
			return fmt.Errorf("%w (nor %d others)", cause, i)
		}
	}
	return cause
}

// groupLen counts the jobs, from the first, that want the same free port.
func groupLen(jobs []*job) int {
	a := jobs[0].asked
	for n := 1; n < len(jobs); n++ {
		b := jobs[n].asked
		if b.Proto = a.Proto; a != b || jobs[n].l != nil {
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
// taken for another; with half of the ports taken, all tries fail once in 2^16.
const sameNumberTries = 16

// openGroup opens jobs that want the same free port, or else each on its own.
func (m *Manager) openGroup(ctx context.Context, group []*job) (*job, error) {
	for range sameNumberTries {
		j, err := m.openSame(ctx, group)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return j, err
		}
	}
	for i := range group {
		if j, err := m.openSame(ctx, group[i:i+1]); err != nil {
			return j, takeBack(group[:i], err)
		}
	}
	return nil, nil
}

// openSame lets the first pick a port and opens the others on it. If one fails, it is
// returned, and none is open.
func (m *Manager) openSame(ctx context.Context, group []*job) (*job, error) {
	var port uint16
	for i, j := range group {
		j.e.f.HostPort = port
		err := m.openOne(ctx, j)
		if err == nil {
			j.e.f.HostPort = j.l.Forward().HostPort
			port = j.e.f.HostPort
			if err = m.taken.take(j.e); err == nil {
				continue
			}
			i++ // j is open
		}
		err = takeBack(group[:i], err)
		for _, o := range group {
			m.taken.free(o.e)
			o.e.f.HostPort = 0
		}
		return j, err
	}
	return nil, nil
}

// enter gives the opened jobs their ids.
func (m *Manager) enter(jobs []*job) []*entry {
	es := make([]*entry, len(jobs))
	for i, j := range jobs {
		if j.e.id == 0 {
			m.lastID++
			j.e.id = m.lastID
		}
		j.e.l = j.l
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
