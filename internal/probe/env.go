package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/privileges"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Env is the host as seen by the checks. [NewEnv] returns the real one; tests replace fields.
type Env struct {
	FS       fs.FS // the host's files, names without the leading slash
	UID, GID int   // effective
	User     string
	StateDir string         // the parent of the instances' directories; absolute
	CIDR     subnet.Network // the IPv4 network to be used inside
	// Options are what `up` would use, and Required the checks that must pass: findings about anything else are no
	// problem. Without Options, everything is used.
	Options  *options.Options
	Required []string

	// Slirp4netns is the installed binary, or nil if none is usable.
	Slirp4netns *launcher.Binary

	LookPath    func(name string) (string, error)
	Output      func(ctx context.Context, path string, args ...string) (string, error) // both streams
	HasCap      func(capability int) bool                                              // effective, in our user namespace
	Addresses   func() ([]Route, error)                                                // the host's own, as networks of a single address
	PingSocket  func() error                                                           // makes and closes one
	TrySocket   func(dir string) error                                                 // makes and removes a Unix socket below dir
	TryMaps     func(ctx context.Context, uidArgs, gidArgs []string) error             // see tryMaps
	TryChild    func(ctx context.Context, kind ChildKind) (Trial, error)
	TryCalls    func(ctx context.Context) ([]Denied, error)
	trialsMutex sync.Mutex
	trials      map[ChildKind]func() (Trial, error)
	callsOnce   sync.Once
	calls       []Denied
	callsErr    error
}

// NewEnv returns the Env of this process on this host. It reads almost nothing.
func NewEnv(stateDir string, cidr subnet.Network, binary *launcher.Binary) *Env {
	uid := os.Geteuid()
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return &Env{
		FS: os.DirFS("/"), UID: uid, GID: os.Getegid(), User: name, StateDir: stateDir, CIDR: cidr, Slirp4netns: binary,
		LookPath: launcher.LookPath, Addresses: addresses, Output: output, HasCap: privileges.Has, PingSocket: pingSocket,
		TrySocket: trySocket, TryMaps: tryMaps, TryChild: tryChild, TryCalls: tryCalls,
	}
}

// trial calls TryChild once for each kind.
func (e *Env) trial(ctx context.Context, kind ChildKind) (Trial, error) {
	e.trialsMutex.Lock()
	if e.trials == nil {
		e.trials = map[ChildKind]func() (Trial, error){}
	}
	f, ok := e.trials[kind]
	if !ok {
		// The child has its own time limit: the end of one check must not affect another's result.
		f = sync.OnceValues(func() (Trial, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
			defer cancel()
			return e.TryChild(ctx, kind)
		})
		e.trials[kind] = f
	}
	e.trialsMutex.Unlock()
	return f()
}

// bestTrial tries the namespaces that slirp4netns would use: without a user namespace if the caller
// is privileged, else with one.
func (e *Env) bestTrial(ctx context.Context) (Trial, error) {
	if e.UID == 0 {
		if t, err := e.trial(ctx, Privileged); err == nil {
			return t, nil
		}
	}
	return e.trial(ctx, Rootless)
}

// readWord reads a file of /proc that holds one value.
func (e *Env) readWord(name string) (string, error) {
	data, err := fs.ReadFile(e.FS, name)
	return strings.TrimSpace(string(data)), err
}

// readInts reads the n numbers of a sysctl, like "4096 131072 6291456".
func (e *Env) readInts(name string, n int) ([]uint64, error) {
	text, err := e.readWord(name)
	if err != nil {
		return nil, err
	}
	var all []uint64
	for _, f := range strings.Fields(text) {
		v, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("/%s holds %q", name, text)
		}
		all = append(all, v)
	}
	if len(all) != n {
		return nil, fmt.Errorf("/%s holds %q", name, text)
	}
	return all, nil
}

// rel converts an absolute path to a name in an fs.FS.
func rel(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}

func (e *Env) exists(name string) bool {
	_, err := fs.Stat(e.FS, name)
	return err == nil
}

// inContainer reports whether a container engine's marker file exists.
func (e *Env) inContainer() bool { return e.exists("run/.containerenv") || e.exists(".dockerenv") }

// sudo adds sudo to a command that needs root, unless the caller is root.
func (e *Env) sudo(command string) string {
	if e.UID == 0 {
		return command
	}
	return "sudo " + command
}

// output runs a program without standard input and returns its output.
func output(ctx context.Context, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = checkTimeout / 10
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// errnoOf returns the system's error number in err, or 0.
func errnoOf(err error) unix.Errno {
	errno, _ := errors.AsType[unix.Errno](err)
	return errno
}
