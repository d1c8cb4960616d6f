package nscommand

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// Command is a held or running command: the process that is a stage first.
type Command struct {
	proc *os.Process
	conn *os.File
	done chan struct{}
	st   *os.ProcessState
}

// hold starts a stage by cmd and sends it its setup; extra become the descriptors that follow its
// end of the socket. The caller must Kill or Wait.
func hold(cmd nsexec.Cmd, stage string, stdio [3]*os.File, setup any, extra ...*os.File) (*Command, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	_ = unix.SetNonblock(pair[0], true)
	conn, child := os.NewFile(uintptr(pair[0]), "command"), os.NewFile(uintptr(pair[1]), "command")
	defer child.Close()

	// The stage's end gets a number above all that the caller handed on to the command.
	num := highestFD() + 1
	files := make([]*os.File, num)
	copy(files, stdio[:])
	cmd.Files = append(append(files, child), extra...)
	cmd.Args = []string{"slirpctl", stage, strconv.Itoa(num)}
	cmd.Env = os.Environ()
	cmd.Pdeathsig = syscall.SIGKILL
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
	data, err := json.Marshal(setup)
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
	data, executed := bytes.CutPrefix(data, []byte(executing))
	if executed && len(data) == 0 && (err == nil || errors.Is(err, unix.ECONNRESET)) {
		return nil
	}
	var f failure
	if json.Unmarshal(data, &f) == nil {
		<-c.done
		return &ExecError{f.Status, f.Msg}
	}
	_ = c.Signal(os.Kill) // if it is not gone already
	<-c.done
	return fmt.Errorf("set up the command's namespaces: what was to become the command ended: %s", c.st)
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
