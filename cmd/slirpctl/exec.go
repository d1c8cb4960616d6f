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
		SuggestFor: []string{"attach", "enter", "shell", "nsenter"},
		Use:        "exec NAME -- COMMAND [ARG...]",
		Short:      "Run a command in an instance's namespaces",
		Long: `Run a command like a process of the target: in its namespaces (user, mount, network,
PID, IPC, UTS, cgroup, time), its root directory and, if the caller may, its control groups,
with its user and group id, capability bounding set and no_new_privs, and without
supplementary groups. The seccomp filter, the security label (SELinux, AppArmor) and the
resource limits (ulimit) are the caller's, not the target's.

The command gets the caller's environment, working directory (if it exists there), and
standard input, output and error; no other open files. A terminal is replaced by a
pseudo-terminal, so that the command can't type into the caller's. If it would see the
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
	// Flags after NAME belong to COMMAND.
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// execCommand returns the arguments after NAME, without a leading --.
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
