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

// Set makes the forwards exactly fs and returns them in that order. A forward that stays is
// not touched and keeps its id: one that is the same, or the same but for a host port that is
// in the range asked for, or 0 then and now. New ones are opened before old ones are closed,
// except where the two want the same host port. If a new one can't be had, the error is an
// [*AddError] and the forwards are what they were; the error names one that could
// not be put back.
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

	// Colliding jobs have to wait until old ones have left their ports. A job that revives a
	// forward that is down has its port already.
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

// match finds the forwards that stay: it makes them the entries of their jobs. The others
// are old, by id.
func (m *Manager) match(jobs []*job) (stay map[*job]bool, old []*entry) {
	same := map[Forward]*entry{}
	alike := map[Forward][]*entry{} // but for the host port, which is 0 here
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

// satisfiedBy reports whether e, which is like j but for the host port, has one that j may pick.
func (j *job) satisfiedBy(e *entry) bool {
	if j.asked.HostPort == 0 {
		return e.auto
	}
	return j.asked.HostPort <= e.f.HostPort && e.f.HostPort <= j.asked.HostPortEnd
}

// checkConflicts refuses jobs that want the same host port.
func checkConflicts(jobs []*job) error {
	b := books{}
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

// rivals returns the entries that have j's host port; for a range, the old ones that have one of it.
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

// swap closes old and opens jobs in their place. If that fails, old listen again.
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
		_ = m.taken.take(e) // it had the port before, and nobody has it now
	}
	return joinErr(err, m.revive(ctx, old))
}

// Reload closes and opens every forward again, with the same ids and host ports. Those
// without a guest address of their own go to guest from now on, and so do later ones; an
// invalid guest means no change. If one can't be had, the error is an [*AddError] (Index
// counts by id) and all are what they were; the error names one that could
// not be put back.
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
					break // the others would take as long
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

// Reopen opens every forward again, with the same ids and host ports, after whatever made
// them listen has been lost, say because slirp4netns was started again. It does as many as
// it can; the others are down, and the error names them. Calling it again tries all again.
func (m *Manager) Reopen(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	es := m.sorted()
	for _, e := range es {
		_ = closeEntry(e) // what it closes is gone already
		e.l = nil
	}
	err := m.openDown(ctx, es)
	m.commit(es, nil)
	return err
}

// Down returns the forwards that ought to listen and don't, by id. It waits for a change
// that is being made.
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

// restoreTime bounds how long putting back takes after the caller's context has ended.
const restoreTime = 10 * time.Second

// revive opens closed entries again, even if ctx has ended.
func (m *Manager) revive(ctx context.Context, es []*entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTime)
	defer cancel()
	return m.openDown(ctx, es)
}

// Revive opens the forwards that ought to listen and don't, for example
// after [Manager.Reopen]; without any it does nothing. The error names those that still don't, unless ctx ended first or m is closed.
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

// open opens a forward unless ctx has ended, before or meanwhile: then nobody would know of it.
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
