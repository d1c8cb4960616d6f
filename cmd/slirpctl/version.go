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

func thisVersion() versionInfo { return versionInfo{version, runtime.Version(), runtime.GOARCH} }

func versionText() string {
	v := thisVersion()
	return fmt.Sprintf("slirpctl %s (%s %s)\n", v.Version, v.Go, v.Arch)
}

func newVersionCmd(a *app) *cobra.Command {
	var output printing
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of slirpctl",
		Args:  takes(),
		// No configuration is loaded, so that a mistake in it is no error here.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(*cobra.Command, []string) error {
			p, err := newPrinter[versionInfo](a.out, &output)
			if err != nil {
				return err
			}
			p.oneLine = true
			return p.print(thisVersion(), func() (string, error) { return versionText(), nil })
		},
	}
	output.addFlags(cmd.Flags(), "object")
	return cmd
}
