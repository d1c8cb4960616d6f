package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/selftest"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

type probeOptions struct {
	require  []string
	selfTest bool
	path     string // of slirp4netns
	cidr     string
	output   printing

	surroundings func() probeSurroundings
}

// probeSurroundings is what the configuration says, and `up` would work with.
type probeSurroundings struct {
	stateDir string // of the instances
	options  options.Options
}

// AddFlags registers the flags of `slirpctl probe`.
func (o *probeOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.require, "require", nil, "exit with 3 unless these `features` or host checks are there; separated by commas")
	fs.BoolVar(&o.selfTest, "self-test", false, "bring throw-away namespaces up and send TCP, UDP and DNS through them")
	fs.StringVar(&o.path, "slirp4netns-path", "", "the `binary` to ask (default: as up finds it)")
	fs.StringVar(&o.cidr, "cidr", "", "the `network` to compare with the host's routes (default: that of up)")
	o.output.addFlags(fs, "object")
}

const probeLong = `Print what the installed slirp4netns is, which of its features it has, and what the
host allows. What can be tried is tried: a user namespace is made, /dev/net/tun is opened in
one. Nothing is left behind.

Each line has a name, ok, warning, failed or unknown, the reason, and a command that helps.
The findings don't change the exit status, but a slirp4netns that can't be asked does (3), and so
does anything of --require that is missing (3).

With --self-test, throw-away namespaces are brought up, and TCP, UDP and DNS are sent through
their gateway and through the ports of every handler, to and from servers of slirpctl's own on
the host's loopback addresses. The host's nameserver is asked for "localhost", through
slirp4netns's built-in DNS. It takes less than a second, and 40 seconds at most. A step that
fails makes the exit status 1, or 3 if this host does not support it.`

const probeExample = `  slirpctl probe
  slirpctl probe --require cidr,enable-ipv6,user-namespaces
  slirpctl probe --self-test
  slirpctl probe --json | jq -r '.host[] | select(.status == "failed") | .remedy'
  slirpctl probe --format '{{.Slirp4netns.Version}}'`

// newProbeCmd returns `slirpctl probe`; surroundings is asked when it runs.
func newProbeCmd(surroundings func() probeSurroundings) *cobra.Command {
	opts := &probeOptions{surroundings: surroundings}
	cmd := &cobra.Command{
		Use:     "probe",
		Short:   "Print what slirp4netns and the host can do",
		Long:    probeLong,
		Example: probeExample,
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed := cmd.Flags().Changed
			if changed("slirp4netns-path") && opts.path == "" {
				return usagef("--slirp4netns-path is empty")
			}
			around := opts.surroundings()
			if opts.path != "" {
				around.options.Slirp4netnsPath = opts.path
			}
			if changed("cidr") {
				cidr, err := subnet.Parse(opts.cidr)
				if err != nil {
					return usagef("--cidr: %v", err)
				}
				around.options.CIDR = cidr
			}
			return runProbe(cmd.Context(), opts, around, cmd.OutOrStdout())
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runProbe(ctx context.Context, opts *probeOptions, around probeSurroundings, stdout io.Writer) error {
	require, err := requirements(opts.require)
	if err != nil {
		return err
	}
	p, err := newPrinter[probe.Report](stdout, &opts.output)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	env := probe.NewEnv(around.stateDir, around.options.CIDR, nil)
	report, detectErr := probe.NewReport(ctx, env, around.options.Slirp4netnsPath)
	if ctx.Err() != nil {
		return selftest.ErrInterrupted
	}
	var testErr error
	if opts.selfTest && detectErr == nil {
		if testErr = selfTest(ctx, around.options, *env.Slirp4netns, &report); errors.Is(testErr, selftest.ErrInterrupted) {
			return testErr
		}
	}
	stop()
	if err := p.table(report, func() *table { return probeTable(report, isTerminal(stdout)) }); err != nil {
		return err
	}
	if detectErr != nil {
		return detectErr
	}
	if err := report.Require(require); err != nil {
		return err
	}
	return testErr
}

// interruptible returns a context that a signal ends which would end this process: what is tried out
// is taken back first, be it a socket in the state directory or a namespace.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	var signals []os.Signal
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup
			signals = append(signals, s)
		}
	}
	return signal.NotifyContext(ctx, signals...)
}

// selfTest adds the self-test to the report.
func selfTest(ctx context.Context, o options.Options, binary launcher.Binary, report *probe.Report) error {
	steps, err := selftest.Run(ctx, selftest.Config{Options: o, Binary: binary, Diagnose: diagnose})
	report.AddSelfTest(steps)
	return err
}

// requirements checks the names of --require.
func requirements(names []string) ([]string, error) {
	known := probe.Requirable()
	var checked []string
	for _, name := range names {
		name = strings.TrimSpace(name)
		if name == "" {
			return nil, usagef("--require has an empty name")
		}
		checked = append(checked, name)
		if err := (probe.Report{}).Require([]string{name}); errors.Is(err, probe.ErrUnknownRequirement) {
			hint := "the names are " + strings.Join(known, ", ")
			if near := options.Nearest(name, known); near != "" {
				hint = fmt.Sprintf("the nearest name is %s", near)
			}
			return nil, wrongUsage("--require: "+err.Error(), hint)
		}
	}
	return checked, nil
}
