package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/enter"
	"github.com/slirpctl/slirpctl/internal/probe"
)

type execOptions struct {
	interactive bool
	tty         bool
	env         []string
	workdir     string
	user        string
}

// AddFlags registers the flags of `slirpctl exec`.
func (o *execOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.interactive, "interactive", "i", false, "pass standard input on; it is in any case")
	fs.BoolVarP(&o.tty, "tty", "t", false, "give COMMAND a terminal even if standard input, output or error is none")
	fs.StringArrayVarP(&o.env, "env", "e", nil, "set the variable `K=V`; K alone has the caller's value, as all have; repeatable")
	fs.StringVarP(&o.workdir, "workdir", "w", "", "run it in `DIR`, an absolute path there that must exist")
	fs.StringVarP(&o.user, "user", "u", "", "run it as `NAME|UID[:GROUP|GID]`, in the target's view [the target's user]")
}

// command checks the options.
func (o *execOptions) command(argv []string) (enter.Command, error) {
	c := enter.Command{Argv: argv, Dir: o.workdir, User: o.user, TTY: o.tty}
	for _, kv := range o.env {
		name, _, ok := strings.Cut(kv, "=")
		if name == "" {
			return c, usagef("--env %q: not K=V", kv)
		}
		if ok {
			c.Env = append(c.Env, kv)
		}
	}
	if o.workdir != "" && !filepath.IsAbs(o.workdir) {
		return c, usagef("--workdir %q: not an absolute path", o.workdir)
	}
	return c, nil
}

func newExecCmd(a *app) *cobra.Command {
	opts := &execOptions{}
	cmd := &cobra.Command{
		SuggestFor: []string{"attach", "enter", "shell", "nsenter"},
		Use:        "exec [flags] NAME -- COMMAND [ARG...]",
		Short:      "Run a command in an instance's namespaces",
		Long: `Run a command like a process of the target: in its namespaces (user, mount, network,
PID, IPC, UTS, cgroup, time), its root directory and, if the caller may, its control groups,
with its user and group id, capability bounding set and no_new_privs, and without
supplementary groups. The seccomp filter, the security label (SELinux, AppArmor) and the
resource limits (ulimit) are the caller's, not the target's.

The command gets the caller's environment, with the instance's name in SLIRPCTL_INSTANCE,
working directory (if it exists there), and standard input, output and error; no other open
files. A terminal is replaced by a pseudo-terminal, so that the command can't type into the
caller's: -it is needed only where the caller has none. If it would see the host's
/etc/resolv.conf, it sees one that points at the instance's DNS.

With --user it has that user's ids; as 0 the capabilities that the target may have, as
another user none.

The exit status is COMMAND's own (128+N for signal N); 125 when slirpctl failed,
also for wrong usage or configuration; 126 when COMMAND can't be run, 127 when it
isn't found.`,
		Example: `  slirpctl exec web -- ip addr
  slirpctl exec web -- curl http://localhost/
  slirpctl exec -it -w /srv -e DEBUG=1 --user www-data web -- bash`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage("no instance named", "slirpctl exec NAME -- COMMAND; slirpctl list shows the names")
			}
			if len(execCommand(args)) == 0 {
				return wrongUsage("no COMMAND", "slirpctl exec "+args[0]+" -- COMMAND")
			}
			return nil
		},
		ValidArgsFunction: a.orCommand(a.completeInstances(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := opts.command(execCommand(args))
			if err != nil {
				return err
			}
			return runExec(cmd.Context(), a, args[0], c)
		},
	}
	opts.AddFlags(cmd.Flags())
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

func runExec(ctx context.Context, a *app, name string, c enter.Command) error {
	if err := probe.CheckProc(); err != nil {
		return err
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	status, err := enter.Exec(ctx, base, name, c, enter.Caller{
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
