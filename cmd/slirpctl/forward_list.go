package main

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

type forwardListOptions struct {
	forwardTarget
	quiet, whole bool
}

func newForwardListCmd(a *app) *cobra.Command {
	opts := &forwardListOptions{}
	cmd := &cobra.Command{
		Use:               "list [flags] [NAME|--api-socket PATH]",
		Aliases:           []string{"ls"},
		Short:             "Show the forwards of one instance, or of all",
		Long:              `Show the forwards of one instance, or of all. "slirpctl port" is the same.`,
		Args:              takes("[NAME]"),
		ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.apiSocket != "" && len(args) > 0 {
				return usagef("NAME %q and --api-socket exclude each other", args[0])
			}
			return runForwardList(cmd.Context(), a, opts, args)
		},
	}
	opts.addFlags(a, cmd)
	addPrinter[hostfwd.Status](cmd, &opts.output, "array")
	cmd.Flags().BoolVarP(&opts.quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().BoolVar(&opts.whole, "no-trunc", false, "don't shorten names and container ids")
	return cmd
}

// newPortCmd returns `slirpctl port`, podman's name of `slirpctl forward list`.
func newPortCmd(a *app) *cobra.Command {
	cmd := newForwardListCmd(a)
	cmd.Use, cmd.Aliases, cmd.Hidden = "port [flags] [NAME|--api-socket PATH]", nil, true
	return cmd
}

func runForwardList(ctx context.Context, a *app, o *forwardListOptions, args []string) error {
	if o.quiet && o.output.given {
		return usagef("--quiet excludes --json and --format")
	}
	show := func(list []hostfwd.Status, names bool) error {
		if len(list) == 0 && o.output.format == formatTable && !o.quiet {
			a.note("no forwards; slirpctl forward add NAME 8080:80 adds one")
		}
		return o.output.table(list, func() *table {
			if !o.quiet {
				return forwardTable(list, names, o.whole)
			}
			t := &table{}
			for _, r := range list {
				t.add(plain(strconv.Itoa(r.ID)))
			}
			return t
		})
	}
	if len(args) == 0 && o.apiSocket == "" {
		all, err := allForwards(ctx, a)
		if err != nil {
			return err
		}
		return show(all, true)
	}
	name, _, err := o.split(args)
	if err != nil {
		return err
	}
	target, err := o.open(ctx, a, name)
	if err != nil {
		return err
	}
	list, err := target.List(ctx)
	if err != nil {
		return err
	}
	return show(named(name, list), false)
}

// allForwards returns the forwards of all instances. It skips an instance that ends meanwhile.
func allForwards(ctx context.Context, a *app) ([]hostfwd.Status, error) {
	base, err := a.openBase()
	if err != nil {
		return nil, err
	}
	entries, err := base.List(ctx)
	if err != nil {
		return nil, err
	}
	all := []hostfwd.Status{}
	for _, e := range entries {
		list, err := control.NewNamedClient(e.Name, e.Socket()).List(ctx)
		if errors.Is(err, instance.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, named(e.Name, list)...)
	}
	return all, nil
}

// named sets the name of the instance in list; it is "" for a foreign slirp4netns.
func named(name string, list []hostfwd.Status) []hostfwd.Status {
	for i := range list {
		list[i].Name = name
	}
	return list
}

// printForwards prints the forwards that a command added or recreated.
func printForwards(p *printer, name string, list []hostfwd.Status) error {
	return p.table(named(name, list), func() *table {
		t := &table{whole: true}
		for _, r := range list {
			t.add(plain(strconv.Itoa(r.ID)), plain(portText(r)))
		}
		return t
	})
}

// forwardTable returns the table of list, with ranges collapsed, or nil if it is empty; names adds a column for the
// instance, whose name is shortened unless whole is set.
func forwardTable(list []hostfwd.Status, names, whole bool) *table {
	if len(list) == 0 {
		return nil
	}
	from := 1
	if names {
		from = 0
	}
	head := []string{"NAME", "ID", "PROTO", "HOST", "GUEST"}
	failed := slices.ContainsFunc(list, func(r hostfwd.Status) bool { return r.Failed != "" })
	if failed {
		head = append(head, "FAILED")
	}
	t := newTable(head[from:]...)
	for _, r := range collapse(list, true) {
		f := r.first
		row := []cell{
			plain(shortName(f.Name, whole)), plain(span(f.ID, r.n)), plain(string(f.Proto)),
			plain(addrSpan(f.HostIP, f.HostPort, r.n)), plain(addrSpan(f.GuestIP, f.GuestPort, r.n)),
		}
		if failed {
			row = append(row, plain(f.Failed))
		}
		t.add(row[from:]...)
	}
	return t
}
