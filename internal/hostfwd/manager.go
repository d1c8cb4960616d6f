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
	"syscall"
)

// Config is what a [Manager] has to know about the network.
type Config struct {
	// Guest is the address that forwards without one go to.
	Guest netip.Addr
	// Network, if valid, is where every guest address of its family must be; addresses on
	// the namespace's own loopback are left to the handler's Check. Leave it invalid where
	// the handler reaches other networks of the namespace too.
	Network netip.Prefix
	// OnChange, if not nil, is called after each change of what List returns, from the
	// goroutine that made it and before its method returns. It must not change the Manager.
	OnChange func()
}

// Manager keeps the books over a [Handler]: who has which host port, under which id. Its
// methods may be called at once; changes are made one after the other, and List shows only
// whole ones. Ids start at 1 and are not used twice.
type Manager struct {
	h   Handler
	cfg Config

	// changing holds a token while a change is made. The next fields need the token.
	changing chan struct{}
	lastID   int
	closed   bool
	byID     map[int]*entry
	taken    books

	// What can be seen at any time, also while a change is made.
	mu    sync.Mutex
	guest netip.Addr // written with the token too, which is enough to read it
	shown map[int]Status
}

// NewManager returns a Manager without forwards. Close it to close h.
func NewManager(h Handler, cfg Config) *Manager {
	return &Manager{
		h: h, cfg: cfg, changing: make(chan struct{}, 1),
		byID: map[int]*entry{}, taken: books{},
		guest: cfg.Guest.Unmap(), shown: map[int]Status{},
	}
}

// Guest returns the address that forwards without one go to.
func (m *Manager) Guest() netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest
}

// List returns the forwards that listen, by id.
func (m *Manager) List() []Status {
	m.mu.Lock()
	list := make([]Status, 0, len(m.shown))
	for _, s := range m.shown {
		list = append(list, s)
	}
	m.mu.Unlock()
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Add opens all of fs or none, and returns them in the same order. Host port 0 gets a free
// one; neighbours in fs that differ in nothing but the protocol get the same number where
// one is free for all. The error is an [*AddError], unless ctx ended first or m is closed.
func (m *Manager) Add(ctx context.Context, fs []Forward) ([]Status, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.unlock()
	jobs, err := m.plan(fs)
	if err != nil {
		return nil, err
	}
	if err := m.reserve(jobs); err != nil {
		return nil, err
	}
	if err := m.openAll(ctx, jobs); err != nil {
		return nil, err
	}
	m.commit(m.enter(jobs), nil)
	return statuses(jobs), nil
}

// Adopt enters forwards that listen already, with the ids they have; ls[i] closes list[i].
// It is for a Manager without forwards of its own. Their host ports may have been picked, for
// all it knows, so [Manager.Set] matches them with port 0 as well.
func (m *Manager) Adopt(list []Status, ls []Listener) {
	m.changing <- struct{}{}
	defer m.unlock()
	es := make([]*entry, len(list))
	for i, s := range list {
		es[i] = &entry{id: s.ID, f: s.Forward, auto: true, defGuest: s.GuestIP == m.guest, l: ls[i]}
		m.byID[s.ID] = es[i]
		m.lastID = max(m.lastID, s.ID)
		_ = m.taken.take(es[i]) // they listen, so a conflict is none
	}
	m.commit(es, nil)
}

// Remove closes the forwards with these ids. If one of them does not exist, none is closed
// and the error is a [*NotFoundError]. One whose closing fails stays.
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

// Close closes every forward and the handler. It waits for a change that is being made.
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
	if m.closed {
		m.unlock()
		return ErrClosed
	}
	return nil
}

func (m *Manager) unlock() { <-m.changing }

// commit shows a change: entries that changed, which may be down now, and those that are gone.
func (m *Manager) commit(changed, gone []*entry) {
	m.mu.Lock()
	for _, e := range gone {
		delete(m.shown, e.id)
	}
	for _, e := range changed {
		if e.l == nil {
			delete(m.shown, e.id)
		} else {
			m.shown[e.id] = e.status()
		}
	}
	m.mu.Unlock()
	if m.cfg.OnChange != nil && len(changed)+len(gone) > 0 {
		m.cfg.OnChange()
	}
}

// sorted returns all entries by id.
func (m *Manager) sorted() []*entry {
	return slices.SortedFunc(maps.Values(m.byID), func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
}

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
		return err
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

// drop closes entries and forgets those whose closing succeeds, which it returns.
func (m *Manager) drop(es []*entry) (gone []*entry, err error) {
	var errs []error
	for _, e := range es {
		if err := closeEntry(e); err != nil {
			errs = append(errs, fmt.Errorf("remove forward %d (%s): %w", e.id, e.f, err))
			if errors.Is(err, context.DeadlineExceeded) {
				break // the others would take as long
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
