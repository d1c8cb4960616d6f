package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/options"
)

// A record is what remains of an instance whose detached COMMAND has ended: BASE/.ended/NAME with state.json, log and output.
// It is kept until [Base.Forget], an instance of that name, or these bounds.
const (
	endedDir = ".ended"
	maxEnded = 10
	endedFor = 24 * time.Hour
)

// Retire is [Instance.Remove] for an instance whose COMMAND has ended with a status: it leaves a record.
func (i *Instance) Retire(ctx context.Context, st State, status int) error {
	return i.finish(ctx, func() error {
		if err := i.record(st, status); err != nil {
			return errors.Join(fmt.Errorf("keep the log: %w", err), i.base.discard(i.name, i.dir))
		}
		i.base.prune()
		return nil
	})
}

// record moves the logs to the record, which appears complete. BASE/.lock must be held.
func (i *Instance) record(st State, status int) error {
	fresh := filepath.Join(i.base.dir, fmt.Sprintf(".new-%s-%d", i.name, os.Getpid()))
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	dir := i.base.endedDir(i.name)
	now := time.Now().Truncate(time.Millisecond)
	st.State, st.ExitStatus, st.EndedAt = Exited, &status, &now
	st.SupervisorPID, st.SlirpPID, st.Ports, st.Processes = 0, 0, []hostfwd.Status{}, []ProcessState{}
	st.StateDir, st.Log, st.APISocket, st.ControlSocket = dir, filepath.Join(dir, LogFile), "", ""
	if err := writeState(fresh, &st); err != nil {
		return err
	}
	for _, log := range []string{LogFile, OutputFile} {
		if err := os.Rename(i.Path(log), filepath.Join(fresh, log)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	// The instance goes first, so that the name never has two states.
	if err := i.base.discard(i.name, i.dir); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(fresh, dir)
}

func (b Base) endedDir(name string) string { return filepath.Join(b.dir, endedDir, name) }

// Ended returns the records, the newest first.
func (b Base) Ended(ctx context.Context) ([]Entry, error) {
	unlock, err := b.lockBase(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return b.prune(), nil
}

// prune removes records that are not to be kept, and returns the others, the newest first. BASE/.lock must be held.
func (b Base) prune() (kept []Entry) {
	des, _ := os.ReadDir(filepath.Join(b.dir, endedDir))
	for _, de := range des {
		e, err := b.findEnded(de.Name())
		if err != nil || time.Since(*e.State.EndedAt) > endedFor {
			os.RemoveAll(b.endedDir(de.Name()))
			continue
		}
		kept = append(kept, e)
	}
	slices.SortStableFunc(kept, func(x, y Entry) int { return y.State.EndedAt.Compare(*x.State.EndedAt) })
	for len(kept) > maxEnded {
		os.RemoveAll(kept[maxEnded].Dir)
		kept = slices.Delete(kept, maxEnded, maxEnded+1)
	}
	return kept
}

// findEnded returns the record of that name. Error: [ErrNotFound].
func (b Base) findEnded(name string) (Entry, error) {
	missing := fmt.Errorf("%q: %w", name, ErrNotFound)
	if options.CheckName(name) != nil {
		return Entry{}, missing
	}
	dir := b.endedDir(name)
	data, err := readSmall(filepath.Join(dir, stateFile))
	if err != nil {
		return Entry{}, missing
	}
	var st State
	if json.Unmarshal(data, &st) != nil || st.Name != name || st.State != Exited || st.ExitStatus == nil || st.EndedAt == nil {
		return Entry{}, missing
	}
	return Entry{Name: name, Dir: dir, State: &st}, nil
}

// FindAny returns the running instance of that name or, without one, its record. Error: [ErrNotFound].
func (b Base) FindAny(ctx context.Context, name string) (Entry, error) {
	e, err := b.Find(ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return e, err
	}
	return b.findEnded(name)
}

// Forget removes the record of that name, and reports whether there was one.
func (b Base) Forget(ctx context.Context, name string) (found bool, err error) {
	if _, err := b.findEnded(name); err != nil {
		return false, nil
	}
	unlock, err := b.lockBase(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	return true, os.RemoveAll(b.endedDir(name))
}

// notFound returns the error for a name without a running instance.
func (b Base) notFound(name string) error {
	e, err := b.findEnded(name)
	if err != nil {
		return err
	}
	return &fault.Error{
		Msg:  fmt.Sprintf("%q: no such instance: its command has ended with status %d", name, *e.State.ExitStatus),
		Help: "slirpctl logs " + name + " shows its output", Err: ErrNotFound,
	}
}

// Wait waits until the instance of that name has ended, and returns its status: that of COMMAND, 0 without one. It
// returns that of a record at once. Error: [ErrNotFound]; another if the supervisor was killed.
func (b Base) Wait(ctx context.Context, name string) (status int, err error) {
	e, err := b.FindAny(ctx, name)
	if err != nil {
		return 0, err
	}
	if e.State != nil && e.State.State == Exited {
		return *e.State.ExitStatus, nil
	}
	// The file remains readable when the directory is removed.
	lock, err := os.OpenFile(filepath.Join(e.Dir, lockFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return b.Wait(ctx, name) // it has ended meanwhile
	}
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	ended, stop := e.watchEnd()
	defer stop()
	select {
	case <-ended:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for { // a killed process may hold it for a moment
		held, err := testLock(lock)
		if err != nil {
			return 0, fmt.Errorf("%q: %w", name, err)
		}
		if !held {
			break
		}
		select {
		case <-time.After(endInterval):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	status, ok := readEnd(lock)
	if !ok {
		return 0, fmt.Errorf("%q: it did not start, or its supervisor was killed", name)
	}
	return status, nil
}
