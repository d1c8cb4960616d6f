package selftest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/supervisor"
)

// UpCommand is the hidden argument that runs slirpctl as the supervisor of one namespace. It is a
// separate process because a supervisor gives up privileges for good.
const UpCommand = "__self-test-up"

// orderFD is that process's socket for the order and the report; its standard input and output are the guest's.
const orderFD = 3

// order is the task of the supervisor's process.
type order struct {
	Options options.Options `json:"options"`
	Base    string          `json:"base"`
}

// report is the supervisor's reply, sent once.
type report struct {
	State    instance.State `json:"state"`
	Warnings []string       `json:"warnings"` // from its log
	Error    *control.Error `json:"error"`
}

// Up is the main function of the supervisor's process. It returns the exit status. diagnose checks
// this host for the cause of an error.
func Up(diagnose func(error) error) int {
	unix.CloseOnExec(orderFD)
	conn := os.NewFile(orderFD, "order")
	out := json.NewEncoder(conn)
	var o order
	if err := json.NewDecoder(conn).Decode(&o); err != nil {
		return 1
	}
	log, kept := logtest.NewNullLogger()
	_, err := supervisor.Run(context.Background(), supervisor.Request{
		Options: o.Options, Base: o.Base,
		Command: []string{"/proc/self/exe", Command},
	}, supervisor.Env{
		Log: log, Stdio: [3]*os.File{os.Stdin, os.Stdout, nil},
		Ready: func(st instance.State) error { return out.Encode(report{State: st, Warnings: messages(kept)}) },
	})
	if err != nil {
		_ = out.Encode(report{Error: control.NewError(diagnose(err))})
		return 1
	}
	return 0
}

// namespace is a temporary namespace with a network, and our guest in it.
type namespace struct {
	report

	cmd     *exec.Cmd // the supervisor
	guest   *os.File  // our end of the guest's standard input and output
	answers *json.Decoder
	logSize int64         // of the instance's log when the instance was ready
	done    chan struct{} // closed when the supervisor has ended
	stderr  bytes.Buffer  // the supervisor's
}

// up makes a namespace as `slirpctl up -- COMMAND` does. If it fails, it leaves nothing behind.
func up(ctx context.Context, base string, o options.Options) (*namespace, error) {
	ns := &namespace{done: make(chan struct{})}
	reports, err := ns.start(order{o, base})
	if err != nil {
		return nil, err
	}
	defer reports.Close()
	// The start ends with ctx or after the timeout.
	ctx, cancel := context.WithTimeout(ctx, o.Timeout+downTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ns.cmd.Process.Signal(syscall.SIGTERM) })
	_ = reports.SetReadDeadline(time.Now().Add(o.Timeout + 2*downTimeout))
	if err = json.NewDecoder(reports).Decode(&ns.report); err == nil && ns.Error != nil {
		err = ns.Error
	}
	stop()
	var said *control.Error
	switch {
	case err == nil:
		if err = ns.outcome(ctx, stepTimeout); err != nil {
			err = fmt.Errorf("the servers inside: %w", err)
		}
	case !errors.As(err, &said):
		err = errors.New("the supervisor ended without a report")
	}
	if err == nil {
		if fi, err := os.Stat(ns.State.Log); err == nil {
			ns.logSize = fi.Size()
		}
		return ns, nil
	}
	err = errors.Join(err, ns.down())
	if text := strings.TrimSpace(ns.stderr.String()); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return nil, err
}

// start starts the supervisor's process and returns the file with its report.
func (ns *namespace) start(o order) (reports *os.File, err error) {
	guest, theirs, err := nsexec.SocketPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	reports, supervisor, err := nsexec.SocketPair(unix.SOCK_STREAM)
	if err != nil {
		guest.Close()
		return nil, err
	}
	defer supervisor.Close()
	cmd := exec.Command("/proc/self/exe", UpCommand)
	cmd.Args[0] = "slirpctl"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &ns.stderr
	cmd.ExtraFiles = []*os.File{supervisor}
	// Not in the terminal's foreground: we get the terminal's signals, and end the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = downTimeout / 10
	if err := cmd.Start(); err != nil {
		guest.Close()
		reports.Close()
		return nil, err
	}
	ns.cmd, ns.guest, ns.answers = cmd, guest, json.NewDecoder(guest)
	go func() {
		_ = cmd.Wait()
		close(ns.done)
	}()
	_ = json.NewEncoder(reports).Encode(o) // on failure the report will be missing
	return reports, nil
}

// do makes the guest send something.
func (ns *namespace) do(ctx context.Context, k kind, addr string) error {
	if err := json.NewEncoder(ns.guest).Encode(task{k, addr, k.timeout()}); err != nil {
		return fmt.Errorf("the namespace has ended: %w", err)
	}
	return ns.outcome(ctx, k.timeout()+k.timeout()/2)
}

func (ns *namespace) outcome(ctx context.Context, timeout time.Duration) error {
	_ = ns.guest.SetReadDeadline(time.Now().Add(timeout))
	defer context.AfterFunc(ctx, func() { _ = ns.guest.SetReadDeadline(time.Unix(1, 0)) })()
	var o outcome
	if err := ns.answers.Decode(&o); err != nil {
		return fmt.Errorf("the namespace does not answer: %w", err)
	}
	if o.Error != "" {
		return errors.New(o.Error)
	}
	return nil
}

// explain adds the lines that the instance has logged since it was ready.
func (ns *namespace) explain(err error) error {
	if err == nil {
		return nil
	}
	log, openErr := os.Open(ns.State.Log)
	if openErr != nil {
		return err
	}
	defer log.Close()
	if output := launcher.Explain("", launcher.Tail(log, ns.logSize)).Output; output != "" {
		return fmt.Errorf("%w; the log says: %s", err, output)
	}
	return err
}

// downTimeout is how long the namespace may take to end, and again after each signal. It normally
// takes a few milliseconds.
const downTimeout = 3 * time.Second

// down ends the namespace and waits for its processes. The guest ends when its socket is
// closed, and then everything else.
func (ns *namespace) down() error {
	ns.guest.Close()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, 0} {
		select {
		case <-ns.done: // the status does not matter
			return nil
		case <-time.After(downTimeout):
			_ = ns.cmd.Process.Signal(sig)
		}
	}
	return errors.New("the namespace's supervisor did not end")
}

// messages returns the warnings and errors in a log.
func messages(log *logtest.Hook) (texts []string) {
	for _, e := range log.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			texts = append(texts, strings.ReplaceAll(e.Message, "\n", "; "))
		}
	}
	return texts
}
