package main

import (
	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

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
