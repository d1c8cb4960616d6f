package selftest

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
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/supervisor"
)

// UpCommand is the hidden argument that runs slirpctl as the supervisor of one namespace. It is a
// separate process because a supervisor gives up privileges for good.
const UpCommand = "__self-test-up"

// Descriptors of that process; its standard input and output are the guest's.
const (
	orderFD  = 3
	reportFD = 4
)

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
	unix.CloseOnExec(reportFD)
	out := json.NewEncoder(os.NewFile(reportFD, "report"))
	var o order
	if err := json.NewDecoder(os.NewFile(orderFD, "order")).Decode(&o); err != nil {
		return 1
	}
	log, warned := quietLog()
	_, err := supervisor.Run(context.Background(), supervisor.Request{
		Options: o.Options, Base: o.Base,
		Command: []string{"/proc/self/exe", Command},
	}, supervisor.Env{
		Log: log, Stdio: [3]*os.File{os.Stdin, os.Stdout, nil},
		Ready: func(st instance.State) error { return out.Encode(report{State: st, Warnings: warned()}) },
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

	cmd           *exec.Cmd // the supervisor
	stdin, stdout *os.File  // our ends of the guest's standard input and output
	answers       *json.Decoder
	logSize       int64         // of the instance's log when the instance was ready
	done          chan struct{} // closed when the supervisor has ended
	stderr        bytes.Buffer  // the supervisor's
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
	var pipes [4][2]*os.File // the child's end, ours
	defer func() {
		for _, p := range pipes {
			if p[0] != nil {
				p[0].Close()
			}
			if err != nil && p[1] != nil {
				p[1].Close()
			}
		}
	}()
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		pipes[i] = [2]*os.File{r, w} // to the child
		if i == 1 || i == 3 {
			pipes[i] = [2]*os.File{w, r}
		}
	}
	stdin, stdout, orders, reporting := pipes[0], pipes[1], pipes[2], pipes[3]
	cmd := exec.Command("/proc/self/exe", UpCommand)
	cmd.Args[0] = "slirpctl"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin[0], stdout[0], &ns.stderr
	cmd.ExtraFiles = []*os.File{orders[0], reporting[0]}
	// Not in the terminal's foreground: we get the terminal's signals, and end the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = downTimeout / 10
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ns.cmd, ns.stdin, ns.stdout, ns.answers = cmd, stdin[1], stdout[1], json.NewDecoder(stdout[1])
	go func() {
		_ = cmd.Wait()
		close(ns.done)
	}()
	_ = json.NewEncoder(orders[1]).Encode(o) // on failure the report will be missing
	orders[1].Close()
	return reporting[1], nil
}

// do makes the guest send something.
func (ns *namespace) do(ctx context.Context, k kind, addr string) error {
	if err := json.NewEncoder(ns.stdin).Encode(task{k, addr, k.timeout()}); err != nil {
		return fmt.Errorf("the namespace has ended: %w", err)
	}
	return ns.outcome(ctx, k.timeout()+k.timeout()/2)
}

func (ns *namespace) outcome(ctx context.Context, timeout time.Duration) error {
	_ = ns.stdout.SetReadDeadline(time.Now().Add(timeout))
	defer context.AfterFunc(ctx, func() { _ = ns.stdout.SetReadDeadline(time.Unix(1, 0)) })()
	var o outcome
	if err := ns.answers.Decode(&o); err != nil {
		return fmt.Errorf("the namespace does not answer: %w", err)
	}
	return o.err()
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

// down ends the namespace and waits for its processes. The guest ends when its standard input is
// closed, and then everything else.
func (ns *namespace) down() error {
	ns.stdin.Close()
	defer ns.stdout.Close()
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

// quietLog returns a log that collects warnings, and a function that returns them.
func quietLog() (*logrus.Logger, func() []string) {
	k := &keeper{}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(k)
	return log, k.messages
}

type keeper struct {
	mutex sync.Mutex
	kept  []string
}

// Levels implements [logrus.Hook].
func (k *keeper) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel} }

// Fire implements [logrus.Hook].
func (k *keeper) Fire(e *logrus.Entry) error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.kept = append(k.kept, strings.ReplaceAll(e.Message, "\n", "; "))
	return nil
}

func (k *keeper) messages() []string {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return append([]string(nil), k.kept...)
}
