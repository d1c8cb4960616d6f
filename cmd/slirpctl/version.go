package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Arch    string `json:"arch"`
}

func thisVersion() versionInfo {
	v := version
	if info, ok := debug.ReadBuildInfo(); ok && v == devVersion {
		v = moduleVersion(info)
	}
	return versionInfo{v, runtime.Version(), runtime.GOARCH}
}

// devVersion is the version of a program that was not built by the Makefile.
const devVersion = "dev"

// moduleVersion returns the version of the module that go install recorded.
func moduleVersion(info *debug.BuildInfo) string {
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return devVersion
}

func versionText() string {
	v := thisVersion()
	return fmt.Sprintf("slirpctl %s (%s %s)\n", v.Version, v.Go, v.Arch)
}

func newVersionCmd(a *app) *cobra.Command {
	var output printer
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of slirpctl",
		Args:  takes(),
		// No configuration is loaded, so that a mistake in it is no error here.
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(*cobra.Command, []string) error {
			output.oneLine = true
			return output.print(thisVersion(), func() (string, error) { return versionText(), nil })
		},
	}
	addPrinter[versionInfo](cmd, &output, "object")
	return cmd
}
