package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newLogsCmd(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show the log of an instance",
		Long: `Show the log of an instance: its messages, those of its slirp4netns, and the
output of a detached COMMAND. The log is removed with the instance, except that of a
detached COMMAND that has ended (see slirpctl wait).`,
		Example:           `  slirpctl logs -f web`,
		Args:              takes("NAME"),
		ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runLogs(cmd.Context(), a, args[0], follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "follow new lines until the instance ends")
	return cmd
}

func runLogs(ctx context.Context, a *app, name string, follow bool) error {
	base, err := a.openBase()
	if err != nil {
		return err
	}
	e, err := base.FindAny(ctx, name)
	if err != nil {
		return err
	}
	return e.CopyLog(ctx, a.out, follow)
}
