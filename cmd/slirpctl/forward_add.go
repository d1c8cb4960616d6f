package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newForwardAddCmd(a *app) *cobra.Command {
	opts := &forwardTarget{}
	cmd := &cobra.Command{
		Use:   "add [flags] NAME|--api-socket PATH SPEC...",
		Short: "Add forwards, all of them or none",
		Example: `  slirpctl forward add web 8080:80
  slirpctl forward add web 127.0.0.1:5353:53/udp 9000-9009:9000-9009
  slirpctl forward add --api-socket /run/user/1000/slirp.sock 8080:80`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, specs, err := opts.split(args)
			if err != nil {
				return err
			}
			if len(specs) == 0 {
				return &usageError{"no port spec", "say what to forward, as in: slirpctl forward add web 8080:80"}
			}
			return runForwardAdd(cmd.Context(), a, opts, name, specs)
		},
	}
	opts.addFlags(cmd, true)
	opts.addOutputFlags(cmd)
	return cmd
}

func runForwardAdd(ctx context.Context, a *app, o *forwardTarget, name string, specs []string) error {
	p, err := newForwardPrinter(a.out, o.json, o.format)
	if err != nil {
		return err
	}
	fs, from, err := parseSpecs(specs)
	if err != nil {
		return err
	}
	target, ctx, cancel, err := o.open(ctx, a, name)
	if err != nil {
		return err
	}
	defer cancel()
	stop := startProgress(a.err, working("adding", len(fs)))
	list, err := target.Add(ctx, fs)
	stop()
	if err != nil {
		return inBatch(err, specs, from)
	}
	warn(ctx, a, target, list)
	return p.lines(rows(name, list))
}
