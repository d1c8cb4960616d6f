package main

import (
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/supervisor"
)

// superviseCommand is the hidden argument that makes slirpctl the supervisor of `up --detach`.
const superviseCommand = "__supervise"

// Descriptors of a detached supervisor.
const (
	reportFD       = 3 // socket: the order comes in, the report goes out
	detachedExitFD = 4 // only if the order says so
)

// order is what the caller of `up -d` sends its supervisor, in gob: in JSON, an argument or a path
// that is not UTF-8 would become another.
type order struct {
	Request   supervisor.Request
	HasExitFD bool
	LogLevel  string
	LogFormat string
	FileLevel *logrus.Level
}

// report is what comes back, once. The caller answers true when it has passed a state on to its user:
// if it can't, or is killed before, the supervisor undoes everything.
type report struct {
	State *instance.State
	Error *control.Error
}

// startDetached starts a supervisor in a session of its own, waits for its report, and passes it on
// by ready. With an error nothing is left.
func startDetached(ctx context.Context, a *app, req supervisor.Request, exit *os.File, ready func(instance.State) error) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "supervisor"), os.NewFile(uintptr(pair[1]), "supervisor")
	defer ours.Close()
	defer theirs.Close()
	closeOnExec(inheritedFDs())
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"slirpctl", superviseCommand}
	if name := cmp.Or(req.Options.Name, req.DefaultName); name != "" {
		cmd.Args = append(cmd.Args, name) // for those who look with ps
	}
	cmd.Stderr = fileOf(a.err)
	cmd.ExtraFiles = []*os.File{theirs}
	if exit != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, exit)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if req.Container != nil {
		cmd.Dir = "/" // not the bundle
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	theirs.Close()
	enc := gob.NewEncoder(ours)
	if err := enc.Encode(order{req, exit != nil, a.cfg.LogLevel, a.cfg.LogFormat, a.fileLevel()}); err != nil {
		ours.Close() // or it would wait for the rest
		_ = cmd.Wait()
		return fmt.Errorf("the supervisor ended at once: %w", err)
	}
	var r report
	if err := gob.NewDecoder(ours).Decode(&r); err != nil {
		ours.Close() // or it would wait for an answer
		_ = cmd.Wait()
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) { // killed while it wrote, too
			return fmt.Errorf("the supervisor's report: %w", err)
		}
		return fmt.Errorf("the supervisor ended without a word (%s)", cmd.ProcessState)
	}
	if r.Error != nil {
		_ = cmd.Wait()
		return r.Error
	}
	if err := ready(*r.State); err != nil {
		ours.Close()
		_ = cmd.Wait()
		return err
	}
	if err := enc.Encode(true); err != nil {
		_ = cmd.Wait()
		return fmt.Errorf("the supervisor ended once it was ready (%s)", cmd.ProcessState)
	}
	return nil
}

// caller is who started `up -d`, as its supervisor sees it.
type caller struct {
	conn   net.Conn
	dec    *gob.Decoder
	stderr callersStderr
	told   bool       // the report is out
	answer chan error // nil: it has passed the state on
}

// openCaller takes over the socket that the order comes from.
func openCaller() (*caller, order, error) {
	unix.CloseOnExec(reportFD)
	f := os.NewFile(reportFD, "caller")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, order{}, err
	}
	c := &caller{conn: conn, dec: gob.NewDecoder(conn), answer: make(chan error, 1)}
	var o order
	err = c.dec.Decode(&o)
	return c, o, err
}

// wait waits for the answer. Until the caller has it out, its end is ours.
func (c *caller) wait(cancel context.CancelCauseFunc) {
	var delivered bool
	var err error
	if _ = c.dec.Decode(&delivered); !delivered {
		err = errors.New("the caller of up -d was killed, or could not print its answer")
		cancel(err)
	}
	c.answer <- err
}

func (c *caller) send(r report) error {
	c.told = true
	return gob.NewEncoder(c.conn).Encode(r)
}

// ready hands the state over, and leaves the caller alone.
func (c *caller) ready(st instance.State) error {
	// First, so that nothing is left to do once the caller goes on.
	c.stderr.left.Store(true)
	if err := leaveCaller(st.Log); err != nil {
		return err
	}
	if err := c.send(report{State: &st}); err != nil {
		return err
	}
	if err := <-c.answer; err != nil {
		return err
	}
	return c.conn.Close()
}

// runDetached is the life of a detached supervisor. It returns its exit status.
func runDetached() int {
	c, o, err := openCaller()
	if err != nil {
		return exitFailure
	}
	var exit *os.File
	if o.HasExitFD {
		unix.CloseOnExec(detachedExitFD)
		exit = os.NewFile(detachedExitFD, "exit-fd")
	}
	log := newLogger(&c.stderr)
	if err := setLog(log, &c.stderr, o.LogLevel, o.LogFormat); err != nil {
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go c.wait(cancel)
	_, err = supervisor.Run(ctx, o.Request, supervisor.Env{
		Log: log, LogLevel: o.FileLevel, LogJSON: o.LogFormat == "json", Session: true, ExitFD: exit, Ready: c.ready,
	})
	err = diagnose(err)
	if err != nil && !c.told {
		_ = c.send(report{Error: control.NewError(err)})
	}
	return exitCode(err)
}

// callersStderr is where messages go until the caller of `up -d` has its answer; after that, the
// instance's log has them alone.
type callersStderr struct{ left atomic.Bool }

func (w *callersStderr) Write(p []byte) (int, error) {
	if w.left.Load() {
		return len(p), nil
	}
	return os.Stderr.Write(p)
}

// leaveCaller exchanges the caller's stderr for the instance's log: what is said from now on,
// a crash too, belongs there.
func leaveCaller(log string) error {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), 2, 0)
}

func errorAs[T error](err error) (T, bool) {
	var t T
	ok := errors.As(err, &t)
	return t, ok
}
