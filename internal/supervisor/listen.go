package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/options"
)

// The pause between two looks at the sockets inside, which grows. Nothing is polled once all listen.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 100 * time.Millisecond
)

// awaitReady waits for the ports of --wait-listen in the background, and then calls Ready.
func (w *watcher) awaitReady() {
	if w.reported {
		return
	}
	w.do(func(ctx context.Context) error {
		limited, cancel := context.WithDeadlineCause(ctx, w.deadline, errTimeout)
		defer cancel()
		if err := w.awaitListeners(limited); err != nil {
			return err
		}
		return w.supervisor.report(ctx)
	}, func(err error) {
		switch {
		case err != nil && !w.tgt.Gone(): // else the end of the target is the reason
			w.over, w.err = true, err
		case err == nil:
			w.reported = true
		}
	})
}

// awaitListeners waits until something inside listens on each port of --wait-listen.
func (s *supervisor) awaitListeners(ctx context.Context) error {
	a, err := s.guestAgent()
	if err != nil {
		return fmt.Errorf("--wait-listen: %w", err)
	}
	fd, err := a.Netlink(ctx, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("--wait-listen: %w", err)
	}
	diag := hostfwd.NewSockDiag(fd)
	defer diag.Close()
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		sockets, err := diag.Listening()
		missing := unmet(s.req.Options.WaitListen, sockets)
		if len(missing) == 0 {
			return nil
		}
		udp := slices.ContainsFunc(missing, func(l options.Listen) bool { return l.Proto.Network() == "udp" })
		if err != nil && (udp || !errors.Is(err, hostfwd.ErrNoUDPDiag)) {
			return fmt.Errorf("--wait-listen: %w", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if cause := context.Cause(ctx); cause != errTimeout {
				return cause
			}
			return fault.Errorf(fault.Timeout, "wait longer with --timeout, or name a port that it listens on", "nothing listens on %s within --timeout %s; %s",
				joinListens(missing), s.req.Options.Timeout, listening(sockets))
		}
	}
}

// unmet returns the ports that no socket listens on.
func unmet(wanted []options.Listen, sockets []hostfwd.Socket) []options.Listen {
	return slices.DeleteFunc(slices.Clone(wanted), func(l options.Listen) bool { return slices.ContainsFunc(sockets, l.Met) })
}

func joinListens(list []options.Listen) string {
	var texts []string
	for _, l := range list {
		texts = append(texts, l.String())
	}
	return strings.Join(texts, " and ")
}

// maxShown is the maximum number of sockets in an error.
const maxShown = 10

// listening says what listens inside.
func listening(sockets []hostfwd.Socket) string {
	var texts []string
	for _, s := range sockets {
		texts = append(texts, s.Local.String()+"/"+s.Network)
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	switch n := len(texts); {
	case n == 0:
		return "nothing listens inside"
	case n > maxShown:
		texts = append(texts[:maxShown], fmt.Sprintf("%d more", n-maxShown))
	}
	return "inside listen " + strings.Join(texts, ", ")
}

// notReady returns the error for an instance that ends before it is ready.
func (w *watcher) notReady() error {
	ports := joinListens(w.req.Options.WaitListen)
	switch {
	case w.exited != nil:
		return fault.Errorf(0, "slirpctl logs "+w.inst.Name()+" shows its output", "%s: ended with status %d before it listened on %s", w.req.Command[0], *w.exited, ports)
	case w.tgt.Gone():
		return w.tgt.Ended("before something listened on " + ports)
	}
	return ErrInterrupted
}
