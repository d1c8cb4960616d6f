package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newWaitCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "wait NAME...",
		Short: "Wait until COMMAND has ended, and exit with its status",
		Long: `Wait until the COMMAND of each instance has ended, and exit with its status (128+N for
signal N): of several, with the first that is not 0, in the order of the names. The
status of another target is 0. When slirpctl failed, also because there is no such
instance, the exit status is 125.

A detached COMMAND that ends leaves its status and its log, cut to the last MB if it is
longer than 4 MB. "list -a", "logs" and "wait" show them until "down", a new instance
of that name, or a day has passed; no more than the last ten are kept. Nothing is left
of a COMMAND that "down" ended.`,
		Example: `  slirpctl up -d --name job -- make check
  slirpctl wait job || slirpctl logs job`,
		ValidArgsFunction: a.completeInstances(0),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage("no instance named", "slirpctl wait NAME; slirpctl list -a shows the names")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runWait(cmd.Context(), a, args)
		},
	}
}

func runWait(ctx context.Context, a *app, names []string) error {
	base, err := a.openBase()
	if err != nil {
		return err
	}
	// All at once: an instance may be gone when those before it have ended.
	type result struct {
		status int
		err    error
	}
	results := make([]chan result, len(names))
	for i, name := range names {
		results[i] = make(chan result, 1)
		go func() {
			status, err := base.Wait(ctx, name)
			results[i] <- result{status, err}
		}()
	}
	first := 0
	for _, c := range results {
		r := <-c
		if r.err != nil {
			return r.err
		}
		if first == 0 {
			first = r.status
		}
	}
	if first != 0 {
		return statusError(first)
	}
	return nil
}
