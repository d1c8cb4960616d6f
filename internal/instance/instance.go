package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// Errors that callers act on.
var (
	// ErrNotFound means that no instance of that name is running.
	ErrNotFound = fault.New(fault.NotFound, "no such instance", "slirpctl list shows what runs")
	// ErrInUse means that an instance of that name is already running.
	ErrInUse = fault.New(fault.Conflict, "an instance of this name is already running", "choose another --name, or end it with slirpctl down")
)

// Files in an instance's directory.
const (
	LogFile       = "log"
	OutputFile    = "output" // what a detached COMMAND prints
	EgressLogFile = "egress.log"
	ControlSocket = "control.sock"
	APISocket     = "api.sock"
	ResolvConf    = "resolv.conf" // COMMAND's
	// RootlessKitDir has the sockets between the two parts of RootlessKit's driver. The part in the namespace
	// can see no other files of the host.
	RootlessKitDir = "rootlesskit"
	lockFile       = "lock"
	stateFile      = "state.json"
)

const longestFile = ControlSocket

// Instance is an instance whose lock this process holds.
type Instance struct {
	base Base
	name string
	lock *os.File
	dir  *os.File // locked with flock(2), so that systemd-tmpfiles does not remove it
}

// MaxSocketPath is the maximum length of a UNIX socket's path in bytes: sun_path of unix(7), less the final zero byte.
const MaxSocketPath = 107

// LongestName returns the maximum length in bytes of an instance's name, so that the paths of its sockets below base,
// an absolute path, fit into a socket address. It is at most [options.MaxName], and below 1 if no name fits.
func LongestName(base string) int {
	return min(options.MaxName, MaxSocketPath-len(base)-len("/")-len("/")-len(longestFile))
}

// CheckPath checks that the socket paths of an instance of that name below base are short enough.
// The error is of the kind [fault.Usage].
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

// Create makes the directory of a new instance and takes its lock. It first removes what a dead
// instance of that name left. Errors: [ErrInUse], and [fault.Usage] for a path that is too long.
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
	b.prune()
	if err := os.RemoveAll(b.endedDir(name)); err != nil {
		return nil, writeError(err)
	}
	// Created under another name and renamed with its lock held, so that the directory always has a held lock.
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

// CreateDefault is Create with a name made from a PID. If an instance started in another PID namespace has
// the name, where the PID is another process's, it appends a number to the name.
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

// A supervisor that was just killed still holds its lock for a moment. Create waits until lockGrace after it was
// last seen dying; on a loaded system it may be dying for up to maxDying.
const (
	lockGrace = 250 * time.Millisecond
	maxDying  = 10 * time.Second
)

// lockFree takes BASE/.lock and makes sure that the name is free.
func (b Base) lockFree(ctx context.Context, name string) (unlock func(), err error) {
	started := time.Now()
	deadline := started.Add(lockGrace)
	for {
		if unlock, err = b.lockBase(ctx); err != nil {
			return nil, err
		}
		if err = b.sweep(name); err == nil {
			return unlock, nil
		}
		unlock()
		holder := readHolder(filepath.Join(b.dir, name))
		if now := time.Now(); now.Before(started.Add(maxDying)) && holder.dying() {
			deadline = now.Add(lockGrace)
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

// sweep removes what a dead instance of that name left. BASE/.lock must be held.
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
		return fault.Errorf(0, "choose another --name or --state-dir, or remove it", "%q exists, and is not an instance's directory", dir)
	}
	return b.discard(name, nil)
}

// knownFiles are the names of all files in an instance's directory, whoever creates them.
var knownFiles = map[string]bool{
	LogFile: true, OutputFile: true, EgressLogFile: true, ControlSocket: true, APISocket: true, ResolvConf: true, lockFile: true,
	stateFile: true, stateFile + ".tmp": true,
	RootlessKitDir: true,
}

// ours reports whether dir was made by Create. No other directory is ever removed: --state-dir may name a
// directory with other contents. If the lock file is unreadable, it judges by the other files.
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

// discard renames an instance's directory, so that it disappears atomically, then removes it. BASE/.lock must be held.
// Through dir, if that is open, it is emptied first, which takes no descriptor: os.RemoveAll takes two.
func (b Base) discard(name string, dir *os.File) error {
	gone := filepath.Join(b.dir, fmt.Sprintf(".gone-%s-%d", name, os.Getpid()))
	if err := os.Rename(filepath.Join(b.dir, name), gone); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("remove instance directory: %w", err)
	}
	if dir != nil {
		files, _ := dir.Readdirnames(-1)
		for _, file := range files {
			_ = unix.Unlinkat(int(dir.Fd()), file, 0)
		}
	}
	return os.RemoveAll(gone)
}

// alive reports whether a supervisor holds the lock in dir. If that can't be determined it returns an error,
// not false: a running instance must not be removed because this process is out of descriptors.
func alive(dir string) (bool, error) {
	held, err := locked(filepath.Join(dir, lockFile))
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EISDIR):
		return false, nil // not a lock that a supervisor made
	case err != nil:
		return false, fmt.Errorf("test the instance's lock: %w", err)
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

// Remove removes the instance's directory and releases the lock.
func (i *Instance) Remove(ctx context.Context) error {
	return i.finish(ctx, func() error { return i.base.discard(i.name, i.dir) })
}

// finish calls remove with BASE/.lock held, if the instance's directory is still there, and releases the lock.
func (i *Instance) finish(ctx context.Context, remove func() error) error {
	defer i.close()
	unlock, err := i.base.lockBase(ctx)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the base directory was removed
	}
	if err != nil {
		return err
	}
	defer unlock()
	if !i.owns() {
		return nil // somebody removed it; another supervisor may have created a new one
	}
	return remove()
}

// owns reports whether the directory at the instance's path is still this instance's.
func (i *Instance) owns() bool {
	ours, err := i.lock.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(i.Path(lockFile))
	if err != nil {
		// Only the lock is gone. Still ours: another owner would have created a lock.
		_, derr := os.Lstat(i.Dir())
		return derr == nil
	}
	return os.SameFile(ours, there)
}

// Entry is an instance as another process finds it.
type Entry struct {
	Name string
	Dir  string
	// State is nil while the instance is starting, or if its state file is unreadable.
	State *State
	// Holder is the supervisor named in the lock file; its PID is 0 if the file is unreadable.
	Holder ProcessState
}

// Find returns the running instance of that name; the first [ShortID] digits of a container's id are enough.
// Error: [ErrNotFound].
func (b Base) Find(ctx context.Context, name string) (Entry, error) {
	name = b.fullName(name)
	dir, err := b.running(ctx, name)
	if err != nil {
		return Entry{}, err
	}
	st, _ := readState(dir, name)
	return Entry{Name: name, Dir: dir, State: st, Holder: readHolder(dir)}, nil
}

// Control returns the path of a running instance's control socket. Unlike [Base.Find] it does not read
// the state, which is slow with thousands of forwards.
func (b Base) Control(ctx context.Context, name string) (socket string, err error) {
	dir, err := b.running(ctx, b.fullName(name))
	return filepath.Join(dir, ControlSocket), err
}

// running returns the directory of an instance whose supervisor is alive, and removes that of a dead
// one.
func (b Base) running(ctx context.Context, name string) (dir string, err error) {
	if options.CheckName(name) != nil {
		return "", fmt.Errorf("%q: %w", name, ErrNotFound)
	}
	dir = filepath.Join(b.dir, name)
	if _, err := os.Lstat(dir); err != nil {
		return "", b.notFound(name)
	}
	held, err := alive(dir)
	if err != nil {
		return "", fmt.Errorf("%q: %w", name, err)
	}
	if !held {
		b.clean(ctx, name)
		return "", b.notFound(name)
	}
	return dir, nil
}

// List returns the running instances in the natural order of their names, and removes dead ones and records that are too old.
func (b Base) List(ctx context.Context) ([]Entry, error) {
	if kept, _ := os.ReadDir(filepath.Join(b.dir, endedDir)); len(kept) > 0 {
		if _, err := b.Ended(ctx); err != nil {
			return nil, err
		}
	}
	des, err := os.ReadDir(b.dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(des, func(x, y os.DirEntry) int { return CompareNames(x.Name(), y.Name()) })
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

// clean removes a dead instance, unless the name has been taken again.
func (b Base) clean(ctx context.Context, name string) {
	unlock, err := b.lockBase(ctx)
	if err != nil {
		return
	}
	defer unlock()
	_ = b.sweep(name) // an error means that another up has taken the name
}

// Socket returns the path of the instance's control socket.
func (e Entry) Socket() string { return filepath.Join(e.Dir, ControlSocket) }

// Alive reports whether the instance's supervisor is alive; true also if that can't be determined.
func (e Entry) Alive() bool {
	held, err := alive(e.Dir)
	return held || err != nil
}

// Starting reports whether the instance has no state file yet.
func (e Entry) Starting() bool {
	_, err := os.Lstat(filepath.Join(e.Dir, stateFile))
	return e.State == nil && errors.Is(err, os.ErrNotExist)
}
