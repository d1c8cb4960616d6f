package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/selftest"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

type probeOptions struct {
	require  []string
	selfTest bool
	verbose  bool
	path     string // of slirp4netns
	cidr     string
	output   printer
}

// AddFlags registers the flags of `slirpctl probe`.
func (o *probeOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.require, "require", nil, "exit with status 3 unless these comma-separated `features` and host checks are ok")
	fs.BoolVar(&o.selfTest, "self-test", false, "create temporary namespaces and send TCP, UDP and DNS traffic through them")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "also print the features and what is in order")
	fs.StringVar(&o.path, "slirp4netns-path", "", "slirp4netns `binary` to check (default: the one that up runs)")
	fs.StringVar(&o.cidr, "cidr", "", "the `network` to compare with the host's routes (default: that of up)")
}

const probeLong = `Check whether the installed slirp4netns and the host can do what "slirpctl up" needs with
the configured options. The answer comes first, then what needs doing: a status (failed,
warning or unknown), the name of the check, the reason, and a command that helps. With -v,
everything is printed: the version and the features of slirp4netns, and every check.

Checks try things where they can: they create a user namespace and open /dev/net/tun in it.
Nothing is left behind. What only other options need is no warning, unless --require names it.

The exit status is 3 if slirp4netns can't be run or if something in --require is
missing; other findings don't change it.

With --self-test, temporary namespaces are created, and TCP, UDP and DNS traffic is sent
through their gateway and through forwards of every handler, to and from slirpctl's own servers
on the host's loopback addresses. The host's name server is asked for "localhost" through
slirp4netns's built-in DNS. This takes less than a second, and 40 seconds at most. If a step
fails, the exit status is 1, or 3 if the host does not support it.`

const probeExample = `  slirpctl probe
  slirpctl probe -v
  slirpctl probe --require cidr,enable-ipv6,user-namespaces
  slirpctl probe --self-test
  slirpctl probe --json | jq -r '.host[] | select(.status == "failed") | .remedy'
  slirpctl probe --format '{{.Slirp4netns.Version}}'`

func newProbeCmd(a *app) *cobra.Command {
	opts := &probeOptions{}
	cmd := &cobra.Command{
		Use: "probe", SuggestFor: []string{"check", "doctor", "info"},
		Short:   "Print what slirp4netns and the host can do",
		Long:    probeLong,
		Example: probeExample,
		Args:    takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed := cmd.Flags().Changed
			if changed("slirp4netns-path") && opts.path == "" {
				return usagef("--slirp4netns-path is empty")
			}
			up := a.cfg.Options // what `up` would use
			if opts.path != "" {
				up.Slirp4netnsPath = opts.path
			}
			if changed("cidr") {
				cidr, err := subnet.Parse(opts.cidr)
				if err != nil {
					return usagef("--cidr: %v", err)
				}
				up.CIDR = cidr
			}
			return runProbe(cmd.Context(), opts, a.stateDir(), up)
		},
	}
	opts.AddFlags(cmd.Flags())
	addPrinter[probe.Report](cmd, &opts.output, "object")
	return cmd
}

func runProbe(ctx context.Context, opts *probeOptions, stateDir string, up options.Options) error {
	require, err := requirements(opts.require)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx)
	defer stop()
	env := probe.NewEnv(stateDir, up.CIDR, nil)
	env.Options, env.Required = &up, require
	report, detectErr := probe.NewReport(ctx, env, up.Slirp4netnsPath)
	if ctx.Err() != nil {
		return selftest.ErrInterrupted
	}
	var testErr error
	if opts.selfTest && detectErr == nil {
		var steps []probe.Step
		steps, testErr = selftest.Run(ctx, selftest.Config{Options: up, Binary: *env.Slirp4netns, Diagnose: diagnose})
		if errors.Is(testErr, selftest.ErrInterrupted) {
			return testErr
		}
		report.AddSelfTest(steps)
	}
	stop()
	text := func() (string, error) {
		w := opts.output.w
		return probeText(report, opts.verbose, isTerminal(w), wantColour(w), terminalWidth(w)), nil
	}
	if err := opts.output.print(report, text); err != nil {
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

// interruptible returns a context that ends on SIGINT, SIGTERM and SIGHUP, so that the command can clean up before
// it exits.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	var signals []os.Signal
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup
			signals = append(signals, s)
		}
	}
	return signal.NotifyContext(ctx, signals...)
}

// requirements checks the names of --require.
func requirements(names []string) ([]string, error) {
	known := probe.Requirable()
	var checked []string
	for _, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
			return nil, usagef("--require has an empty name")
		case !slices.Contains(known, name):
			return nil, wrongUsage(fmt.Sprintf("--require: unknown feature %q", name), didYouMean(name, known, "the names are "))
		}
		checked = append(checked, name)
	}
	return checked, nil
}
