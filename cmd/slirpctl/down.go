package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

type downOptions struct {
	names    []string
	all      bool
	ociState string
	seconds  uint
	force    bool
	ignore   bool

	mu      sync.Mutex
	waiting map[string]instance.StoppingState // what the stop of each instance waits for
}

// AddFlags registers the flags of `slirpctl down`.
func (o *downOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.all, "all", false, "stop all instances of this user")
	fs.UintVarP(&o.seconds, "time", "t", uint(control.DefaultGrace.Seconds()), "kill COMMAND if it has not ended `SECONDS` after SIGTERM; 0: at once")
	fs.BoolVarP(&o.force, "force", "f", false, "kill COMMAND at once, and what does not answer within two seconds")
	fs.BoolVarP(&o.ignore, "ignore", "i", false, "no error if there is no such instance (any more), for traps")
	fs.StringVar(&o.ociState, "oci-state", "", "stop the instance of the OCI container whose state is in `FILE`, or on standard input (-); no error if it doesn't exist")
}

func newDownCmd(a *app) *cobra.Command {
	opts := &downOptions{}
	cmd := &cobra.Command{
		Use:     "down NAME... | --all | --oci-state FILE|-",
		Aliases: []string{"rm", "stop", "kill"},
		Short:   "Stop instances and clean up",
		Long: `Stop instances and wait until their processes and files are gone. For an instance
of "up -- COMMAND" this includes COMMAND, which gets SIGTERM and, after 10 seconds
or those of --time, SIGKILL. If that takes long, slirpctl says what it waits for. Any
other target process keeps running. The record of a detached COMMAND that has ended
is removed.`,
		Example: `  slirpctl down web
  slirpctl down -t 30 db
  trap 'slirpctl down --force --ignore web' EXIT`,
		ValidArgsFunction: a.completeInstances(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.names = args
			return runDown(cmd.Context(), a, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runDown(ctx context.Context, a *app, o *downOptions) error {
	switch {
	case o.seconds > math.MaxInt32:
		return usagef("--time %d: more than %d", o.seconds, math.MaxInt32)
	case o.ociState != "" && (o.all || len(o.names) > 0):
		return usagef("--oci-state excludes names and --all")
	case o.ociState != "":
		st, err := a.readState(o.ociState)
		if err != nil {
			return err
		}
		return downContainer(ctx, a, st, o.control(a, ""))
	case o.all && len(o.names) > 0:
		return usagef("names and --all exclude each other")
	case !o.all && len(o.names) == 0:
		return wrongUsage("no instance named", "slirpctl down NAME, or slirpctl down --all; slirpctl list shows the names")
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	if o.all {
		entries, err := base.List(ctx)
		if err != nil {
			return err
		}
		ended, err := base.Ended(ctx)
		if err != nil {
			return err
		}
		for _, e := range append(entries, ended...) {
			o.names = append(o.names, e.Name)
		}
	}
	return downAll(ctx, a, base, o)
}

// control returns the options of the request for one of the instances. Without a terminal, whose progress line shows
// what it waits for, that is printed once.
func (o *downOptions) control(a *app, name string) control.DownOptions {
	c := control.DownOptions{Grace: time.Duration(o.seconds) * time.Second, Force: o.force}
	if o.force {
		c.Grace = 0
	}
	said := ""
	c.Waiting = func(st instance.StoppingState) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.waiting == nil {
			o.waiting = map[string]instance.StoppingState{}
		}
		o.waiting[name] = st
		if text := o.waitingText(name); !isTerminal(a.err) && said == "" {
			said = text
			a.note("%s", text)
		}
	}
	return c
}

// waitingText says what the stop of an instance waits for. o.mu must be held.
func (o *downOptions) waitingText(name string) string {
	st := o.waiting[name]
	text := fmt.Sprintf("%s (pid %d) %s TERM; KILL in %.0f s", plaintext.Line(st.Name), st.PID, st.Reacts, max(0, time.Until(st.KillsAt).Seconds()))
	if len(o.names) > 1 {
		text = name + ": " + text
	}
	return text
}

// progress returns the text of the progress line.
func (o *downOptions) progress(ended int32) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range o.names {
		if _, waits := o.waiting[name]; waits {
			return o.waitingText(name)
		}
	}
	return fmt.Sprintf("stopped %d of %d instances", ended, len(o.names))
}

// downAll stops instances concurrently.
func downAll(ctx context.Context, a *app, base instance.Base, o *downOptions) error {
	errs := make([]error, len(o.names))
	var wg sync.WaitGroup
	var ended atomic.Int32
	stop := startProgress(a.err, func(time.Duration) string {
		return o.progress(ended.Load())
	})
	for i, name := range o.names {
		wg.Go(func() {
			defer func() {
				ended.Add(1)
				o.mu.Lock()
				delete(o.waiting, name)
				o.mu.Unlock()
			}()
			errs[i] = control.Down(ctx, base, name, o.control(a, name))
			if (o.all || o.ignore) && errors.Is(errs[i], instance.ErrNotFound) {
				errs[i] = nil // it ended by itself
			}
		})
	}
	wg.Wait()
	stop()
	return errors.Join(errs...)
}
