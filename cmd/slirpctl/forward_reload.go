package main

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

type forwardReloadOptions struct {
	forwardTarget
	guestIP string
}

func newForwardReloadCmd(a *app) *cobra.Command {
	opts := &forwardReloadOptions{}
	cmd := &cobra.Command{
		Use:   "reload [flags] NAME",
		Short: "Recreate all forwards, optionally with a new guest address",
		Long: `Recreate all forwards with the same ids. With --guest-ip, forwards to the guest
address, and those added later, go to the new address.`,
		Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runForwardReload(cmd.Context(), a, opts, args[0])
		},
	}
	opts.addFlags(cmd, false)
	cmd.Flags().StringVar(&opts.guestIP, "guest-ip", "", "new guest address `IP`")
	opts.addOutputFlags(cmd)
	return cmd
}

func runForwardReload(ctx context.Context, a *app, o *forwardReloadOptions, name string) error {
	p, err := newPrinter[hostfwd.Status](a.out, &o.output)
	if err != nil {
		return err
	}
	var guest netip.Addr
	if o.guestIP != "" {
		if guest, err = netip.ParseAddr(o.guestIP); err != nil || guest.Zone() != "" {
			return usagef("--guest-ip %q is not an IP address", o.guestIP)
		}
	}
	client, err := a.controlClient(ctx, name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	list, err := client.Reload(ctx, guest)
	if err != nil {
		return (&ownForwards{name: name}).explain(err)
	}
	return printForwards(p, name, list)
}
