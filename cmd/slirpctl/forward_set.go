package main

import (
	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

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
