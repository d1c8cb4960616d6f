package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/instance"
)

type logsOptions struct {
	instance.LogOptions
	since string
}

// AddFlags registers the flags of `slirpctl logs`.
func (o *logsOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.Follow, "follow", "f", false, "follow new lines until the instance ends")
	fs.BoolVar(&o.All, "all", false, "also show the messages of slirpctl and slirp4netns")
	fs.IntVar(&o.Tail, "tail", -1, "show the last `N` lines only (-1: all)")
	fs.StringVar(&o.since, "since", "", "show lines since `TIME` only: 10m, 2026-01-02T15:04:05, or seconds since 1970")
	fs.BoolVarP(&o.Times, "timestamps", "t", false, "begin each line with its time")
}

func newLogsCmd(a *app) *cobra.Command {
	opts := &logsOptions{}
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the output of a detached COMMAND, and messages",
		Long: `Show the output of an instance's COMMAND, if it is detached; with --all, also the
messages of slirpctl and slirp4netns, each line with its source. If there is no detached
COMMAND, the messages are shown. The newest 4 MiB are kept, until the instance ends, or
longer for a detached COMMAND that has ended (see slirpctl wait).`,
		Example: `  slirpctl logs -f web
  slirpctl logs --tail 20 --since 10m -t web
  slirpctl logs --all web`,
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogs(cmd.Context(), a, args[0], opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runLogs(ctx context.Context, a *app, name string, o *logsOptions) error {
	if o.Tail < -1 {
		return usagef("--tail %d: want the number of lines, or -1 for all", o.Tail)
	}
	if o.since != "" {
		var err error
		if o.Since, err = instance.ParseSince(o.since, time.Now()); err != nil {
			return usagef("--since %q: %v", o.since, err)
		}
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	e, err := base.FindAny(ctx, name)
	if err != nil {
		return err
	}
	return e.CopyLog(ctx, a.out, o.LogOptions)
}
