package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

type ipOptions struct {
	value   string // one of subnet.Names, or "" for all
	cidr    string
	name    string
	ipv6    bool
	ipv6Set bool // --ipv6 was given, in either sense
	output  printer

	lookup func(ctx context.Context, name string) (subnet.Values, error)
}

// AddFlags registers the flags of `slirpctl ip`.
func (o *ipOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.cidr, "cidr", subnet.Default().String(), "print the addresses of this `network`")
	fs.StringVar(&o.name, "name", "", "print the addresses of this running `instance`")
	fs.BoolVarP(&o.ipv6, "ipv6", "6", false, "print the IPv6 addresses too")
}

const ipLong = `Print the addresses that slirp4netns uses in a network: those of the default
network, of --cidr, or of a running instance. The first two need no instance.

With VALUE, print that address alone. The values are
  cidr guest gateway dns dhcp-begin dhcp-end netmask broadcast
and, for IPv6,
  cidr6 guest6 gateway6 dns6 router6
guest6 is known for a running instance only: it is derived from the tap's MAC address.

A network must have a prefix of 1 to 25 and no host bits, as slirp4netns requires.
Networks that no interface can have an address in are refused: those that begin in
0.0.0.0/8, 127.0.0.0/8 or 224.0.0.0/4.`

const ipExample = `  slirpctl ip gateway --cidr 10.7.0.0/16
  eval "$(slirpctl ip --format env)"; echo "$SLIRP_GUEST"
  slirpctl ip --format fish | source
  slirpctl ip --name web --format resolv.conf >resolv.conf
  slirpctl ip --format '{{.Guest}} via {{.Gateway}}'`

// newIPCmd returns `slirpctl ip`. lookup serves --name; see [app.lookupValues].
func newIPCmd(lookup func(ctx context.Context, name string) (subnet.Values, error)) *cobra.Command {
	opts := &ipOptions{lookup: lookup}
	cmd := &cobra.Command{
		Use:       "ip [VALUE]",
		Short:     "Print the addresses of a network",
		Long:      ipLong,
		Example:   ipExample,
		ValidArgs: subnet.Names(),
		Args:      takes("[VALUE]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			changed := cmd.Flags().Changed
			if len(args) == 1 {
				opts.value = args[0]
				if opts.value == "" {
					return usagef("VALUE is empty")
				}
			}
			switch {
			case changed("name") && changed("cidr"):
				return usagef("--name and --cidr exclude each other: an instance has its own network")
			case changed("name") && opts.name == "":
				return usagef("--name is empty")
			}
			opts.ipv6Set = changed("ipv6")
			return runIP(cmd.Context(), opts)
		},
	}
	opts.AddFlags(cmd.Flags())
	addPrinter[subnet.Values](cmd, &opts.output, "object", formatText, formatEnv, formatFish, formatResolvConf, formatHosts)
	// The only error is that the flag doesn't exist.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(opts.output.formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// Formats that only `slirpctl ip` has. Text is the same as table.
const (
	formatText       = "text"
	formatEnv        = "env"
	formatFish       = "fish"
	formatResolvConf = "resolv.conf"
	formatHosts      = "hosts"
)

// hostsName is the host name in the hosts format without --name.
const hostsName = "slirp-guest"

// runIP prints the addresses. It prints nothing if there is an error.
func runIP(ctx context.Context, opts *ipOptions) error {
	p := &opts.output
	switch {
	case opts.value == "":
	case !slices.Contains(subnet.Names(), opts.value):
		hint := "the values are " + strings.Join(subnet.Names(), ", ")
		if near := options.Nearest(opts.value, subnet.Names()); near != "" {
			hint = "did you mean " + near + "? Otherwise " + hint
		}
		return wrongUsage(fmt.Sprintf("unknown value %q", opts.value), hint)
	case p.tmpl != nil || p.format == formatResolvConf || p.format == formatHosts:
		return usagef("--format %s and the value %s exclude each other", p.format, opts.value)
	}

	values, err := ipValues(ctx, opts)
	if err != nil {
		return err
	}
	if opts.value == "" {
		return p.print(values, func() (string, error) { return valuesText(values, values.List(), opts) })
	}
	text, ok := values.Get(opts.value)
	if !ok {
		return missingValue(opts)
	}
	return p.print(values.Object(opts.value), func() (string, error) {
		if p.format == formatTable || p.format == formatText {
			return text + "\n", nil
		}
		return valuesText(values, []subnet.Value{{Name: opts.value, Text: text}}, opts)
	})
}

// ipValues returns the addresses of the network or the instance.
func ipValues(ctx context.Context, opts *ipOptions) (subnet.Values, error) {
	if opts.name == "" {
		network, err := subnet.Parse(opts.cidr)
		if err != nil {
			return subnet.Values{}, usagef("--cidr: %v", err)
		}
		values := network.Values()
		if opts.ipv6 || isIPv6Value(opts.value) {
			values.IPv6 = subnet.NewValues6(netip.Addr{})
		}
		return values, nil
	}

	values, err := opts.lookup(ctx, opts.name)
	if err != nil {
		return subnet.Values{}, err
	}
	switch {
	case opts.ipv6 && values.IPv6 == nil:
		return subnet.Values{}, fmt.Errorf("instance %s has no IPv6", opts.name)
	case opts.ipv6Set && !opts.ipv6 && !isIPv6Value(opts.value):
		values.IPv6 = nil
	}
	return values, nil
}

func isIPv6Value(name string) bool { return strings.HasSuffix(name, "6") }

// missingValue returns the error for a value that the network or the instance does not have.
func missingValue(opts *ipOptions) error {
	if opts.name != "" {
		return fmt.Errorf("instance %s has no %s", opts.name, opts.value)
	}
	return wrongUsage(opts.value+" is known for a running instance only", "give --name; the address is derived from the tap's MAC address")
}

// valuesText formats list, the addresses to print, which are all or some of values.
func valuesText(values subnet.Values, list []subnet.Value, opts *ipOptions) (string, error) {
	switch opts.output.format {
	case formatEnv:
		return subnet.Env(list), nil
	case formatFish:
		return subnet.Fish(list), nil
	case formatHosts:
		return values.Hosts(cmp.Or(opts.name, hostsName)), nil
	case formatResolvConf:
		if text := values.ResolvConf(); text != "" {
			return text, nil
		}
		return "", fmt.Errorf("instance %s has no DNS", opts.name)
	}
	t := &table{whole: true}
	for _, v := range list {
		t.add(plain(v.Name), plain(v.Text))
	}
	return t.text(opts.output.w), nil
}

// lookupValues returns the addresses of a running instance, for --name. DNS is invalid if the instance has no DNS, IPv6
// is nil if it has no IPv6.
func (a *app) lookupValues(ctx context.Context, name string) (subnet.Values, error) {
	c, err := a.controlClient(ctx, name)
	if err != nil {
		return subnet.Values{}, err
	}
	st, err := c.State(ctx)
	if err != nil {
		return subnet.Values{}, err
	}
	v := st.CIDR.Values()
	v.DNS = st.DNS
	if st.IPv6 != nil {
		v.IPv6 = subnet.NewValues6(st.IPv6.Guest)
	}
	return v, nil
}
