package main

import (
	"cmp"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/options"
)

func newConfigCmd(a *app) *cobra.Command {
	var output printer
	cmd := &cobra.Command{
		Use:   "config [flags]",
		Short: "Show the merged configuration, and where each value came from",
		Long: `Show the merged configuration, and where each value came from.

The sources, highest precedence first: flags; --network and --option, of which
the last one wins; the environment; the file given by --config or
$SLIRPCTL_CONFIG, or else $XDG_CONFIG_HOME/slirpctl/config.{yaml,toml,json};
/etc/slirpctl/config.{yaml,toml,json}; Podman's containers.conf, if
containers_conf is set; the defaults.

The flags of "slirpctl up" are accepted, to show the values it would use.`,
		Example: `  slirpctl config
  SLIRPCTL_MTU=1500 slirpctl config --format '{{.Key}}={{.Value}}'
  slirpctl config --json --network slirp4netns:mtu=1500`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runConfig(cmd.Flags(), a.sources, &output)
		},
	}
	options.AddFlags(cmd.Flags())
	addPrinter[options.Value](cmd, &output, "array")
	return cmd
}

// runConfig prints the merged configuration, or nothing if any value is invalid.
func runConfig(flags *pflag.FlagSet, sources options.Sources, output *printer) error {
	merged, err := options.Load(flags, sources)
	if err != nil {
		return err
	}
	return output.table(merged.Values, func() *table {
		t := newTable("KEY", "VALUE", "SOURCE")
		for _, v := range merged.Values {
			t.add(plain(v.Key), plain(cmp.Or(v.Value, "-")), plain(v.Source))
		}
		return t
	})
}
