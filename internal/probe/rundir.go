package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
)

// runtimeDirectory checks that instances can have their directories and sockets: the length of
// the paths, the directory's owner, and whether a socket can be made there.
func runtimeDirectory(_ context.Context, env *Env) Result {
	elsewhere := fmt.Sprintf(`export XDG_RUNTIME_DIR="$(mktemp -d /tmp/run-%d-XXXXXX)"`, env.UID)
	if env.UID == 0 {
		elsewhere = `slirpctl --state-dir "$(mktemp -d /run/slirpctl-XXXXXX)" up …`
	}
	room := instance.LongestName(env.StateDir)
	if room < 1 {
		return failed(elsewhere, "%s is too long: a socket's path has at most %d bytes", env.StateDir, instance.MaxSocketPath)
	}
	parent := env.StateDir
	info, err := fs.Lstat(env.FS, rel(parent))
	if err == nil {
		if problem := env.unsafe(info); problem != "" {
			return failed(elsewhere, "%s %s", parent, problem)
		}
	}
	for errors.Is(err, fs.ErrNotExist) && parent != "/" {
		parent = path.Dir(parent)
		_, err = fs.Stat(env.FS, rel(parent))
	}
	if err == nil {
		err = env.TrySocket(parent)
	}
	if errno := errnoOf(err); errno == unix.ENOSPC || errno == unix.EDQUOT {
		elsewhere = "df -h " + launcher.Quote([]string{parent})
	}
	switch {
	case err != nil:
		return failed(elsewhere, "no socket can be made below %s: %s", parent, describe(err))
	case room < options.MaxName:
		return warning(elsewhere, "in %s only names of up to %d bytes fit: a socket's path has at most %d", env.StateDir, room, instance.MaxSocketPath)
	}
	return ok("%s, sockets can be made", env.StateDir)
}

// unsafe returns why a directory can't hold slirpctl's state, or "". Wrong permissions don't count
// in a directory of the caller's, because slirpctl corrects them.
func (e *Env) unsafe(info fs.FileInfo) string {
	if info.Mode()&fs.ModeSymlink != 0 {
		return "is a symbolic link"
	}
	if !info.IsDir() {
		return "is not a directory"
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != e.UID {
		return fmt.Sprintf("belongs to user %d", st.Uid)
	}
	return ""
}

// describe returns the system's error without the path.
func describe(err error) string {
	if errno := errnoOf(err); errno != 0 {
		return errno.Error()
	}
	return err.Error()
}
