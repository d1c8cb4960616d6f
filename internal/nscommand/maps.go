package nscommand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	mobyuser "github.com/moby/sys/user"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// mapError returns the error for ids of the new user namespace that could not be mapped, with the checks that find the
// cause.
func mapError(what string, err error) error {
	return &fault.Error{
		Kind: fault.Unsupported, Msg: what + ": " + err.Error(), Err: err,
		Checks: []string{"user-namespaces", "subid-ranges", "id-map-tools"},
	}
}

// writeMaps maps the caller to root in the user namespace of pid (user_namespaces(7)). With ranges it
// also maps the caller's subordinate ids, from 1 up, by newuidmap(1) and newgidmap(1).
func writeMaps(ctx context.Context, pid int, ranges bool) error {
	uid, gid := os.Geteuid(), os.Getegid()
	if !ranges {
		if err := nsexec.MapToRoot(pid); err != nil {
			return mapError("map the caller to root", err)
		}
		return nil
	}
	for _, m := range []idMap{
		{"newuidmap", "uid_map", "/etc/subuid", uid},
		{"newgidmap", "gid_map", "/etc/subgid", gid},
	} {
		args, err := m.args(uid)
		if err != nil {
			return err
		}
		if uid == 0 { // root writes them itself
			err = m.write(pid, args)
		} else {
			err = m.run(ctx, pid, args)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// idMap is a map of user or group ids: id is mapped to 0, the ranges of db to the ids after it.
type idMap struct {
	tool, file, db string
	id             int
}

// args returns the map as arguments for tool: three numbers for each range.
func (m idMap) args(uid int) ([]string, error) {
	name := strconv.Itoa(uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	f, err := os.Open(m.db)
	if err != nil {
		return nil, mapError("--map-users", err)
	}
	defer f.Close()
	subs, err := SubIDs(f, name, strconv.Itoa(uid))
	if err != nil {
		return nil, mapError("--map-users: "+m.db, err)
	}
	if len(subs) == 0 {
		return nil, mapError("--map-users", fmt.Errorf("%s has no range for %s", m.db, name))
	}
	args := []string{"0", strconv.Itoa(m.id), "1"}
	next := int64(1)
	for _, s := range subs {
		args = append(args, fmt.Sprint(next), fmt.Sprint(s.SubID), fmt.Sprint(s.Count))
		next += s.Count
	}
	return args, nil
}

func (m idMap) write(pid int, args []string) error {
	var text strings.Builder
	for line := range slices.Chunk(args, 3) {
		fmt.Fprintln(&text, strings.Join(line, " "))
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, m.file), []byte(text.String()), 0); err != nil {
		return mapError("write "+m.file, err)
	}
	return nil
}

func (m idMap) run(ctx context.Context, pid int, args []string) error {
	out, err := runTool(ctx, m.tool, append([]string{strconv.Itoa(pid)}, args...))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return mapError("--map-users", err)
	case ctx.Err() != nil:
		return mapError(m.tool, context.Cause(ctx))
	case len(out) > 0:
		err = fmt.Errorf("%w: %s", err, out)
	}
	return mapError(m.tool, err)
}

// runTool runs a program and returns its output. The program, which may hang, for example on a directory
// service, is killed when ctx is done or this process ends.
func runTool(ctx context.Context, tool string, args []string) ([]byte, error) {
	// The parent-death signal is sent when the thread that started the program ends (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Descendants of the program may hold its output open.
	cmd.WaitDelay = 100 * time.Millisecond
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return bytes.TrimSpace(out), err
}

// SubIDs returns the ranges of subordinate ids in a file in the format of subuid(5) that belong to the
// owners, given by name or number; without owners, all ranges. Invalid lines are skipped, as newuidmap(1) does.
func SubIDs(r io.Reader, owners ...string) ([]mobyuser.SubID, error) {
	return mobyuser.ParseSubIDFilter(r, func(s mobyuser.SubID) bool {
		const end = 1 << 32
		return s.SubID > 0 && s.SubID < end && s.Count > 0 && s.Count < end && !strings.HasPrefix(s.Name, "#") &&
			(len(owners) == 0 || slices.Contains(owners, s.Name))
	})
}
