package selftest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/supervisor"
)

// namespace is a throw-away namespace with a network, and our guest in it.
type namespace struct {
	state    instance.State
	warnings []string // what the supervisor found worth saying

	cancel  context.CancelFunc
	in, out *os.File // the guest's standard input and output, our ends
	answers *json.Decoder
	done    <-chan error // the supervisor's end
}

// up makes a namespace the way `slirpctl up -- COMMAND` does. Nothing is left where it fails.
func up(ctx context.Context, base string, o options.Options) (*namespace, error) {
	guestIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, guestOut, err := os.Pipe()
	if err != nil {
		guestIn.Close()
		in.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan instance.State, 1), make(chan error, 1)
	log, warned := quietLog()
	go func() {
		_, err := supervisor.Run(ctx, supervisor.Request{
			Options: o, Base: base,
			// Of the process that becomes COMMAND, which is this program already.
			Command: []string{"/proc/self/exe", Command},
		}, supervisor.Env{
			Log: log, Stdio: [3]*os.File{guestIn, guestOut, nil},
			Ready: func(st instance.State) error {
				ready <- st
				return nil
			},
		})
		done <- err
	}()
	ns := &namespace{cancel: cancel, in: in, out: out, answers: json.NewDecoder(out), done: done}
	select {
	case ns.state = <-ready:
	case err = <-done:
		done <- err // for down
		if err == nil {
			err = errors.New("it ended at once")
		}
	}
	guestIn.Close()
	guestOut.Close()
	ns.warnings = warned()
	if err == nil {
		if err = ns.outcome(stepTimeout); err != nil {
			err = fmt.Errorf("the servers inside: %w", err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, ns.down())
	}
	return ns, nil
}

// do lets the guest send something.
func (ns *namespace) do(k kind, addr string) error {
	if err := json.NewEncoder(ns.in).Encode(task{k, addr, stepTimeout}); err != nil {
		return fmt.Errorf("the namespace is gone: %w", err)
	}
	return ns.outcome(stepTimeout + stepTimeout/2)
}

func (ns *namespace) outcome(timeout time.Duration) error {
	_ = ns.out.SetReadDeadline(time.Now().Add(timeout))
	var o outcome
	if err := ns.answers.Decode(&o); err != nil {
		return fmt.Errorf("the namespace does not answer: %w", err)
	}
	return o.err()
}

// downTimeout is how long the end of a namespace may take, and then again when it is forced. It
// takes a few milliseconds.
const downTimeout = 3 * time.Second

// down ends the namespace and waits until everything of it is gone.
func (ns *namespace) down() error {
	ns.in.Close()
	ns.out.Close()
	defer ns.cancel()
	for range 2 {
		select {
		case <-ns.done: // how it ended does not matter
			return nil
		case <-time.After(downTimeout):
			ns.cancel()
		}
	}
	return fmt.Errorf("the namespace did not end within %s", 2*downTimeout)
}

// quietLog is a log that keeps the warnings, and a function that returns them.
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

// Levels is for [logrus.Hook].
func (k *keeper) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel} }

// Fire is for [logrus.Hook].
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
