package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/peercred"
	"github.com/slirpctl/slirpctl/internal/target"
)

// DefaultGrace is how long COMMAND gets between SIGTERM and SIGKILL.
const DefaultGrace = 10 * time.Second

// restGrace is how long an instance gets to stop after COMMAND; forcedGrace, with [DownOptions.Force].
const (
	restGrace   = 6 * time.Second
	forcedGrace = 2 * time.Second
)

// DownOptions says how [Down] stops an instance.
type DownOptions struct {
	Grace time.Duration // between SIGTERM and SIGKILL for COMMAND; 0: SIGKILL at once
	Force bool          // don't wait long for a supervisor that does not answer
	// Waiting, if not nil, is called about every second with what the instance waits for.
	Waiting func(instance.StoppingState)
}

// timeout is how long an instance gets to stop.
func (o DownOptions) timeout() time.Duration {
	if o.Force {
		return forcedGrace
	}
	return o.Grace + restGrace
}

// Down stops a running instance and waits until its processes and files are gone. If the supervisor
// doesn't answer, it is sent SIGTERM and at last SIGKILL, which makes slirp4netns exit by its exit
// descriptor. A record of that name is removed.
func Down(ctx context.Context, base instance.Base, name string, o DownOptions) error {
	err := down(ctx, base, name, o)
	forgotten, ferr := base.Forget(ctx, name)
	if forgotten && errors.Is(err, instance.ErrNotFound) {
		return ferr
	}
	return errors.Join(err, ferr)
}

func down(ctx context.Context, base instance.Base, name string, o DownOptions) error {
	e, err := findInstance(ctx, base, name, o)
	if err != nil {
		return err
	}
	procs, seen := watchAll(e)
	if !seen {
		return downUnseen(ctx, e, o)
	}
	defer func() {
		for _, p := range procs {
			p.close()
		}
	}()
	if len(procs) > 0 && procs[0].id.Role == "supervisor" {
		if err := end(ctx, e, procs[0], o); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	for _, p := range procs {
		if err := p.waitOrKill(ctx); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	return checkGone(ctx, base, e)
}

// watchAll returns the processes of an instance that are still running. seen is false if they are in a PID namespace
// that can't be seen from here.
func watchAll(e instance.Entry) (procs []*watched, seen bool) {
	ids := []instance.ProcessState{e.Holder}
	switch {
	case e.Holder.Elsewhere():
		pid := Supervisor(e.Socket())
		if pid == 0 {
			return nil, false
		}
		ids[0] = instance.Identify("supervisor", pid)
	case e.State != nil:
		ids = e.State.Processes
	}
	for _, id := range ids {
		if p := watchProcess(id); p != nil {
			procs = append(procs, p)
		}
	}
	return procs, true
}

// checkGone checks that the instance is gone. If its supervisor is dead, Find removes the directory.
func checkGone(ctx context.Context, base instance.Base, e instance.Entry) error {
	now, err := base.Find(ctx, e.Name)
	switch {
	case errors.Is(err, instance.ErrNotFound):
		return nil
	case err == nil && now.Holder != e.Holder:
		return nil // another instance has taken the name
	case err == nil:
		return fmt.Errorf("%q: its supervisor is still running, and is not the process that its files name", e.Name)
	}
	return err
}

// downUnseen stops an instance whose processes are in a PID namespace that can't be seen from here.
func downUnseen(ctx context.Context, e instance.Entry, o DownOptions) error {
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := NewClient(e.Socket()).Down(short, o.Grace); err != nil {
		return fmt.Errorf("%q runs in another PID namespace and has to be stopped from there: %w", e.Name, err)
	}
	defer o.watch(ctx, e)()
	for deadline := time.Now().Add(o.timeout()); e.Alive(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("%q: %w", e.Name, context.DeadlineExceeded)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// Supervisor returns the PID, in the caller's PID namespace, of the process that serves a control socket
// (unix(7), SO_PEERCRED); 0 if it has none there, or there is no such socket.
func Supervisor(socket string) (pid int) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return 0
	}
	defer c.Close()
	cred, err := peercred.Get(c)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// findInstance finds an instance with its state, or at least the process that holds its lock, if the instance is
// starting or has lost its state file and its socket.
func findInstance(ctx context.Context, base instance.Base, name string, o DownOptions) (instance.Entry, error) {
	deadline := time.Now().Add(o.timeout())
	for {
		e, err := base.Find(ctx, name)
		if err != nil || e.State != nil {
			return e, err
		}
		if st, err := NewClient(e.Socket()).State(ctx); err == nil {
			e.State = st
			return e, nil
		}
		if e.Holder.Alive() {
			return e, nil
		}
		if time.Now().After(deadline) {
			return e, fmt.Errorf("%q has no state and no supervisor: %w", name, context.DeadlineExceeded)
		}
		select {
		case <-ctx.Done():
			return e, ctx.Err()
		case <-time.After(5 * time.Millisecond): // the lock is taken, but its holder is not written yet
		}
	}
}

// end asks the supervisor to stop, and signals it if it doesn't. It returns an error only if the supervisor
// refuses the caller.
func end(ctx context.Context, e instance.Entry, supervisor *watched, o DownOptions) error {
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := NewClient(e.Socket()).Down(short, o.Grace)
	// A supervisor in a child user namespace can't check a caller in a parent one, but the caller can signal it.
	if refused, ok := errors.AsType[*Error](err); ok && refused.Refused && !above(supervisor.id.PID) {
		return err
	}
	if err != nil {
		supervisor.signal(unix.SIGTERM)
		supervisor.signal(unix.SIGCONT)
	}
	defer o.watch(ctx, e)()
	if supervisor.wait(ctx, o.timeout()) != nil && ctx.Err() == nil {
		supervisor.signal(unix.SIGKILL)
	}
	return nil
}

// watch calls o.Waiting while an instance stops, until stop is called.
func (o DownOptions) watch(ctx context.Context, e instance.Entry) (stop func()) {
	if o.Waiting == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			}
			if st, err := NewClient(e.Socket()).State(ctx); err == nil && st.Stopping != nil {
				o.Waiting(*st.Stopping)
			}
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

// above reports whether the caller's user namespace is an ancestor of that of a process.
func above(pid int) bool {
	user, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return false
	}
	defer user.Close()
	below, err := target.Ancestors(user, "/proc/self/ns/user")
	for _, f := range below {
		f.Close()
	}
	return err == nil && len(below) > 0
}

// watched is a process with a pidfd, so that no other process is mistaken for it.
type watched struct {
	id instance.ProcessState
	fd int
}

func watchProcess(id instance.ProcessState) *watched {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return nil
	}
	w := &watched{id, fd}
	if !id.Alive() { // the PID has been reused
		w.close()
		return nil
	}
	return w
}

func (w *watched) close() { unix.Close(w.fd) }

func (w *watched) signal(sig unix.Signal) { _ = unix.PidfdSendSignal(w.fd, sig, nil, 0) }

// wait waits at most d for the process to exit.
func (w *watched) wait(ctx context.Context, d time.Duration) error {
	deadline := time.Now().Add(d)
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		left := time.Until(deadline)
		if left <= 0 {
			return context.DeadlineExceeded
		}
		// In short intervals, to notice that ctx is done.
		p := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, int(min(left, 200*time.Millisecond).Milliseconds())+1)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// waitOrKill waits for the process to exit, and kills it if it doesn't.
func (w *watched) waitOrKill(ctx context.Context) error {
	if w.wait(ctx, 5*time.Second) == nil {
		return nil
	}
	w.signal(unix.SIGKILL)
	if err := w.wait(ctx, 5*time.Second); err != nil {
		return fmt.Errorf("%s (pid %d) does not exit: %w", w.id.Role, w.id.PID, err)
	}
	return nil
}
