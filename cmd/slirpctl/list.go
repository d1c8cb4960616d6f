package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
)

type listOptions struct {
	names    []string
	all      bool
	quiet    bool
	whole    bool // names
	filters  []string
	output   printer
	watch    bool
	interval time.Duration
	count    int
}

// AddFlags registers the flags of `slirpctl list`.
func (o *listOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.all, "all", "a", false, "also list detached commands that have ended")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "print names only")
	fs.StringArrayVarP(&o.filters, "filter", "f", nil, "list only instances with `KEY=VALUE`: name=REGEXP, state=STATE or target=PID|PROGRAM|NETNS|CONTAINER; repeatable")
	fs.BoolVar(&o.whole, "no-trunc", false, "don't shorten names and container ids")
	fs.BoolVarP(&o.watch, "watch", "w", false, "refresh and show traffic rates")
	fs.DurationVar(&o.interval, "interval", time.Second, "`DURATION` between two refreshes of --watch")
	fs.IntVar(&o.count, "count", 0, "how many times, `N`, --watch prints (0: until Ctrl-C)")
}

func newListCmd(a *app) *cobra.Command {
	opts := &listOptions{}
	cmd := &cobra.Command{
		Use:     "list [NAME...]",
		Aliases: []string{"ls", "ps"}, SuggestFor: []string{"status", "show", "instances", "stats", "top"},
		Short: "List instances",
		Long: `List all instances, or those named, in natural order: job2 before job10. Long names and
container ids are shortened in tables; other commands accept a shortened container id.
"slirpctl inspect NAME" is "slirpctl list --json NAME".

With several values of one key, --filter takes instances with any of them; with several
keys, those with all.

With --watch, refresh and show traffic, the busiest first, and totals: in place on a
terminal, otherwise one table after the other or, with --json, one JSON array per line.`,
		Example: `  slirpctl list
  slirpctl list -a --filter state=exited
  slirpctl down $(slirpctl list -q --filter target=sleep)
  slirpctl list --json web
  slirpctl list --format '{{.Name}} {{.Guest}}'
  slirpctl list --watch`,
		ValidArgsFunction: a.completeInstances(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.names = args
			return runList(cmd.Context(), a, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	addPrinter[instance.State](cmd, &opts.output, "array")
	return cmd
}

// newInspectCmd returns `slirpctl inspect NAME...`, podman's name of `slirpctl list --json NAME...`.
func newInspectCmd(a *app) *cobra.Command {
	opts := &listOptions{}
	cmd := &cobra.Command{
		Use:               "inspect NAME...",
		Short:             "Print instances as JSON, like list --json",
		Hidden:            true,
		ValidArgsFunction: a.completeInstances(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage("no NAME given", "usage: "+cmd.UseLine())
			}
			opts.names = args
			return runList(cmd.Context(), a, opts)
		},
	}
	addPrinter[instance.State](cmd, &opts.output, "array")
	opts.output.format = formatJSON
	return cmd
}

func runList(ctx context.Context, a *app, o *listOptions) error {
	base, err := a.openBase()
	if err != nil {
		return err
	}
	filter, err := parseFilters(o.filters)
	if err != nil {
		return err
	}
	_, byState := filter["state"]
	query := func() ([]instance.State, error) {
		sts, err := queryInstances(ctx, base, o.names, o.all || byState)
		return filter.apply(sts), err
	}
	if o.quiet && (o.output.given || o.watch) {
		return usagef("--quiet excludes --json, --format and --watch")
	}
	if o.watch {
		if o.interval <= 0 || o.count < 0 {
			return usagef("--interval must be above 0, --count at least 0")
		}
		if o.output.tmpl != nil {
			return usagef("--watch and a template exclude each other")
		}
		return watchList(ctx, o, query)
	}
	sts, err := query()
	if err != nil {
		return err
	}
	return o.output.table(sts, func() *table {
		switch {
		case o.quiet:
			t := &table{whole: true}
			for _, st := range sts {
				t.add(plain(st.Name))
			}
			return t
		case len(sts) == 0:
			text := "no instances; slirpctl up -- COMMAND starts one"
			if len(o.filters) > 0 {
				text = "no instance matches"
			}
			a.note("%s", text)
			return nil
		}
		return listTable(sts, o.whole)
	})
}

// queryInstances returns the states of the instances named, or of all; with ended, also of commands that have ended.
func queryInstances(ctx context.Context, base instance.Base, names []string, ended bool) ([]instance.State, error) {
	var entries []instance.Entry
	var err error
	if len(names) == 0 {
		if entries, err = base.List(ctx); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 && ended {
		records, err := base.Ended(ctx)
		if err != nil {
			return nil, err
		}
		entries = append(entries, records...)
		slices.SortStableFunc(entries, func(x, y instance.Entry) int { return instance.CompareNames(x.Name, y.Name) })
	}
	find := base.Find
	if ended {
		find = base.FindAny
	}
	for _, name := range names {
		e, err := find(ctx, name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return control.Query(ctx, entries), nil
}
