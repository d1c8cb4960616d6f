package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Arch    string `json:"arch"`
}

func newVersionCmd(a *app) *cobra.Command {
	var output printing
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print slirpctl's own version",
		Args:  cobra.NoArgs,
		// No configuration is read: it can't be wrong then.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(*cobra.Command, []string) error {
			p, err := newPrinter[versionInfo](a.out, &output)
			if err != nil {
				return err
			}
			v := versionInfo{version, runtime.Version(), runtime.GOARCH}
			p.oneLine = true
			return p.print(v, func() (string, error) {
				return fmt.Sprintf("slirpctl %s (%s %s)\n", v.Version, v.Go, v.Arch), nil
			})
		},
	}
	output.addFlags(cmd.Flags(), "object")
	return cmd
}
