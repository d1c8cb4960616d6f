package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/supervisor"
)

// superviseCommand is the hidden command that runs the supervisor of `up --detach`.
const superviseCommand = "__supervise"

// Descriptors of a detached supervisor.
const (
	reportFD       = 3 // socket: receives the startRequest, sends the report
	detachedExitFD = 4 // if startRequest.HasExitFD
)

// startRequest is what `up -d` sends to its supervisor.
type startRequest struct {
	Request   supervisor.Request
	HasExitFD bool
	LogLevel  string
	LogFormat string
	FileLevel *logrus.Level
}

// send sends the request as YAML in base64: JSON alone changes arguments and paths that are not UTF-8.
func (r startRequest) send(enc *json.Encoder) error {
	data, err := yaml.Marshal(r)
	if err != nil {
		return err
	}
	return enc.Encode(data)
}

// receive receives what send has sent.
func (r *startRequest) receive(dec *json.Decoder) error {
	var data []byte
	if err := dec.Decode(&data); err != nil {
		return err
	}
	return yaml.Unmarshal(data, r)
}

// report is the supervisor's reply, sent once. The caller answers true after it has printed the state. If it
// can't print it, or is killed first, the supervisor undoes the start.
type report struct {
	State *instance.State
	Error *control.Error
}

// startDetached starts a supervisor in a new session, waits for its report, and calls ready with the state.
// If it returns an error, the start has been undone.
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
		cmd.Args = append(cmd.Args, name) // shown by ps
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
	enc := json.NewEncoder(ours)
	if err := (startRequest{req, exit != nil, a.cfg.LogLevel, a.cfg.LogFormat, a.fileLevel()}).send(enc); err != nil {
		ours.Close() // so that it does not wait for the rest
		_ = cmd.Wait()
		return fmt.Errorf("the supervisor exited at once: %w", err)
	}
	var r report
	if err := json.NewDecoder(ours).Decode(&r); err != nil {
		ours.Close() // so that it does not wait for an answer
		_ = cmd.Wait()
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) { // also if it was killed while writing
			return fmt.Errorf("read the supervisor's report: %w", err)
		}
		return fmt.Errorf("the supervisor exited without a report (%s)", cmd.ProcessState)
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
		return fmt.Errorf("the supervisor exited after it was ready (%s)", cmd.ProcessState)
	}
	return nil
}

// caller is a supervisor's connection to the `up -d` that started it.
type caller struct {
	conn     net.Conn
	dec      *json.Decoder
	stderr   callerStderr
	reported bool       // the report was sent
	answer   chan error // nil: the caller has printed the state
}

// openCaller opens the socket to the caller and reads the request.
func openCaller() (*caller, startRequest, error) {
	unix.CloseOnExec(reportFD)
	f := os.NewFile(reportFD, "caller")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, startRequest{}, err
	}
	c := &caller{conn: conn, dec: json.NewDecoder(conn), answer: make(chan error, 1)}
	var req startRequest
	err = req.receive(c.dec)
	return c, req, err
}

// wait waits for the caller's answer. If the caller ends without one, wait cancels the supervisor.
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
	c.reported = true
	return json.NewEncoder(c.conn).Encode(r)
}

// ready sends the state to the caller, waits for its answer, and closes the connection.
func (c *caller) ready(st instance.State) error {
	// Before the report: the caller may exit as soon as it has it.
	c.stderr.detached.Store(true)
	if err := redirectStderr(st.Log); err != nil {
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

// runDetached runs a detached supervisor and returns its exit status.
func runDetached() int {
	c, req, err := openCaller()
	if err != nil {
		return exitFailure
	}
	var exit *os.File
	if req.HasExitFD {
		unix.CloseOnExec(detachedExitFD)
		exit = os.NewFile(detachedExitFD, "exit-fd")
	}
	log := newLogger(&c.stderr)
	if err := setLog(log, &c.stderr, req.LogLevel, req.LogFormat); err != nil {
		return exitUsage
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go c.wait(cancel)
	_, err = supervisor.Run(ctx, req.Request, supervisor.Env{
		Log: log, LogLevel: req.FileLevel, LogJSON: req.LogFormat == "json", Session: true, ExitFD: exit, Ready: c.ready,
	})
	err = diagnose(err)
	if err != nil && !c.reported {
		_ = c.send(report{Error: control.NewError(err)})
	}
	return exitCode(err)
}

// callerStderr writes to the caller's stderr until detached is set. After that, messages go only to the
// instance's log.
type callerStderr struct{ detached atomic.Bool }

func (w *callerStderr) Write(p []byte) (int, error) {
	if w.detached.Load() {
		return len(p), nil
	}
	return os.Stderr.Write(p)
}

// redirectStderr replaces the caller's stderr by the instance's log, so that the trace of a crash goes there.
func redirectStderr(log string) error {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), 2, 0)
}
