package hostfwd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Set makes the forwards exactly fs and returns them in that order. A forward that remains is
// not touched and keeps its id: one that is equal, or equal except for a host port that is
// within the requested range, or was picked for 0 before and is 0 now. New forwards are opened
// before old ones are closed, except where the two want the same host port. On failure the
// error is an [*AddError] and the forwards are unchanged; the error names any that could not be
// reopened.
func (m *Manager) Set(ctx context.Context, fs []Forward) ([]Status, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.unlock()
	jobs, err := m.plan(fs, 0)
	if err != nil {
		return nil, err
	}
	stay, old := m.match(jobs)
	if err := checkConflicts(jobs); err != nil {
		return nil, err
	}

	// Colliding jobs must wait until old forwards have released their ports. A job that revives
	// a forward that is down has its port already.
	var free, revived, colliding []*job
	leaving, isOld := map[*entry]bool{}, map[*entry]bool{}
	for _, e := range old {
		isOld[e] = true
	}
	for _, j := range jobs {
		if stay[j] {
			if j.e.l == nil {
				revived = append(revived, j)
			}
			continue
		}
		rivals := m.rivals(j, isOld)
		for _, e := range rivals {
			leaving[e] = true
		}
		if len(rivals) > 0 {
			colliding = append(colliding, j)
		} else {
			free = append(free, j)
		}
	}
	if err := m.openNew(ctx, free, revived); err != nil {
		return nil, err
	}
	first := slices.Concat(free, revived)
	replaced := byID(leaving)
	if err := m.swap(ctx, replaced, colliding); err != nil {
		err = takeBack(first, err)
		m.release(free)
		m.commit(replaced, nil) // some may be down
		return nil, err
	}
	for _, e := range replaced {
		delete(m.byID, e.id)
	}
	changed := m.enter(slices.Concat(first, colliding))
	for _, j := range jobs {
		if stay[j] {
			j.e.auto, j.e.defGuest = j.asked.HostPort == 0, !j.asked.GuestIP.IsValid()
		}
	}
	gone, err := m.drop(slices.DeleteFunc(old, func(e *entry) bool { return leaving[e] }))
	m.commit(changed, slices.Concat(replaced, gone))
	return statuses(jobs), err
}

// match finds the forwards that remain and makes them the entries of their jobs. old has the
// others, by id.
func (m *Manager) match(jobs []*job) (stay map[*job]bool, old []*entry) {
	same := map[Forward]*entry{}
	alike := map[Forward][]*entry{} // ignoring the host port, which is 0 here
	all := m.sorted()
	for _, e := range all {
		same[e.f] = e
		k := e.f
		k.HostPort = 0
		alike[k] = append(alike[k], e)
	}
	for _, es := range alike {
		slices.SortFunc(es, func(a, b *entry) int { return cmp.Compare(a.f.HostPort, b.f.HostPort) })
	}
	stay, used := map[*job]bool{}, map[*entry]bool{}
	keep := func(j *job, e *entry) {
		if e != nil && !used[e] {
			j.e, stay[j], used[e] = e, true, true
		}
	}
	for _, j := range jobs {
		keep(j, same[j.e.f])
	}
	for _, j := range jobs {
		if stay[j] || !j.picks() {
			continue
		}
		for _, e := range alike[j.e.f] {
			if !used[e] && j.satisfiedBy(e) {
				keep(j, e)
				break
			}
		}
	}
	for _, e := range all {
		if !used[e] {
			old = append(old, e)
		}
	}
	return stay, old
}

// satisfiedBy reports whether e, which equals j except for the host port, has a port that j may pick.
func (j *job) satisfiedBy(e *entry) bool {
	if j.asked.HostPort == 0 {
		return e.auto
	}
	return j.asked.HostPort <= e.f.HostPort && e.f.HostPort <= j.asked.HostPortEnd
}

// checkConflicts rejects jobs that want the same host port.
func checkConflicts(jobs []*job) error {
	b := hostPorts{}
	for _, j := range jobs {
		if j.e.f.HostPort == 0 {
			continue
		}
		if err := b.take(j.e); err != nil {
			return j.fail(err)
		}
	}
	return nil
}

// rivals returns the entries that have j's host port; for a range, the old entries that have a port of it.
func (m *Manager) rivals(j *job, old map[*entry]bool) []*entry {
	if !j.picks() {
		return slices.Collect(m.taken.rivals(j.e.f))
	}
	var rivals []*entry
	for port := int(j.asked.HostPort); port <= int(j.asked.HostPortEnd); port++ {
		f := j.e.f
		f.HostPort = uint16(port)
		for e := range m.taken.rivals(f) {
			if old[e] {
				rivals = append(rivals, e)
			}
		}
	}
	return rivals
}

// openNew opens new jobs and those that revive an entry, all or none.
func (m *Manager) openNew(ctx context.Context, fresh, revived []*job) error {
	if err := m.reserve(fresh); err != nil {
		return err
	}
	if err := m.openAll(ctx, fresh); err != nil {
		return err
	}
	for i, j := range revived {
		if err := m.openOne(ctx, j); err != nil {
			err = takeBack(slices.Concat(fresh, revived[:i]), err)
			m.release(fresh)
			return j.fail(err)
		}
	}
	return nil
}

// swap closes old and opens jobs instead. If that fails, it reopens old.
func (m *Manager) swap(ctx context.Context, old []*entry, jobs []*job) error {
	if len(jobs) == 0 {
		return nil
	}
	for i, e := range old {
		if err := closeEntry(e); err != nil {
			err = fmt.Errorf("close forward %d (%s): %w", e.id, e.f, err)
			return joinErr(err, m.revive(ctx, old[:i]))
		}
	}
	for _, e := range old {
		m.taken.free(e)
	}
	err := m.reserve(jobs)
	if err == nil {
		err = m.openAll(ctx, jobs)
	}
	if err == nil {
		return nil
	}
	for _, e := range old {
		_ = m.taken.take(e) // it had the port before, and the port is free now
	}
	return joinErr(err, m.revive(ctx, old))
}

// Reload closes and reopens every forward, with the same ids and host ports. Those without a
// guest address of their own then go to guest, and so do later ones; an invalid guest means no
// change. On failure the error is an [*AddError] (Index counts by id) and the forwards are
// unchanged; the error names any that could not be reopened.
func (m *Manager) Reload(ctx context.Context, guest netip.Addr) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if !guest.IsValid() {
		guest = m.guest
	}
	guest = guest.Unmap()
	if err := checkGuest(guest); err != nil {
		return err
	}
	es := m.sorted()
	before := make([]Forward, len(es))
	after := make([]Forward, len(es))
	for i, e := range es {
		before[i], after[i] = e.f, e.f
		if e.defGuest {
			after[i].GuestIP = guest
		}
		if err := m.h.Check(after[i]); err != nil {
			return &AddError{i, after[i], err}
		}
	}
	for i, e := range es {
		err := closeEntry(e)
		if err == nil {
			e.f = after[i]
			if err = m.openEntry(ctx, e); err == nil {
				continue
			}
			e.f = before[i]
		}
		err = &AddError{i, after[i], err}
		for k, done := range es[:i] {
			if cerr := closeEntry(done); cerr != nil {
				err = fmt.Errorf("%w (and %s could not be taken back: %w)", err, done.f, cerr)
				if errors.Is(cerr, context.DeadlineExceeded) {
					break // the others would time out too
				}
				continue
			}
			done.f = before[k]
		}
		err = joinErr(err, m.revive(ctx, es[:i+1]))
		m.commit(es[:i+1], nil)
		return err
	}
	m.mu.Lock()
	m.guest = guest
	m.mu.Unlock()
	m.commit(es, nil)
	return nil
}

// Reopen opens every forward again, with the same ids and host ports, after their listeners
// were lost, for example because slirp4netns was restarted. It opens as many as it can; the
// others are down, and the error names them. Calling it again tries all again.
func (m *Manager) Reopen(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	es := m.sorted()
	for _, e := range es {
		_ = closeEntry(e) // the listener is gone already
		e.l = nil
	}
	err := m.openDown(ctx, es)
	m.commit(es, nil)
	return err
}

// Down returns the forwards that should listen and don't, by id. It waits for a change in
// progress.
func (m *Manager) Down() []Status {
	m.changing <- struct{}{}
	defer m.unlock()
	var list []Status
	for _, e := range m.sorted() {
		if e.l == nil {
			list = append(list, e.status())
		}
	}
	return list
}

// restoreTime bounds how long reopening takes after the caller's context has ended.
const restoreTime = 10 * time.Second

// revive opens closed entries again, even if ctx has ended.
func (m *Manager) revive(ctx context.Context, es []*entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime)
	defer cancel()
	return m.openDown(ctx, es)
}

// Revive opens the forwards that should listen and don't, for example after [Manager.Reopen]; if
// all listen, it does nothing. The error names those that still don't, unless ctx ended first or
// m is closed.
func (m *Manager) Revive(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	es := slices.DeleteFunc(m.sorted(), func(e *entry) bool { return e.l != nil })
	if len(es) == 0 {
		return nil
	}
	err := m.openDown(ctx, es)
	m.commit(es, nil)
	return err
}

// openDown opens those of es that don't listen, as many as it can.
func (m *Manager) openDown(ctx context.Context, es []*entry) error {
	var down []Status
	var why []error
	for _, e := range es {
		if e.l == nil {
			if err := m.openEntry(ctx, e); err != nil {
				down, why = append(down, e.status()), append(why, err)
			}
		}
	}
	return downError(down, why)
}

func (m *Manager) openEntry(ctx context.Context, e *entry) error {
	l, err := m.open(ctx, e.f)
	if err != nil {
		e.failed = err.Error()
		return err
	}
	e.l, e.failed = l, ""
	return nil
}

// open opens a forward and closes it again if ctx has ended meanwhile, because its caller has given up.
func (m *Manager) open(ctx context.Context, f Forward) (Listener, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := m.h.Open(ctx, f)
	if err != nil {
		return nil, Explain(f, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func byID(set map[*entry]bool) []*entry {
	return slices.SortedFunc(maps.Keys(set), func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
}

func joinErr(err, further error) error {
	if further == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, further)
}
