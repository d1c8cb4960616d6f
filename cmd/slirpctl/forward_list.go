package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/gotemplate"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

type forwardListOptions struct {
	forwardTarget
	quiet bool
}

func newForwardListCmd(a *app) *cobra.Command {
	opts := &forwardListOptions{}
	cmd := &cobra.Command{
		Use:     "list [flags] [NAME|--api-socket PATH]",
		Aliases: []string{"ls"},
		Short:   "Show the forwards of one instance, or of all",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.apiSocket != "" && len(args) > 0 {
				return usagef("%q: --api-socket stands for NAME", args[0])
			}
			return runForwardList(cmd.Context(), a, opts, args)
		},
	}
	opts.addFlags(cmd, true)
	opts.addOutputFlags(cmd)
	cmd.Flags().BoolVarP(&opts.quiet, "quiet", "q", false, "print ids only")
	cmd.MarkFlagsMutuallyExclusive("json", "format", "quiet")
	return cmd
}

func runForwardList(ctx context.Context, a *app, o *forwardListOptions, args []string) error {
	p, err := newForwardPrinter(a.out, o.json, o.format)
	if err != nil {
		return err
	}
	p.quiet = o.quiet
	if len(args) == 0 && o.apiSocket == "" {
		all, err := everyForward(ctx, a, o)
		if err != nil {
			return err
		}
		return p.table(all, true)
	}
	name, _, err := o.split(args)
	if err != nil {
		return err
	}
	target, ctx, cancel, err := o.open(ctx, a, name)
	if err != nil {
		return err
	}
	defer cancel()
	list, err := target.List(ctx)
	if err != nil {
		return err
	}
	return p.table(rows(name, list), false)
}

// everyForward returns the forwards of every instance. One that ends meanwhile has none.
func everyForward(ctx context.Context, a *app, o *forwardListOptions) ([]forwardRow, error) {
	base, err := a.openBase()
	if err != nil {
		return nil, err
	}
	entries, err := base.List(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	all := []forwardRow{}
	for _, e := range entries {
		own := &ownForwards{e.Name, control.NewClient(e.Socket())}
		list, err := own.List(ctx)
		if errors.Is(err, instance.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, rows(e.Name, list)...)
	}
	return all, nil
}

// forwardRow is one forward as it is printed.
type forwardRow struct {
	Name string `json:"name,omitempty"` // the instance; none for a foreign slirp4netns
	instance.PortState
}

func rows(name string, list []hostfwd.Status) []forwardRow {
	out := make([]forwardRow, len(list))
	for i, p := range control.Ports(list) {
		out[i] = forwardRow{name, p}
	}
	return out
}

// forwardPrinter prints forwards as the user wants them.
type forwardPrinter struct {
	out   io.Writer
	json  bool
	quiet bool // ids only
	tmpl  *gotemplate.Template
}

func newForwardPrinter(out io.Writer, asJSON bool, format string) (*forwardPrinter, error) {
	p := &forwardPrinter{out: out, json: asJSON}
	if format == "" {
		return p, nil
	}
	t, err := gotemplate.Parse(format)
	if err != nil {
		return nil, usagef("--format: %v", err)
	}
	// A wrong field is found before anything is changed.
	if err := t.Execute(io.Discard, forwardRow{}); err != nil {
		return nil, usagef("--format: %v", err)
	}
	p.tmpl = t
	return p, nil
}

// machine prints list for programs, if one of the flags for that was given.
func (p *forwardPrinter) machine(list []forwardRow) (done bool, err error) {
	switch {
	case p.json:
		enc := json.NewEncoder(p.out)
		enc.SetIndent("", "  ")
		return true, enc.Encode(list)
	case p.quiet || p.tmpl != nil:
		w := bufio.NewWriter(p.out)
		for _, r := range list {
			if p.quiet {
				fmt.Fprintln(w, r.ID)
				continue
			}
			if err := p.tmpl.Execute(w, r); err != nil {
				return true, usagef("--format: %v", err)
			}
			fmt.Fprintln(w)
		}
		return true, w.Flush()
	}
	return false, nil
}

// lines prints what a change brought about.
func (p *forwardPrinter) lines(list []forwardRow) error {
	if done, err := p.machine(list); done {
		return err
	}
	w := bufio.NewWriter(p.out)
	for _, r := range list {
		fmt.Fprintf(w, "%d  %s\n", r.ID, portText(r.PortState))
	}
	return w.Flush()
}

func (p *forwardPrinter) table(list []forwardRow, names bool) error {
	if done, err := p.machine(list); done || len(list) == 0 {
		return err
	}
	out := bufio.NewWriter(p.out) // a tabwriter writes each cell by itself
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	name := func(s string) string {
		if !names {
			return ""
		}
		return s + "\t"
	}
	fmt.Fprintf(w, "%sID\tPROTO\tHOST\tGUEST\n", name("NAME"))
	for _, r := range list {
		fmt.Fprintf(w, "%s%d\t%s\t%s\t%s\n", name(r.Name), r.ID, r.Proto,
			addrPort(r.HostIP, r.HostPort), addrPort(r.GuestIP, r.GuestPort))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return out.Flush()
}
