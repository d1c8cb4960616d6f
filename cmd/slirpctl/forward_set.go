package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newForwardSetCmd(a *app) *cobra.Command {
	opts := &forwardTarget{}
	cmd := &cobra.Command{
		Use:   "set [flags] NAME|--api-socket PATH [SPEC...]",
		Short: "Make the forwards exactly these",
		Long: `Make the forwards exactly these. Only what differs is changed: a forward that
stays keeps its id and its connections. If a new one can't be had, everything
stays as it was. Without any SPEC, no forward is left.`,
		Example: `  slirpctl forward set web 8080:80 8443:443`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, specs, err := opts.split(args)
			if err != nil {
				return err
			}
			return runForwardSet(cmd.Context(), a, opts, name, specs)
		},
	}
	opts.addFlags(cmd, true)
	opts.addOutputFlags(cmd)
	return cmd
}

func runForwardSet(ctx context.Context, a *app, o *forwardTarget, name string, specs []string) error {
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
	stop := startProgress(a.err, working("setting", len(fs)))
	list, err := target.Set(ctx, fs)
	stop()
	if err != nil {
		return inBatch(err, specs, from)
	}
	warn(ctx, a, target, list)
	return p.lines(rows(name, list))
}
