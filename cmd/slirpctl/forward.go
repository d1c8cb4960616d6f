package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/hostfwd/slirpapi"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

func newForwardCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "forward", SuggestFor: []string{"expose", "publish"},
		Short: "Add, list and remove the forwards of a running instance",
		Long: `Add, list and remove the forwards of a running instance, or of a slirp4netns
that slirpctl did not start (--api-socket PATH instead of NAME).

A port SPEC is [HOSTIP:][HOSTPORT[-END]]:[GUESTIP:]GUESTPORT[-END][/PROTO[,PROTO]],
with IPv6 addresses in brackets. HOSTIP is 0.0.0.0 if not given; PROTO is tcp (the
default), udp, tcp4, tcp6, udp4 or udp6. A bare 80, or a host port 0, takes a free
host port; 8000-8010:80 the first free one of the range.`,
	}
	cmd.AddCommand(newForwardAddCmd(a), newForwardListCmd(a), newForwardRemoveCmd(a), newForwardSetCmd(a), newForwardReloadCmd(a))
	return cmd
}

// forwardTarget holds the flags that the forward commands share: whose forwards, and how to print them.
type forwardTarget struct {
	apiSocket string
	output    printer
}

// addFlags registers --api-socket and --timeout.
func (t *forwardTarget) addFlags(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.apiSocket, "api-socket", "", "use the API socket at `PATH` of a slirp4netns that slirpctl did not start, instead of NAME")
	a.addTimeout(cmd)
}

// addTimeout registers --timeout, a configuration key, which bounds cmd, a command that sends requests.
func (a *app) addTimeout(cmd *cobra.Command) {
	cmd.Flags().Duration("timeout", 10*time.Second, "wait at most `DURATION` for an answer")
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), a.cfg.Timeout)
		defer cancel()
		cmd.SetContext(ctx)
		return run(cmd, args)
	}
}

// split splits the arguments into NAME and the rest. With --api-socket there is no NAME.
func (t *forwardTarget) split(args []string) (name string, rest []string, err error) {
	if t.apiSocket != "" {
		return "", args, nil
	}
	if len(args) == 0 {
		return "", nil, wrongUsage("no instance named", "give its NAME, which slirpctl list shows, or --api-socket PATH")
	}
	return args[0], args[1:], nil
}

// forwarder lists and changes the forwards of an instance, or of a slirp4netns that slirpctl did not start.
type forwarder interface {
	List(context.Context) ([]hostfwd.Status, error)
	Add(context.Context, []hostfwd.Forward) ([]hostfwd.Status, error)
	Set(context.Context, []hostfwd.Forward) ([]hostfwd.Status, error)
	// Remove removes forwards by id and by spec.
	Remove(context.Context, []int, []hostfwd.Spec) error
	// Warnings returns warnings about forwards that were just added.
	Warnings(context.Context, []hostfwd.Status) []string
}

// open returns the forwarder of --api-socket or, without it, of the instance called name.
func (t *forwardTarget) open(ctx context.Context, a *app, name string) (forwarder, error) {
	if t.apiSocket != "" {
		return &slirpapi.Foreign{Client: slirpapi.Client{Path: t.apiSocket, Timeout: a.cfg.Timeout}, Network: networkOf}, nil
	}
	c, err := a.controlClient(ctx, name)
	return ownForwards{c}, err
}

// networkOf returns the network and the guest address of a slirp4netns with this --cidr; "" means the default.
func networkOf(cidr string) (netip.Prefix, netip.Addr) {
	n := subnet.Default()
	if cidr != "" {
		n, _ = subnet.Parse(cidr) // on error the zero Network, whose addresses are invalid
	}
	return n.CIDR(), n.Guest()
}

// change is the common part of add and set: it calls how with all specs and prints the result. doing is the
// verb of the progress line.
func (t *forwardTarget) change(ctx context.Context, a *app, name string, specs []string, doing string,
	how func(forwarder, context.Context, []hostfwd.Forward) ([]hostfwd.Status, error),
) error {
	fs, from, err := parseSpecs(specs)
	if err != nil {
		return err
	}
	target, err := t.open(ctx, a, name)
	if err != nil {
		return err
	}
	stop := startProgress(a.err, working(doing, len(fs)))
	list, err := how(target, ctx, fs)
	stop()
	if err != nil {
		return specError(err, specs, from)
	}
	for _, w := range target.Warnings(ctx, list) {
		a.log.Warn(w)
	}
	return printForwards(&t.output, name, list)
}

// controlClient returns a client of a running instance's control socket.
func (a *app) controlClient(ctx context.Context, name string) (*control.Client, error) {
	base, err := a.openBase()
	if err != nil {
		return nil, err
	}
	socket, err := base.Control(ctx, name)
	if err != nil {
		return nil, err
	}
	return control.NewNamedClient(name, socket), nil
}

// ownForwards is the [forwarder] of an instance.
type ownForwards struct{ *control.Client }

func (o ownForwards) Remove(ctx context.Context, ids []int, specs []hostfwd.Spec) error {
	if len(specs) > 0 {
		list, err := o.List(ctx)
		if err != nil {
			return err
		}
		for _, s := range specs {
			found, err := hostfwd.Match(list, s)
			if err != nil {
				return err
			}
			ids = append(ids, found...)
		}
	}
	return o.Client.Remove(ctx, ids)
}

// Warnings implements [forwarder].
func (o ownForwards) Warnings(ctx context.Context, fresh []hostfwd.Status) []string {
	st, err := o.State(ctx)
	if err != nil || st.PortHandler != string(options.HandlerSlirp4netns) {
		return nil
	}
	return slirpapi.Warnings(st.Ports, fresh, !st.AllowHostLoopback)
}

// parseSpecs parses port specs into forwards. fs[i] comes from args[from[i]].
func parseSpecs(args []string) (fs []hostfwd.Forward, from []int, err error) {
	for i, arg := range args {
		s, err := hostfwd.ParseSpec(arg)
		if err != nil {
			return nil, nil, err
		}
		if len(fs)+s.Total() > hostfwd.MaxForwards {
			return nil, nil, hostfwd.ErrTooMany
		}
		for _, f := range s.Forwards() {
			fs = append(fs, f)
			from = append(from, i)
		}
	}
	return fs, from, nil
}

// specError adds to err which of several specs it is about.
func specError(err error, specs []string, from []int) error {
	index := -1
	if add, ok := errors.AsType[*hostfwd.AddError](err); ok {
		index = add.Index
	} else if remote, ok := errors.AsType[*control.Error](err); ok && remote.Index != nil {
		index = *remote.Index
	}
	if index < 0 || index >= len(from) || len(specs) < 2 {
		return err
	}
	return fmt.Errorf("port spec %q (%d of %d): %w", specs[from[index]], from[index]+1, len(specs), err)
}

func newForwardAddCmd(a *app) *cobra.Command {
	opts := &forwardTarget{}
	cmd := &cobra.Command{
		Use:   "add [flags] NAME|--api-socket PATH SPEC...",
		Short: "Add forwards, all of them or none",
		Example: `  slirpctl forward add web 8080:80
  slirpctl forward add web 127.0.0.1:5353:53/udp 9000-9009:9000-9009
  slirpctl forward add --api-socket /run/user/1000/slirp.sock 8080:80`,
		ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, specs, err := opts.split(args)
			if err != nil {
				return err
			}
			if len(specs) == 0 {
				return wrongUsage("no port spec", "for example: slirpctl forward add web 8080:80")
			}
			return opts.change(cmd.Context(), a, name, specs, "adding", forwarder.Add)
		},
	}
	opts.addFlags(a, cmd)
	addPrinter[hostfwd.Status](cmd, &opts.output, "array")
	return cmd
}

func newForwardSetCmd(a *app) *cobra.Command {
	opts := &forwardTarget{}
	cmd := &cobra.Command{
		Use:   "set [flags] NAME|--api-socket PATH [SPEC...]",
		Short: "Replace all forwards",
		Long: `Replace all forwards by those given. A forward that exists already keeps its id
and its connections. If a new one can't be added, nothing is changed. Without
SPEC, all forwards are removed.`,
		Example:           `  slirpctl forward set web 8080:80 8443:443`,
		ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, specs, err := opts.split(args)
			if err != nil {
				return err
			}
			return opts.change(cmd.Context(), a, name, specs, "setting", forwarder.Set)
		},
	}
	opts.addFlags(a, cmd)
	addPrinter[hostfwd.Status](cmd, &opts.output, "array")
	return cmd
}
