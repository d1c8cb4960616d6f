package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

type listOptions struct {
	names    []string
	all      bool
	output   printing
	watch    bool
	interval time.Duration
	count    int
}

// AddFlags registers the flags of `slirpctl list`.
func (o *listOptions) AddFlags(fs *pflag.FlagSet) {
	o.output.addFlags(fs, "array")
	fs.BoolVarP(&o.all, "all", "a", false, "also list detached commands that have ended")
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
		Long: `List all instances, or those named.

"slirpctl inspect NAME" is "slirpctl list --json NAME".

With --watch, refresh and show traffic rates: in place on a terminal, otherwise one
table after the other or, with --json, one JSON array per line.`,
		Example: `  slirpctl list
  slirpctl list --json web
  slirpctl list --format '{{.Name}} {{.Guest}}'
  slirpctl list --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.names = args
			return runList(cmd.Context(), a, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// newInspectCmd returns `slirpctl inspect NAME...`, podman's name of `slirpctl list --json NAME...`.
func newInspectCmd(a *app) *cobra.Command {
	opts := &listOptions{}
	cmd := &cobra.Command{
		Use:    "inspect NAME...",
		Short:  "Print instances as JSON, like list --json",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUsage("no NAME given", "usage: "+cmd.UseLine())
			}
			opts.names = args
			opts.output.json = opts.output.json || !opts.output.given()
			return runList(cmd.Context(), a, opts)
		},
	}
	opts.output.addFlags(cmd.Flags(), "array")
	return cmd
}

func runList(ctx context.Context, a *app, o *listOptions) error {
	p, err := newPrinter[instance.State](a.out, &o.output)
	if err != nil {
		return err
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	query := func() ([]instance.State, error) { return queryInstances(ctx, base, o.names, o.all) }
	if o.watch {
		if o.interval <= 0 || o.count < 0 {
			return usagef("--interval must be above 0, --count at least 0")
		}
		if p.tmpl != nil {
			return usagef("--watch and a template exclude each other")
		}
		return watchList(ctx, o, p, query)
	}
	sts, err := query()
	if err != nil {
		return err
	}
	if len(sts) == 0 && p.format == formatTable {
		a.note("no instances; slirpctl up -- COMMAND starts one")
	}
	return p.table(sts, func() *table {
		if len(sts) == 0 {
			return nil
		}
		t := newTable("NAME", "STATE", "TARGET", "GUEST", "FORWARDS", "RESTARTS", "UP")
		for _, st := range sts {
			t.add(plain(st.Name), stateCell(st), plain(targetText(st)), plain(addrText(st)),
				plain(fmt.Sprint(len(st.Ports))), restartsCell(st.Restarts), plain(upText(st)))
		}
		return t
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

func addrText(st instance.State) string {
	if !st.Guest.IsValid() {
		return "-"
	}
	return st.Guest.String()
}

func targetText(st instance.State) string {
	switch {
	case len(st.Target.Command) > 0:
		return fmt.Sprintf("%d (%s)", st.Target.PID, plaintext.Line(st.Target.Command[0]))
	case st.Target.PID > 0:
		return fmt.Sprint(st.Target.PID)
	case st.Target.Netns != "":
		return plaintext.Line(st.Target.Netns)
	}
	return "-"
}

func upText(st instance.State) string {
	if st.State == instance.Exited {
		return "-"
	}
	return age(st.StartedAt)
}

func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, time.Since(t)) // the clock may have been set back
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// upTable returns the table that `up` prints.
func upTable(st instance.State) *table {
	dns := "-"
	if st.DNS.IsValid() {
		dns = st.DNS.String()
	}
	t := &table{whole: true}
	line := func(label, text, colour string) { t.add(cell{label, dim}, cell{text, colour}) }
	line("name", st.Name, bold)
	line("guest", st.Guest.String(), "")
	line("gateway", st.Gateway.String(), "")
	line("dns", dns, "")
	if st.IPv6 != nil {
		line("ipv6", st.IPv6.Guest.String(), "")
	}
	for _, f := range st.Ports {
		line("forward", portText(f), green)
	}
	return t
}

func portText(f hostfwd.Status) string {
	text := fmt.Sprintf("%s -> %s/%s", addrPort(f.HostIP, f.HostPort), addrPort(f.GuestIP, f.GuestPort), f.Proto)
	if f.Failed != "" {
		text += ": failed: " + f.Failed
	}
	return text
}

func addrPort(a netip.Addr, port uint16) string {
	if !a.IsValid() {
		return fmt.Sprintf("?:%d", port)
	}
	return netip.AddrPortFrom(a, port).String()
}
