package hostfwd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Config configures a [Manager].
type Config struct {
	// Guest is the destination of forwards without a guest address.
	Guest netip.Addr
	// ID, if not nil, returns the id of a new forward that listens; otherwise they are counted from 1.
	ID func(Listener) int
	// OnChange, if not nil, is called after each change of what List returns, from the
	// goroutine that made it and before its method returns. It must not change the Manager.
	OnChange func()
}

// Manager keeps track of a [Handler]'s forwards, their host ports and ids. Its methods may be
// called concurrently; changes are made one at a time, and List never shows a partial one. Ids
// are not reused.
type Manager struct {
	h   Handler
	cfg Config
	// hostTaken reports, by a quick check, whether a host port of a range is taken.
	hostTaken func(Forward) bool

	// changing holds a token while a change is made. The next fields are guarded by the token.
	changing chan struct{}
	lastID   int
	closed   bool
	byID     map[int]*entry
	taken    hostPorts

	// The state that can be read at any time, also during a change.
	mu    sync.Mutex
	guest netip.Addr // written with both mu and the token; either suffices to read it
	shown map[int]Status
}

// NewManager returns a Manager without forwards. Close it to close h.
func NewManager(h Handler, cfg Config) *Manager {
	return &Manager{
		h: h, cfg: cfg, hostTaken: portTaken, changing: make(chan struct{}, 1),
		byID: map[int]*entry{}, taken: hostPorts{},
		guest: cfg.Guest.Unmap(), shown: map[int]Status{},
	}
}

// Guest returns the destination of forwards without a guest address.
func (m *Manager) Guest() netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest
}

// List returns all forwards by id, including those that have failed.
func (m *Manager) List() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.AppendSeq(make([]Status, 0, len(m.shown)), maps.Values(m.shown))
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Add opens all of fs or none, and returns them in the same order. Host port 0 gets a free
// one. Adjacent elements of fs that differ only in the protocol get the same number if one is
// free for all of them; the same holds for a range of host ports. The error is an [*AddError],
// unless ctx ended first or m is closed.
func (m *Manager) Add(ctx context.Context, fs []Forward) ([]Status, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.unlock()
	batch, err := m.plan(fs, len(m.byID))
	if err != nil {
		return nil, err
	}
	if err := m.openBatch(ctx, batch); err != nil {
		return nil, err
	}
	m.enter(batch)
	m.commit(batch, nil)
	return statuses(batch), nil
}

// Adopt adds forwards that listen already, with their ids; ls[i] closes list[i]. The Manager must
// have no forwards of its own. Since their host ports may have been picked, [Manager.Set] matches
// them with port 0 as well.
func (m *Manager) Adopt(list []Status, ls []Listener) {
	m.changing <- struct{}{}
	defer m.unlock()
	es := make([]*entry, len(list))
	for i, s := range list {
		es[i] = &entry{id: s.ID, asked: s.Forward, f: s.Forward, l: ls[i]}
		es[i].asked.HostPort = 0
		m.byID[s.ID] = es[i]
		_ = m.taken.take(es[i]) // they listen already, so ignore conflicts
	}
	m.commit(es, nil)
}

// Remove closes the forwards with these ids. If one of them does not exist, none is closed
// and the error is a [*NotFoundError]. A forward that fails to close is kept.
func (m *Manager) Remove(ctx context.Context, ids []int) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	for _, id := range ids {
		if m.byID[id] == nil {
			return &NotFoundError{id}
		}
	}
	es := make([]*entry, 0, len(ids))
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		es = append(es, m.byID[id])
	}
	gone, err := m.drop(es)
	m.commit(nil, gone)
	return err
}

// Close closes every forward and the handler. It waits for a change in progress.
func (m *Manager) Close() error {
	m.changing <- struct{}{}
	defer m.unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	err := m.h.Close()
	gone := m.sorted()
	clear(m.byID)
	clear(m.taken)
	m.commit(nil, gone)
	return err
}

func (m *Manager) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case m.changing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := ctx.Err() // the wait may have been long
	if m.closed {
		err = ErrClosed
	}
	if err != nil {
		m.unlock()
	}
	return err
}

func (m *Manager) unlock() { <-m.changing }

// commit publishes a change: entries that changed, which may be down now, and entries that were removed.
func (m *Manager) commit(changed, gone []*entry) {
	m.mu.Lock()
	for _, e := range gone {
		delete(m.shown, e.id)
	}
	for _, e := range changed {
		m.shown[e.id] = e.status()
	}
	m.mu.Unlock()
	if m.cfg.OnChange != nil && len(changed)+len(gone) > 0 {
		m.cfg.OnChange()
	}
}

// sorted returns all entries by id.
func (m *Manager) sorted() []*entry { return slices.SortedFunc(maps.Values(m.byID), byID) }

func byID(a, b *entry) int { return cmp.Compare(a.id, b.id) }

// drop closes entries and forgets those that closed without error, which it returns.
func (m *Manager) drop(es []*entry) (gone []*entry, err error) {
	var errs []error
	for _, e := range es {
		if err := closeEntry(e); err != nil {
			errs = append(errs, fmt.Errorf("remove forward %d (%s): %w", e.id, e.f, err))
			if errors.Is(err, context.DeadlineExceeded) {
				break // the others would time out too
			}
			continue
		}
		m.taken.free(e)
		delete(m.byID, e.id)
		gone = append(gone, e)
	}
	return gone, errors.Join(errs...)
}

func closeEntry(e *entry) error {
	if e.l == nil {
		return nil
	}
	if err := e.l.Close(); err != nil {
		return err
	}
	e.l = nil
	return nil
}
