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

// Command is a COMMAND that waits for Release or runs, as a child of its init.
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
	conn, child, err := nsexec.SocketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer child.Close()

	// Use a number for init's end that is not one of KeepFDs.
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
	if pidNS { // without, init must kill COMMAND's descendants before it exits
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
		LimitSockets: cfg.LimitSockets, Keep: cfg.keptIDs(), ResolvConf: []byte(cfg.ResolvConf), Hide: toBytes(cfg.Hide),
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

// listen handles init's messages until it ends. COMMAND may have taken over init, so no message may
// do more than COMMAND could.
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
			default: // answered already
			}
		case m.Stopped:
			// Ask again: a signal to the whole process group stops this process too, and COMMAND may have
			// been continued together with it.
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

// Release starts COMMAND and returns when it runs. Error: [*ExecError].
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
	c.Kill()
	return fmt.Errorf("set up the command's namespaces: their first process exited: %s", c.st)
}

// Done is closed when COMMAND and all its descendants have ended and init is reaped.
func (c *Command) Done() <-chan struct{} { return c.done }

// Stopped receives a value when a signal has stopped COMMAND.
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

// Signal sends a signal to COMMAND; it returns nil if COMMAND has ended. In a PID namespace, SIGKILL also
// kills all its descendants.
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

// Remount makes init mount /etc/resolv.conf again if needed.
func (c *Command) Remount() { _ = c.send(message{Remount: true}) }

// Kill kills COMMAND and all its descendants, and waits for them.
func (c *Command) Kill() {
	if c.pidNS {
		_ = c.proc.Kill()
	}
	c.conn.Close()
	select {
	case <-c.done:
		return
	case <-time.After(5 * time.Second): // there is no PID namespace, and a descendant can't be killed
	}
	_ = c.proc.Kill()
	<-c.done
}
