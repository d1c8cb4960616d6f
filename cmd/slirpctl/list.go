package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/slirpctl/slirpctl/internal/gotemplate"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
)

type listOptions struct {
	names  []string
	json   bool
	format string
}

// AddFlags registers the flags of `slirpctl list`.
func (o *listOptions) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.json, "json", false, "print a JSON array")
	fs.StringVar(&o.format, "format", "", "print each instance by the Go `TEMPLATE`")
}

func newListCmd(a *app) *cobra.Command {
	opts := &listOptions{}
	cmd := &cobra.Command{
		Use:     "list [NAME...]",
		Aliases: []string{"ls"},
		Short:   "Show what runs",
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.names = args
			return runList(cmd.Context(), a, opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	cmd.MarkFlagsMutuallyExclusive("json", "format")
	return cmd
}

func runList(ctx context.Context, a *app, o *listOptions) error {
	p, err := newStatePrinter(a.out, o.json, o.format)
	if err != nil {
		return err
	}
	base, err := a.openBase()
	if err != nil {
		return err
	}
	var entries []instance.Entry
	if len(o.names) == 0 {
		if entries, err = base.List(ctx); err != nil {
			return err
		}
	}
	for _, name := range o.names {
		e, err := base.Find(ctx, name)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	return p.list(control.Query(ctx, entries))
}

// statePrinter prints states as the user wants them.
type statePrinter struct {
	out   io.Writer
	json  bool
	tmpl  *gotemplate.Template
	quiet bool // nothing but what was asked for
}

func newStatePrinter(out io.Writer, asJSON bool, format string) (*statePrinter, error) {
	p := &statePrinter{out: out, json: asJSON}
	if format == "" {
		return p, nil
	}
	t, err := gotemplate.Parse(format)
	if err != nil {
		return nil, usagef("--format: %v", err)
	}
	p.tmpl = t
	return p, nil
}

func (p *statePrinter) byTemplate(st instance.State) error {
	if err := p.tmpl.Execute(p.out, st); err != nil {
		return usagef("--format: %v", err)
	}
	_, err := fmt.Fprintln(p.out)
	return err
}

func (p *statePrinter) list(sts []instance.State) error {
	switch {
	case p.json:
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		return enc.Encode(sts)
	case p.tmpl != nil:
		for _, st := range sts {
			if err := p.byTemplate(st); err != nil {
				return err
			}
		}
		return nil
	case len(sts) == 0:
		return nil
	}
	w := tabwriter.NewWriter(p.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tTARGET\tGUEST\tFORWARDS\tRESTARTS\tUP")
	for _, st := range sts {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", st.Name, st.State, targetText(st), addrText(st),
			len(st.Ports), st.Restarts, age(st.StartedAt))
	}
	return w.Flush()
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
		return fmt.Sprintf("%d (%s)", st.Target.PID, oneLine(st.Target.Command[0]))
	case st.Target.PID > 0:
		return fmt.Sprint(st.Target.PID)
	case st.Target.Netns != "":
		return oneLine(st.Target.Netns)
	}
	return "-"
}

func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
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

// up prints what `up` brought about. In the foreground with COMMAND, stdout is COMMAND's: only
// what was asked for is printed there, and host ports that nobody could know go to notes.
func (p *statePrinter) up(st instance.State, command bool, notes io.Writer) error {
	switch {
	case p.json:
		return json.NewEncoder(p.out).Encode(st)
	case p.tmpl != nil:
		return p.byTemplate(st)
	case p.quiet:
		return nil
	case command:
		for _, f := range st.Ports {
			fmt.Fprintf(notes, "slirpctl: forwarding %s\n", portText(f))
		}
		return nil
	}
	dns := "-"
	if st.DNS.IsValid() {
		dns = st.DNS.String()
	}
	fmt.Fprintf(p.out, "name     %s\nguest    %s\ngateway  %s\ndns      %s\n", st.Name, st.Guest, st.Gateway, dns)
	if st.IPv6 != nil {
		fmt.Fprintf(p.out, "ipv6     %s\n", st.IPv6.Guest)
	}
	for _, f := range st.Ports {
		fmt.Fprintf(p.out, "forward  %s\n", portText(f))
	}
	return nil
}

func portText(f instance.PortState) string {
	return fmt.Sprintf("%s -> %s/%s", addrPort(f.HostIP, f.HostPort), addrPort(f.GuestIP, f.GuestPort), f.Proto)
}

// addrPort prints a port with its address; not as netip does, which knows no port that is out of
// range or without an address.
func addrPort(a netip.Addr, port int) string {
	switch {
	case !a.IsValid():
		return fmt.Sprintf("?:%d", port)
	case a.Is6():
		return fmt.Sprintf("[%s]:%d", a, port)
	}
	return fmt.Sprintf("%s:%d", a, port)
}
