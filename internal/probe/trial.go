package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// ChildKind selects the new namespaces of a trial child.
type ChildKind string

// The kinds. The text is passed to the child as an argument.
const (
	Rootless   ChildKind = "rootless"   // user (caller mapped to root), network, mount
	Privileged ChildKind = "privileged" // network, mount; for root
	UserOnly   ChildKind = "user-only"  // user
	waiting    ChildKind = "waiting"    // user, unmapped; waits for end-of-file, for tryMaps
	callsKind  ChildKind = "calls"      // none; for tryCalls
)

// childName is argv[0] of the children. No user's argument or environment variable can turn
// slirpctl into one.
const childName = "slirpctl-probe-child"

// Trial is the result of a child. 0 means success.
type Trial struct {
	TunOpen     unix.Errno `json:"tunOpen"`     // open of /dev/net/tun
	TunAttach   unix.Errno `json:"tunAttach"`   // TUNSETIFF
	TunSecond   unix.Errno `json:"tunSecond"`   // a second tap beside the first, as an egress gateway has
	Sandbox     unix.Errno `json:"sandbox"`     // setting up slirp4netns's sandbox
	SandboxStep string     `json:"sandboxStep"` // the step that failed with Sandbox
	Redirect    string     `json:"redirect"`    // making the rules of an egress gateway; "" worked
	Seccomp     unix.Errno `json:"seccomp"`     // installing a filter
	Netem       unix.Errno `json:"netem"`       // asking for a queue of kind netem; ENOENT: there is none
}

// childCommand returns the command of a child of kind, not yet started.
func childCommand(ctx context.Context, kind ChildKind) *exec.Cmd {
	// The link, not its target: the target may have been removed, or be unreadable for this user.
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{childName, string(kind)}
	cmd.Env = []string{} // not nil, which would inherit ours
	cmd.Dir = "/"
	attr := &syscall.SysProcAttr{}
	switch kind {
	case Privileged:
		attr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS
	case UserOnly, waiting:
		attr.Cloneflags = unix.CLONE_NEWUSER
	}
	if kind == UserOnly {
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	return cmd
}

// tryChild runs a child of kind to its end. The error is a failure to create its namespaces or to
// get its result.
func tryChild(ctx context.Context, kind ChildKind) (Trial, error) {
	var stdout, stderr string
	var err error
	if kind == Rootless {
		stdout, stderr, err = runRootless(ctx)
	} else {
		var out, errs bytes.Buffer
		cmd := childCommand(ctx, kind)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err = cmd.Run()
		stdout, stderr = out.String(), errs.String()
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if stderr != "" {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr))
		}
		return Trial{}, err
	}
	var t Trial
	if err := json.Unmarshal([]byte(stdout), &t); err != nil {
		return Trial{}, fmt.Errorf("the trial child did not answer: %w", err)
	}
	return t, nil
}

// runRootless runs the child with the system calls of `up -- COMMAND`.
func runRootless(ctx context.Context) (stdout, stderr string, err error) {
	var read, write [2]*os.File // little is written to both, so they need not be read meanwhile
	for i := range read {
		if read[i], write[i], err = os.Pipe(); err != nil {
			return "", "", err
		}
		defer read[i].Close()
		defer write[i].Close()
	}
	cmd := nsexec.Cmd{
		Args: []string{childName, string(Rootless)}, Dir: "/", Files: []*os.File{nil, write[0], write[1]},
		NewUser: true, NewMount: true, NewNet: true, Map: nsexec.MapToRoot, BecomeRoot: true,
	}
	process, err := cmd.Start()
	if err != nil {
		return "", "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = process.Kill() })
	defer stop()
	state, err := process.Wait()
	if err == nil && !state.Success() {
		err = errors.New(state.String())
	}
	var said [2]string
	for i := range said {
		write[i].Close()
		data, _ := io.ReadAll(read[i])
		said[i] = string(data)
	}
	return said[0], said[1], err
}

// tryMaps makes a user namespace and lets newuidmap(1) and newgidmap(1) write its maps: each
// argument list is the path of the tool and the arguments after the PID.
func tryMaps(ctx context.Context, uidArgs, gidArgs []string) error {
	cmd := childCommand(ctx, waiting)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := fmt.Sprint(cmd.Process.Pid)
	for _, args := range [][]string{uidArgs, gidArgs} {
		out, runErr := output(ctx, args[0], append([]string{pid}, args[1:]...)...)
		if runErr != nil {
			text, _, _ := bytes.Cut(bytes.TrimSpace([]byte(out)), []byte("\n"))
			if len(text) == 0 {
				text = []byte(runErr.Error())
			}
			err = errors.New(string(text))
			break
		}
	}
	closeErr := stdin.Close() // the child ends on end-of-file
	if waitErr := cmd.Wait(); err == nil {
		err = errors.Join(closeErr, waitErr)
	}
	return err
}

// pingSocket opens the kind of socket with which slirp4netns sends pings of the namespace.
func pingSocket() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// trySocket makes a Unix socket in a new directory below dir, and removes both. The length
// of dir's path does not matter.
func trySocket(dir string) (err error) {
	tmp, err := os.MkdirTemp(dir, ".probe-")
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.RemoveAll(tmp); err == nil {
			err = removeErr
		}
	}()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	at, err := os.Open(tmp)
	if err != nil {
		return err
	}
	defer at.Close()
	return unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/s", at.Fd())})
}

// wait is the main function of a waiting child.
func wait() { _, _ = io.Copy(io.Discard, os.Stdin) }
