package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
)

type downOptions struct {
	names    []string
	all      bool
	ociState string
}

// AddFlags registers the flags of `slirpctl down`.
func (o *downOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.all, "all", false, "stop all instances of this user")
	fs.StringVar(&o.ociState, "oci-state", "", "stop the instance of the OCI container whose state is in `FILE`, or on standard input (-); no error if it doesn't exist")
}

func newDownCmd(a *app) *cobra.Command {
	opts := &downOptions{}
	cmd := &cobra.Command{
		Use:     "down NAME... | --all | --oci-state FILE|-",
		Aliases: []string{"rm", "stop", "kill"},
		Short:   "Stop instances and clean up",
		Long: `Stop instances and wait until their processes and files are gone. For an instance
of "up -- COMMAND" this includes COMMAND, which gets SIGTERM and, after 10 seconds,
SIGKILL. Any other target process keeps running.`,
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
	case o.ociState != "" && (o.all || len(o.names) > 0):
		return usagef("--oci-state excludes names and --all")
	case o.ociState != "":
		st, err := a.readState(o.ociState)
		if err != nil {
			return err
		}
		return downContainer(ctx, a, st)
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

// downAll stops instances concurrently.
func downAll(ctx context.Context, a *app, base instance.Base, o *downOptions) error {
	errs := make([]error, len(o.names))
	var wg sync.WaitGroup
	var ended atomic.Int32
	stop := startProgress(a.err, func(time.Duration) string {
		return fmt.Sprintf("stopped %d of %d instances", ended.Load(), len(o.names))
	})
	for i, name := range o.names {
		wg.Go(func() {
			defer ended.Add(1)
			errs[i] = control.Down(ctx, base, name)
			if o.all && errors.Is(errs[i], instance.ErrNotFound) {
				errs[i] = nil // it ended by itself
			}
		})
	}
	wg.Wait()
	stop()
	return errors.Join(errs...)
}
