package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/slirpctl/slirpctl/internal/gotemplate"

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
	opts := &configOptions{sources: options.SystemSources()}
	cmd := &cobra.Command{
		Use:   "config [flags of up]",
		Short: "Show the merged configuration, and where each value came from",
		Long: `Show the merged configuration, and where each value came from.

Flags come first, then --network and --option in the order given, then the
environment, then --config, $SLIRPCTL_CONFIG or else
$XDG_CONFIG_HOME/slirpctl/config.{yaml,toml,json}, then
/etc/slirpctl/config.{yaml,toml,json}, then Podman's containers.conf if
containers_conf asks for it, then the defaults.

The flags of "slirpctl up" are accepted, to see what it would make of them.`,
		Example: `  slirpctl config
  SLIRPCTL_MTU=1500 slirpctl config --format '{{.Key}}={{.Value}}'
  slirpctl config --json --network slirp4netns:mtu=1500`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.flags = cmd.Flags()
			return runConfig(cmd.Context(), opts, cmd.OutOrStdout())
		},
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

// runConfig prints the merged configuration, or nothing if any of it is wrong.
func runConfig(_ context.Context, opts *configOptions, stdout io.Writer) error {
	if opts.json && opts.format != "" {
		return usagef("--json and --format exclude each other")
	}
	merged, err := options.Load(opts.flags, opts.sources)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	switch {
	case opts.json:
		enc := json.NewEncoder(&out)
		enc.SetIndent("", "  ")
		err = enc.Encode(merged.Values)
	case opts.format != "":
		err = writeConfigTemplate(&out, opts.format, merged.Values)
	default:
		err = writeConfigTable(&out, merged.Values)
	}
	if err != nil {
		return err
	}
	_, err = stdout.Write(out.Bytes())
	return err
}

func writeConfigTemplate(w io.Writer, format string, values []options.Value) error {
	tmpl, err := gotemplate.Parse(format + "\n")
	if err != nil {
		return usagef("--format: %v", err)
	}
	for _, v := range values {
		if err := tmpl.Execute(w, v); err != nil {
			return usagef("--format: %v", err)
		}
	}
	return nil
}

func writeConfigTable(out io.Writer, values []options.Value) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tVALUE\tSOURCE")
	for _, v := range values {
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, cmp.Or(v.Value, "-"), v.Source)
	}
	return w.Flush()
}
