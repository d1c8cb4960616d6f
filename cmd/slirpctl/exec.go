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
		Long: `Run a command as one of the target's own processes: in each of its namespaces (user,
mount, network, PID, IPC, UTS, cgroup, time), its root directory and, where the caller
may, its control groups, with its user and group id, its bounding set of capabilities and
its no_new_privs, without supplementary groups. Not taken over are its seccomp filter,
its security label (SELinux, AppArmor) and its resource limits (ulimit): the command has
the caller's.

It gets the caller's environment, working directory (where there is one of that name),
and standard input, output and error; no other open files. In the place of a terminal
it gets one of its own, so that it can't type into the caller's. Where it would see the
host's /etc/resolv.conf, it sees one that points at the instance's DNS.

The exit status is COMMAND's own (128+N for signal N); 125 when slirpctl failed,
also for wrong usage or configuration; 126 when COMMAND can't be run, 127 when it
isn't found.`,
		Example: `  slirpctl exec web -- ip addr
  slirpctl exec web -- curl http://localhost/`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage("no instance named", "slirpctl exec NAME -- COMMAND; slirpctl list shows the names")
			}
			if len(execCommand(args)) == 0 {
				return wrongUsage("no COMMAND", "slirpctl exec "+args[0]+" -- COMMAND")
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
		Stdio: [3]*os.File{a.in, fileOf(a.out), fileOf(a.err)}, Terminal: inForeground,
	})
	if err != nil {
		return err
	}
	if status != 0 {
		return statusError(status)
	}
	return nil
}
