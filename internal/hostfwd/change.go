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
	batch, err := m.plan(fs, 0)
	if err != nil {
		return nil, err
	}
	old := m.match(batch)
	wanted := hostPorts{}
	for i, e := range batch {
		if e.f.HostPort == 0 {
			continue
		}
		if err := wanted.take(e); err != nil {
			return nil, &AddError{i, fs[i], err}
		}
	}

	// New forwards that collide must wait until old ones have released their ports.
	var fresh, colliding []*entry
	replaced := map[*entry]bool{}
	for _, e := range batch {
		if e.id != 0 {
			continue
		}
		rivals := m.rivals(e, old)
		for _, r := range rivals {
			replaced[r] = true
		}
		if len(rivals) > 0 {
			colliding = append(colliding, e)
		} else {
			fresh = append(fresh, e)
		}
	}
	opened := fresh
	if err := m.openBatch(ctx, fresh); err != nil {
		return nil, err
	}
	for i, e := range batch {
		if e.id == 0 || e.l != nil {
			continue
		}
		if err := m.open(ctx, e); err != nil {
			return nil, m.takeBack(opened, &AddError{i, fs[i], err})
		}
		opened = append(opened, e)
	}
	leaving := slices.SortedFunc(maps.Keys(replaced), byID)
	if err := m.swap(ctx, leaving, colliding); err != nil {
		err = m.takeBack(opened, err)
		m.commit(leaving, nil) // some may be down
		return nil, err
	}
	for i, e := range batch {
		e.asked = fs[i]
	}
	for _, e := range leaving {
		delete(m.byID, e.id)
		delete(old, e)
	}
	changed := slices.Concat(opened, colliding)
	m.enter(changed)
	gone, err := m.drop(slices.SortedFunc(maps.Keys(old), byID))
	m.commit(changed, slices.Concat(leaving, gone))
	return statuses(batch), err
}

// match replaces the elements of batch for which there is a forward by that one, and returns the other forwards.
func (m *Manager) match(batch []*entry) (old map[*entry]bool) {
	old = map[*entry]bool{}
	same := map[Forward]*entry{}
	alike := map[Forward][]*entry{} // ignoring the host port, which is 0 here
	for _, e := range slices.SortedFunc(maps.Values(m.byID), func(a, b *entry) int { return cmp.Compare(a.f.HostPort, b.f.HostPort) }) {
		old[e] = true
		same[e.f] = e
		k := e.f
		k.HostPort = 0
		alike[k] = append(alike[k], e)
	}
	for i, e := range batch {
		if s := same[e.f]; old[s] {
			batch[i] = s
			delete(old, s)
		}
	}
	for i, e := range batch {
		if e.id != 0 || !e.picks() {
			continue
		}
		if n := slices.IndexFunc(alike[e.f], func(a *entry) bool { return old[a] && e.satisfiedBy(a) }); n >= 0 {
			batch[i] = alike[e.f][n]
			delete(old, batch[i])
		}
	}
	return old
}

// satisfiedBy reports whether other, which equals e except for the host port, has a port that e may pick.
func (e *entry) satisfiedBy(other *entry) bool {
	if e.asked.HostPort == 0 {
		return other.asked.HostPort == 0
	}
	return e.asked.HostPort <= other.f.HostPort && other.f.HostPort <= e.asked.HostPortEnd
}

// rivals returns the old entries that have e's host port or, for a range, a port of it.
func (m *Manager) rivals(e *entry, old map[*entry]bool) (rivals []*entry) {
	f := e.f
	for port := int(e.asked.HostPort); port <= int(max(e.asked.HostPort, e.asked.HostPortEnd)); port++ {
		f.HostPort = uint16(port)
		for r := range m.taken.rivals(f) {
			if old[r] {
				rivals = append(rivals, r)
			}
		}
	}
	return rivals
}

// swap closes old and opens batch instead. If that fails, it reopens old.
func (m *Manager) swap(ctx context.Context, old, batch []*entry) error {
	for i, e := range old {
		if err := closeEntry(e); err != nil {
			err = fmt.Errorf("close forward %d (%s): %w", e.id, e.f, err)
			return joinErr(err, m.revive(ctx, old[:i]))
		}
	}
	for _, e := range old {
		m.taken.free(e)
	}
	err := m.openBatch(ctx, batch)
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
		if !e.asked.GuestIP.IsValid() {
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
			err = m.open(ctx, e)
		}
		if err == nil {
			continue
		}
		err = m.takeBack(es[:i], &AddError{i, after[i], err})
		for k, done := range es[:i+1] {
			if done.l == nil {
				done.f = before[k]
			}
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
			if err := m.open(ctx, e); err != nil {
				down, why = append(down, e.status()), append(why, err)
			}
		}
	}
	return downError(down, why)
}

// open opens e and closes it again if ctx has ended meanwhile, because its caller has given up.
func (m *Manager) open(ctx context.Context, e *entry) (err error) {
	defer func() {
		e.failed = ""
		if err != nil {
			e.failed = err.Error()
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	l, err := m.h.Open(ctx, e.f)
	if err != nil {
		return Explain(e.f, err)
	}
	if err := ctx.Err(); err != nil {
		return errors.Join(err, l.Close())
	}
	e.l = l
	return nil
}

func joinErr(err, further error) error {
	if further == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, further)
}
