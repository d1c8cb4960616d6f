package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/options"
)

// configOptions is what `slirpctl config` can be told, besides the flags of `up`: those show what
// `up` would make of them.
type configOptions struct {
	flags   *pflag.FlagSet
	sources options.Sources
	json    bool
	format  string
}

// AddFlags adds the command's flags to fs.
func (o *configOptions) AddFlags(fs *pflag.FlagSet) {
	options.AddFlags(fs)
	fs.BoolVar(&o.json, "json", false, "print a JSON array of objects with key, value and source")
	fs.StringVar(&o.format, "format", "", "print each value by the Go `TEMPLATE`, with .Key, .Value and .Source")
}

func newConfigCmd() *cobra.Command {
	opts := &configOptions{}
	cmd := &cobra.Command{
		Use:   "config [flags of up]",
		Short: "Show the merged configuration, and where each value came from",
		Long: `Show the merged configuration, and where each value came from.

Flags come first, then the environment, then --config, SLIRPCTL_CONFIG or
$XDG_CONFIG_HOME/slirpctl/config.{yaml,toml,json}, then
/etc/slirpctl/config.{yaml,toml,json}, then containers.conf if containers_conf
asks for it, then the defaults. The flags of "up" are accepted, to see what
"up" would make of them.`,
		Example: `  slirpctl config
  SLIRPCTL_MTU=1500 slirpctl config --format '{{.Key}}={{.Value}}'
  slirpctl config --json --network slirp4netns:mtu=1500`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.flags, opts.sources = cmd.Flags(), options.SystemSources()
			return runConfig(cmd.Context(), opts, cmd.OutOrStdout())
		},
	}
	opts.AddFlags(cmd.Flags())
	cmd.MarkFlagsMutuallyExclusive("json", "format")
	return cmd
}

// runConfig prints the merged configuration. Its errors about values are of type [*options.Error].
func runConfig(_ context.Context, opts *configOptions, stdout io.Writer) error {
	var tmpl *template.Template
	if opts.format != "" {
		var err error
		if tmpl, err = template.New("format").Option("missingkey=error").Parse(opts.format); err != nil {
			return formatError(opts.format, err)
		}
	}
	merged, err := options.Load(opts.flags, opts.sources)
	if err != nil {
		return err
	}
	if opts.json {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(merged.Values)
	}
	if tmpl != nil {
		for _, v := range merged.Values {
			if err := tmpl.Execute(stdout, v); err != nil {
				return formatError(opts.format, err)
			}
			if _, err := fmt.Fprintln(stdout); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tVALUE\tSOURCE")
	for _, v := range merged.Values {
		value := v.Value
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, value, v.Source)
	}
	return w.Flush()
}

func formatError(format string, err error) error {
	return &options.Error{Source: "flag --format", Value: format, Reason: err.Error(), Err: err}
}
