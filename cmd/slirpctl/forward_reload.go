package main

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

type forwardReloadOptions struct {
	output  printer
	guestIP string
}

func newForwardReloadCmd(a *app) *cobra.Command {
	opts := &forwardReloadOptions{}
	cmd := &cobra.Command{
		Use:   "reload [flags] NAME",
		Short: "Recreate all forwards, optionally with a new guest address",
		Long: `Recreate all forwards with the same ids. With --guest-ip, forwards to the guest
address, and those added later, go to the new address.`,
		Args: takes("NAME"), ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runForwardReload(cmd.Context(), a, opts, args[0])
		},
	}
	a.addTimeout(cmd)
	cmd.Flags().StringVar(&opts.guestIP, "guest-ip", "", "new guest address `IP`")
	addPrinter[hostfwd.Status](cmd, &opts.output, "array")
	return cmd
}

func runForwardReload(ctx context.Context, a *app, o *forwardReloadOptions, name string) error {
	var guest netip.Addr
	if o.guestIP != "" {
		var err error
		if guest, err = netip.ParseAddr(o.guestIP); err != nil || guest.Zone() != "" {
			return usagef("--guest-ip %q is not an IP address", o.guestIP)
		}
	}
	client, err := a.controlClient(ctx, name)
	if err != nil {
		return err
	}
	list, err := client.Reload(ctx, guest)
	if err != nil {
		return err
	}
	return printForwards(&o.output, name, list)
}
