// Package nscommand runs the COMMAND of `up -- COMMAND` in a user, network and mount namespace
// of its own. The process that becomes COMMAND is made first and held back, so that its
// namespaces are there for slirp4netns to enter; it is let go when the network is ready.
//
//	supervisor                      stage (this program, hidden command "__command")
//	Start: fork, unshare ────────▶
//	       maps uid, gid
//	       ── setup, JSON ──────▶   mounts: /etc with its own resolv.conf, /sys
//	start slirp4netns …
//	Release: ── "go" ───────────▶   find COMMAND, execve
//	       ◀── failure, or EOF ──   (the descriptor is close-on-exec)
package nscommand

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nettune"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// Stage is the hidden argument that makes slirpctl the process that becomes COMMAND.
const Stage = "__command"

// Statuses of `up -- COMMAND` that are not COMMAND's own, as env(1) and nohup(1) have them.
const (
	StatusFailed    = 125 // slirpctl failed
	StatusCannotRun = 126 // COMMAND was found and can't be run
	StatusNotFound  = 127 // COMMAND was not found
)

// ExecError: COMMAND could not be run. Status is 126 or 127.
type ExecError struct {
	Status int
	Msg    string
}

func (e *ExecError) Error() string { return e.Msg }

// Config says what to run, and how.
type Config struct {
	Argv     []string
	Stdio    [3]*os.File // nil: /dev/null
	Umask    int         // COMMAND's file mode creation mask
	MapUsers bool        // add the caller's ranges of /etc/subuid and /etc/subgid
	KeepFDs  []int       // descriptors above 2 that COMMAND gets under the same numbers
	Setsid   bool        // for a detached COMMAND
	// ResolvConf is what /etc/resolv.conf shall hold; "" leaves it alone.
	ResolvConf string
}

type setup struct {
	Argv       []string `json:"argv"`
	ResolvConf string   `json:"resolvConf"`
	Umask      int      `json:"umask"`
}

type failure struct {
	Status int    `json:"status"`
	Msg    string `json:"msg"`
}

// Command is a held or running COMMAND.
type Command struct {
	proc *os.Process
	conn *os.File
	done chan struct{}
	st   *os.ProcessState
}

// Start makes the namespaces and holds COMMAND back. The caller must Kill or Wait.
func Start(cfg Config) (*Command, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	_ = unix.SetNonblock(pair[0], true)
	conn, child := os.NewFile(uintptr(pair[0]), "command"), os.NewFile(uintptr(pair[1]), "command")
	defer child.Close()

	// The stage's end gets a number above all that the caller handed on to COMMAND.
	num := highestFD() + 1
	files := make([]*os.File, num+1)
	copy(files, cfg.Stdio[:])
	files[num] = child

	cmd := nsexec.Cmd{
		Args:    []string{"slirpctl", Stage, strconv.Itoa(num)},
		Env:     os.Environ(),
		Files:   files,
		KeepFDs: cfg.KeepFDs,
		NewUser: true, NewMount: true, NewNet: true,
		Map:        func(pid int) error { return writeMaps(pid, cfg.MapUsers) },
		BecomeRoot: true,
		Setsid:     cfg.Setsid,
		Pdeathsig:  syscall.SIGKILL,
	}
	proc, err := cmd.Start()
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &Command{proc: proc, conn: conn, done: make(chan struct{})}
	go func() {
		c.st, _ = proc.Wait()
		close(c.done)
	}()
	data, err := json.Marshal(setup{cfg.Argv, cfg.ResolvConf, cfg.Umask})
	if err == nil {
		_, err = conn.Write(append(data, '\n'))
	}
	if err != nil {
		c.Kill()
		return nil, fmt.Errorf("set up the command's namespaces: %w", err)
	}
	return c, nil
}

// highestFD returns the highest descriptor in use, at least 9.
func highestFD() int {
	highest := 9
	des, _ := os.ReadDir("/proc/self/fd")
	for _, de := range des {
		if n, err := strconv.Atoi(de.Name()); err == nil {
			highest = max(highest, n)
		}
	}
	return highest
}

// PID returns COMMAND's process id; it is the same before and after it is let go.
func (c *Command) PID() int { return c.proc.Pid }

// Release lets COMMAND run and returns once it does. Error: [*ExecError].
func (c *Command) Release() error {
	if _, err := io.WriteString(c.conn, "go\n"); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	data, err := io.ReadAll(c.conn)
	c.conn.Close()
	if len(data) == 0 && (err == nil || errors.Is(err, unix.ECONNRESET)) {
		return nil
	}
	var f failure
	if json.Unmarshal(data, &f) != nil {
		return fmt.Errorf("set up the command's namespaces: %q", data)
	}
	<-c.done
	return &ExecError{f.Status, f.Msg}
}

// Done is closed when COMMAND has ended and is reaped.
func (c *Command) Done() <-chan struct{} { return c.done }

// Status returns COMMAND's status once it is done: its exit code, or 128+N for signal N.
func (c *Command) Status() int {
	if c.st == nil {
		return StatusFailed
	}
	ws, ok := c.st.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return c.st.ExitCode()
}

// Signal sends COMMAND a signal; it is no error if it has ended.
func (c *Command) Signal(sig os.Signal) error {
	if err := c.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Kill ends COMMAND and waits for it.
func (c *Command) Kill() {
	_ = c.Signal(os.Kill)
	c.conn.Close()
	<-c.done
}

// RunStage is the life of the stage, up to the point where it becomes COMMAND. It returns only
// on failure, with the status to exit with.
func RunStage(args []string) int {
	parent := os.Getppid()
	if len(args) != 1 {
		return StatusFailed
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return StatusFailed
	}
	unix.CloseOnExec(fd)
	st := newStage(fd)
	var s setup
	if err := st.dec.Decode(&s); err != nil || len(s.Argv) == 0 {
		return StatusFailed
	}
	_ = nettune.Apply() // slower without, not wrong
	mountErr := prepareMounts(s.ResolvConf)
	if !st.released() {
		return StatusFailed // the supervisor gave up
	}
	if mountErr != nil {
		return st.fail(StatusFailed, "%v", mountErr)
	}
	syscall.Umask(s.Umask)
	return st.become(s.Argv, parent)
}
