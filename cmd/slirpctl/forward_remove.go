package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

func newForwardRemoveCmd(a *app) *cobra.Command {
	opts := &forwardTarget{}
	cmd := &cobra.Command{
		Use:     "remove [flags] NAME|--api-socket PATH ID|SPEC...",
		Aliases: []string{"rm", "del", "delete"},
		Short:   "Remove forwards by id or by port spec",
		Long: `Remove forwards by id or by port spec. If one of them does not exist, none is
removed. Open connections continue until one side closes them, except with the
port handler rootlesskit, which closes them at once.

A bare number is an id, and a bare range, 3-12, are those ids. A SPEC matches every
forward that has the parts it gives, so ":80" removes all TCP forwards to the guest's
port 80.`,
		Example: `  slirpctl forward remove web 3
  slirpctl forward remove web 8080:80 9000-9009:9000-9009/udp`,
		ValidArgsFunction: a.completeForwards,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, which, err := opts.split(args)
			if err != nil {
				return err
			}
			if len(which) == 0 {
				return wrongUsage("no id or port spec", "slirpctl forward list shows both")
			}
			return runForwardRemove(cmd.Context(), a, opts, name, which)
		},
	}
	opts.addFlags(a, cmd)
	return cmd
}

func runForwardRemove(ctx context.Context, a *app, o *forwardTarget, name string, which []string) error {
	var ids []int
	var specs []hostfwd.Spec
	for _, w := range which {
		if id, err := strconv.Atoi(w); err == nil {
			if id < 1 {
				return usagef("%s is not an id: ids start at 1", w)
			}
			ids = append(ids, id)
			continue
		}
		if first, last, ok := idRange(w); ok {
			for id := first; id <= last; id++ {
				ids = append(ids, id)
			}
			continue
		}
		s, err := hostfwd.ParseSpec(w)
		if err != nil {
			return err
		}
		specs = append(specs, s)
	}
	target, err := o.open(ctx, a, name)
	if err != nil {
		return err
	}
	return target.Remove(ctx, ids, specs)
}

// idRange parses a range of ids as `forward list` prints it.
func idRange(text string) (first, last int, ok bool) {
	from, to, ok := strings.Cut(text, "-")
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	return first, last, ok && err1 == nil && err2 == nil && first >= 1 && first <= last && last-first < hostfwd.MaxForwards
}
