package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// Errors that callers act on.
var (
	// ErrNotFound: no instance of that name runs.
	ErrNotFound = fault.New(fault.NotFound, "no such instance", "slirpctl list shows what runs")
	// ErrInUse: an instance of that name runs already.
	ErrInUse = fault.New(fault.Conflict, "an instance of this name is already running", "choose another --name, or end it with slirpctl down")
)

// Files of an instance, below its directory.
const (
	LogFile       = "log"
	ControlSocket = "control.sock"
	APISocket     = "api.sock"
	ResolvConf    = "resolv.conf" // COMMAND's
	// RootlessKitDir is where the halves of RootlessKit's driver meet: all that the one inside the namespace
	// has of this host's files.
	RootlessKitDir = "rootlesskit"
	lockFile       = "lock"
	stateFile      = "state.json"
)

const longestFile = ControlSocket

// Instance is one that this process owns: it holds the lock.
type Instance struct {
	base Base
	name string
	lock *os.File
	dir  *os.File // with a lock of its own (flock(2)): systemd-tmpfiles leaves such a directory alone
}

// MaxSocketPath is the length of a UNIX socket's path in bytes: sun_path of unix(7), less its final zero byte.
const MaxSocketPath = 107

// LongestName returns how many bytes an instance's name can have so that the paths of its sockets below base, an
// absolute path, fit into a socket address; at most [options.MaxName], and below 1 if none fits.
func LongestName(base string) int {
	return min(options.MaxName, MaxSocketPath-len(base)-len("/")-len("/")-len(longestFile))
}

// CheckPath says whether the sockets of an instance of that name below base have paths that are
// short enough, before anything is made. The error is of the kind [fault.Usage].
func CheckPath(base, name string) error {
	base, err := filepath.Abs(base)
	if err != nil {
		return err
	}
	if p := filepath.Join(base, name, longestFile); len(p) > MaxSocketPath {
		return fault.Errorf(fault.Usage, "name a shorter directory with --state-dir, or a shorter --name",
			"socket path %s is %d bytes long; the kernel takes %d", p, len(p), MaxSocketPath)
	}
	return nil
}

// Create makes the directory of a new instance and takes its lock, after removing what a dead
// one left there. Errors: [ErrInUse], and [fault.Usage] for a path that is too long.
func (b Base) Create(ctx context.Context, name string) (*Instance, error) {
	if err := options.CheckName(name); err != nil {
		return nil, fmt.Errorf("instance name %q: %w", name, err)
	}
	dir := filepath.Join(b.dir, name)
	if err := CheckPath(b.dir, name); err != nil {
		return nil, err
	}
	unlock, err := b.lockFree(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// Made aside and moved into place with its lock held: what has the name has a lock.
	fresh := filepath.Join(b.dir, fmt.Sprintf(".new-%s-%d", name, os.Getpid()))
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return nil, writeError(err)
	}
	i := &Instance{base: b, name: name}
	if i.lock, err = newLock(filepath.Join(fresh, lockFile)); err == nil {
		i.dir, err = lockDir(fresh)
	}
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		i.close()
		os.RemoveAll(fresh)
		return nil, writeError(err)
	}
	return i, nil
}

// CreateDefault is Create with a name that nobody has chosen: where an instance of another PID namespace
// has it, whose numbers mean others, it takes the next one.
func (b Base) CreateDefault(ctx context.Context, name string) (*Instance, error) {
	for n := 1; ; n++ {
		try := name
		if n > 1 {
			try = fmt.Sprintf("%s-%d", name, n)
		}
		inst, err := b.Create(ctx, try)
		if !errors.Is(err, ErrInUse) || !readHolder(filepath.Join(b.dir, try)).Elsewhere() {
			return inst, err
		}
	}
}

// A supervisor that was just killed lets go of its lock a moment later: letGo after the last sign that
// it is dying, of which a busy machine may show some for as long as dieWithin.
const (
	letGo     = 250 * time.Millisecond
	dieWithin = 10 * time.Second
)

// lockFree takes BASE/.lock with the name free below it.
func (b Base) lockFree(ctx context.Context, name string) (unlock func(), err error) {
	started := time.Now()
	deadline := started.Add(letGo)
	for {
		if unlock, err = b.lockBase(ctx); err != nil {
			return nil, err
		}
		if err = b.sweep(name); err == nil {
			return unlock, nil
		}
		unlock()
		holder := readHolder(filepath.Join(b.dir, name))
		if now := time.Now(); now.Before(started.Add(dieWithin)) && holder.dying() {
			deadline = now.Add(letGo)
		}
		if !errors.Is(err, ErrInUse) || time.Now().After(deadline) {
			if why := holder.stuck(); why != "" {
				err = fmt.Errorf("%w: %s", err, why)
			}
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// sweep removes the leavings of a dead instance of that name. BASE/.lock must be held.
func (b Base) sweep(name string) error {
	for _, pattern := range []string{".gone-*", ".new-*"} {
		left, _ := filepath.Glob(filepath.Join(b.dir, pattern))
		for _, dir := range left {
			os.RemoveAll(dir)
		}
	}
	dir := filepath.Join(b.dir, name)
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	held, err := alive(dir)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if held {
		return fmt.Errorf("%q: %w", name, ErrInUse)
	}
	if !ours(dir) {
		return fault.Errorf(0, "choose another --name or --state-dir, or remove it", "%q is there, and is not an instance's directory", dir)
	}
	return b.discard(name)
}

// knownFiles are all that an instance's directory holds, by anybody's hand.
var knownFiles = map[string]bool{
	LogFile: true, ControlSocket: true, APISocket: true, ResolvConf: true, lockFile: true,
	stateFile: true, stateFile + ".tmp": true,
	RootlessKitDir: true,
}

// ours reports whether dir was made by Create. Only that is ever removed: --state-dir may name a
// directory that holds quite other things. A spoilt lock is made up for by all the rest.
func ours(dir string) bool {
	fi, err := os.Lstat(filepath.Join(dir, lockFile))
	if err != nil || !fi.Mode().IsRegular() {
		return false
	}
	if readHolder(dir).PID > 0 {
		return true
	}
	des, err := os.ReadDir(dir)
	for _, de := range des {
		if !knownFiles[de.Name()] && !strings.HasPrefix(de.Name(), atomicfile.TempPrefix(stateFile)) {
			return false
		}
	}
	return err == nil
}

// discard moves an instance out of sight in one step, then removes it. BASE/.lock must be held.
func (b Base) discard(name string) error {
	gone := filepath.Join(b.dir, fmt.Sprintf(".gone-%s-%d", name, os.Getpid()))
	if err := os.Rename(filepath.Join(b.dir, name), gone); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("remove instance directory: %w", err)
	}
	return os.RemoveAll(gone)
}

// alive reports whether a supervisor holds the lock below dir. What can't be told is an error,
// never "dead": the living must not be swept away because this process ran out of descriptors.
func alive(dir string) (bool, error) {
	held, err := locked(filepath.Join(dir, lockFile))
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR):
		return false, nil // not a lock that a supervisor made
	case err != nil:
		return false, fmt.Errorf("ask for the instance's lock: %w", err)
	}
	return held, nil
}

// Name returns the instance's name.
func (i *Instance) Name() string { return i.name }

// Dir returns the instance's directory.
func (i *Instance) Dir() string { return filepath.Join(i.base.dir, i.name) }

// Path returns the path of a file of the instance.
func (i *Instance) Path(file string) string { return filepath.Join(i.Dir(), file) }

// WriteState replaces the state file in one step.
func (i *Instance) WriteState(st *State) error { return writeState(i.Dir(), st) }

func (i *Instance) close() {
	i.lock.Close()
	i.dir.Close()
}

// Remove removes everything of the instance and gives the lock back.
func (i *Instance) Remove(ctx context.Context) error {
	defer i.close()
	unlock, err := i.base.lockBase(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the base directory was removed, with all below it
	}
	if err != nil {
		return err
	}
	defer unlock()
	if !i.owns() {
		return nil // removed by somebody, and perhaps made anew by another supervisor
	}
	return i.base.discard(i.name)
}

// owns reports whether the directory at the instance's path is still this one's.
func (i *Instance) owns() bool {
	ours, err := i.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(i.Path(lockFile))
	if err != nil {
		// The lock alone is gone: then the directory is nobody else's, who would have made one.
		_, derr := os.Lstat(i.Dir())
		return derr == nil
	}
	return os.SameFile(ours, there)
}

// Entry is an instance as another process sees it.
type Entry struct {
	Name string
	Dir  string
	// State is nil while the instance starts, or if its state file is unreadable.
	State *State
	// Holder is the supervisor, as its lock file names it; PID 0 if that is unreadable.
	Holder ProcessState
}

// Find returns the running instance of that name. Error: [ErrNotFound].
func (b Base) Find(ctx context.Context, name string) (Entry, error) {
	dir, err := b.running(ctx, name)
	if err != nil {
		return Entry{}, err
	}
	st, _ := readState(dir, name)
	return Entry{Name: name, Dir: dir, State: st, Holder: readHolder(dir)}, nil
}

// Control returns the path of a running instance's control socket. It is [Base.Find] without the
// state, whose reading takes longer than all the rest where there are thousands of forwards.
func (b Base) Control(ctx context.Context, name string) (socket string, err error) {
	dir, err := b.running(ctx, name)
	return filepath.Join(dir, ControlSocket), err
}

// running returns the directory of an instance whose supervisor lives, and cleans up after a
// dead one.
func (b Base) running(ctx context.Context, name string) (dir string, err error) {
	if options.CheckName(name) != nil {
		return "", fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	dir = filepath.Join(b.dir, name)
	if _, err := os.Lstat(dir); err != nil {
		return "", fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	held, err := alive(dir)
	if err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	if !held {
		b.clean(ctx, name)
		return "", fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	return dir, nil
}

// List returns the running instances by name, and cleans up after dead ones on the way.
func (b Base) List(ctx context.Context) ([]Entry, error) {
	des, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, de := range des {
		if strings.HasPrefix(de.Name(), ".") {
			continue
		}
		e, err := b.Find(ctx, de.Name())
		switch {
		case err == nil:
			out = append(out, e)
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return out, nil
}

// clean removes a dead instance, unless it came to life again meanwhile.
func (b Base) clean(ctx context.Context, name string) {
	unlock, err := b.lockBase(ctx)
	if err != nil {
		return
	}
	defer unlock()
	_ = b.sweep(name) // still alive: another up took the name over
}

// Socket returns the path of the instance's control socket.
func (e Entry) Socket() string { return filepath.Join(e.Dir, ControlSocket) }

// Alive reports whether its supervisor still lives.
func (e Entry) Alive() bool {
	held, err := alive(e.Dir)
	return held || err != nil
}

// Starting reports whether the instance has no state file yet.
func (e Entry) Starting() bool {
	_, err := os.Lstat(filepath.Join(e.Dir, stateFile))
	return e.State == nil && errors.Is(err, os.ErrNotExist)
}
