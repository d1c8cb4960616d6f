package main

import (
	"github.com/spf13/cobra"
)

func newForwardSetCmd(a *app) *cobra.Command {
	opts := &forwardTarget{}
	cmd := &cobra.Command{
		Use:   "set [flags] NAME|--api-socket PATH [SPEC...]",
		Short: "Make the forwards exactly these",
		Long: `Make the forwards exactly these. Only what differs is changed: a forward that
stays keeps its id and its connections. If a new one can't be had, everything
stays as it was. Without any SPEC, no forward is left.`,
		Example: `  slirpctl forward set web 8080:80 8443:443`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, specs, err := opts.split(args)
			if err != nil {
				return err
			}
			return opts.change(cmd.Context(), a, name, specs, "setting", forwarder.Set)
		},
	}
	opts.addFlags(cmd, true)
	opts.addOutputFlags(cmd)
	return cmd
}
