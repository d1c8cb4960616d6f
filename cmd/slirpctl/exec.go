package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/enter"
	"github.com/slirpctl/slirpctl/internal/probe"
)

func newExecCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec NAME -- COMMAND [ARG...]",
		Short: "Run a command in an instance's namespaces",
		Long: `Run a command in an instance's user, network and mount namespaces. Where the
target sees the host's /etc/resolv.conf, the command sees one that points at the
instance's DNS.

The exit status is COMMAND's own (128+N for signal N); 125 when slirpctl failed,
also for wrong usage or configuration; 126 when COMMAND can't be run, 127 when it
isn't found.`,
		Example: `  slirpctl exec web -- ip addr
  slirpctl exec web -- curl http://localhost/`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{"no instance named", "slirpctl exec NAME -- COMMAND; slirpctl list shows the names"}
			}
			if len(execCommand(args)) == 0 {
				return &usageError{"no COMMAND", "slirpctl exec " + args[0] + " -- COMMAND"}
			}
			return nil
		},
		ValidArgsFunction: a.completeExec,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExec(cmd.Context(), a, args[0], execCommand(args))
		},
	}
	// What follows NAME is COMMAND's, flags too.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// execCommand returns what follows NAME, and the two dashes if they are there.
func execCommand(args []string) []string {
	rest := args[1:]
	if len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	return rest
}

func runExec(ctx context.Context, a *app, name string, argv []string) error {
	if err := probe.CheckProc(); err != nil {
		return err
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	status, err := enter.Exec(ctx, base, name, argv, enter.Caller{
		Stdio: [3]*os.File{a.in, fileOf(a.out), fileOf(a.err)}, KeepFDs: inheritedFDs(), Terminal: inForeground,
	})
	if err != nil {
		return err
	}
	if status != 0 {
		return statusError(status)
	}
	return nil
}
