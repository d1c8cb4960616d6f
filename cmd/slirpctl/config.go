package main

import (
	"cmp"
	"context"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/options"
)

// configOptions holds the flags of `slirpctl config`, which include those of `up`.
type configOptions struct {
	flags   *pflag.FlagSet
	sources options.Sources
	output  printing
}

// AddFlags adds the command's flags to fs.
func (o *configOptions) AddFlags(fs *pflag.FlagSet) {
	options.AddFlags(fs)
	o.output.addFlags(fs, "array")
}

func newConfigCmd(a *app) *cobra.Command {
	opts := &configOptions{sources: a.sources}
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
			opts.flags = cmd.Flags()
			return runConfig(cmd.Context(), opts, cmd.OutOrStdout())
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// runConfig prints the merged configuration, or nothing if any value is invalid.
func runConfig(_ context.Context, opts *configOptions, stdout io.Writer) error {
	p, err := newPrinter[options.Value](stdout, &opts.output)
	if err != nil {
		return err
	}
	merged, err := options.Load(opts.flags, opts.sources)
	if err != nil {
		return err
	}
	return p.table(merged.Values, func() *table {
		t := newTable("KEY", "VALUE", "SOURCE")
		for _, v := range merged.Values {
			t.add(plain(v.Key), plain(cmp.Or(v.Value, "-")), plain(v.Source))
		}
		return t
	})
}
