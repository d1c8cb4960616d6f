package nscommand

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// Command is a held or running COMMAND, below its init.
type Command struct {
	proc  *os.Process // init
	pidNS bool
	warn  func(string)
	done  chan struct{}
	st    *os.ProcessState // once done

	sending sync.Mutex
	conn    *os.File

	answer  chan message // to "go"
	stopped chan struct{}
}

func start(ctx context.Context, cfg Config, pidNS bool) (*Command, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	_ = unix.SetNonblock(pair[0], true)
	conn, child := os.NewFile(uintptr(pair[0]), "init"), os.NewFile(uintptr(pair[1]), "init")
	defer child.Close()

	// Init's end gets a number that the caller did not hand on to COMMAND.
	num := 3
	for slices.Contains(cfg.KeepFDs, num) {
		num++
	}
	files := make([]*os.File, num)
	copy(files, cfg.Stdio[:])
	cmd := nsexec.Cmd{
		Args: []string{"slirpctl", Stage, strconv.Itoa(num)}, Env: cfg.Env,
		Files: append(files, child), KeepFDs: cfg.KeepFDs,
		NewUser: true, NewMount: true, NewNet: true, NewPID: pidNS,
		Map:        func(pid int) error { return writeMaps(ctx, pid, cfg.MapUsers) },
		BecomeRoot: true,
	}
	if pidNS { // else it has to see to the others before it goes
		cmd.Pdeathsig = syscall.SIGKILL
	}
	proc, err := cmd.Start()
	if err != nil {
		conn.Close()
		return nil, err
	}
	c := &Command{
		proc: proc, pidNS: pidNS, warn: cfg.Warn, done: make(chan struct{}),
		conn: conn, answer: make(chan message, 1), stopped: make(chan struct{}, 1),
	}
	go func() {
		c.st, _ = proc.Wait()
		close(c.done)
	}()
	go c.listen()
	if err := c.send(message{Setup: &initSetup{
		Argv: toBytes(cfg.Argv), Umask: cfg.Umask, Setsid: cfg.Setsid, KeepFDs: cfg.KeepFDs,
		ResolvConf: []byte(cfg.ResolvConf), Hide: toBytes(cfg.Hide),
	}}); err != nil {
		c.Kill()
		return nil, fmt.Errorf("set up the command's namespaces: %w", err)
	}
	return c, nil
}

func (c *Command) send(m message) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return json.NewEncoder(c.conn).Encode(m)
}

// listen hears what init says, until it ends. COMMAND may have taken init over, so that nothing it
// says can do more than what a child can.
func (c *Command) listen() {
	defer close(c.answer)
	dec := json.NewDecoder(c.conn)
	for {
		var m message
		if dec.Decode(&m) != nil {
			return
		}
		switch {
		case m.Warning != "":
			c.warn(m.Warning)
		case m.Started, m.Failed != nil:
			select {
			case c.answer <- m:
			default: // was answered
			}
		case m.Stopped:
			// It may have been continued since, with this process, which a signal to the whole
			// group stops as well.
			_ = c.send(message{StillStopped: true})
		case m.Stop:
			select {
			case c.stopped <- struct{}{}:
			default:
			}
		}
	}
}

// PID returns the process id of init, which is in all of COMMAND's namespaces.
func (c *Command) PID() int { return c.proc.Pid }

// Release lets COMMAND run and returns once it does. Error: [*ExecError].
func (c *Command) Release() error {
	if err := c.send(message{Go: true}); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	m := <-c.answer
	if m.Started {
		return nil
	}
	if m.Failed != nil {
		<-c.done
		return &ExecError{m.Failed.Status, string(m.Failed.Msg)}
	}
	c.Kill() // if it is not gone already
	return fmt.Errorf("set up the command's namespaces: their first process ended: %s", c.st)
}

// Done is closed when COMMAND and all that it started have ended, and init is reaped.
func (c *Command) Done() <-chan struct{} { return c.done }

// Stopped gets a value when a signal has stopped COMMAND.
func (c *Command) Stopped() <-chan struct{} { return c.stopped }

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

// Signal sends COMMAND a signal; it is no error if it has ended. SIGKILL ends all that it started
// too.
func (c *Command) Signal(sig syscall.Signal) error {
	err := error(nil)
	if sig == syscall.SIGKILL && c.pidNS {
		err = c.proc.Signal(sig)
	} else {
		err = c.send(message{Signal: int(sig)})
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, unix.EPIPE) || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// Remount makes init look whether /etc/resolv.conf has to be put back at once.
func (c *Command) Remount() { _ = c.send(message{Remount: true}) }

// Kill ends COMMAND and all that it started, and waits for them.
func (c *Command) Kill() {
	if c.pidNS {
		_ = c.proc.Kill()
	}
	c.conn.Close()
	select {
	case <-c.done:
		return
	case <-time.After(5 * time.Second): // without a PID namespace, and something can't be killed
	}
	_ = c.proc.Kill()
	<-c.done
}
