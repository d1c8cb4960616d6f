package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/oci"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

type hookOptions struct {
	bundle string
	print  bool
}

// AddFlags registers the flags of `slirpctl hook`: its own, and those of `up` that it writes
// into the hook's args.
func (o *hookOptions) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.bundle, "bundle", "", "the bundle `DIR`, which contains config.json")
	fs.BoolVar(&o.print, "print", false, "print the new config.json and change nothing")
	options.AddFlags(fs)
	for _, name := range notForHooks {
		_ = fs.MarkHidden(name)
	}
}

// notForHooks are the flags of `up` that make no sense in a hook: it has descriptors 0 to 2 only, its instance
// is named after the container, it must detach, and it has no COMMAND.
var notForHooks = []string{"name", "detach", "ready-fd", "exit-fd", "map-users", "user", "wait-listen", "pid-namespace", "dry-run"}

func newHookCmd(a *app) *cobra.Command {
	opts := &hookOptions{}
	cmd := &cobra.Command{
		Use:   "hook --bundle DIR [-p SPEC]... [--print]",
		Short: "Add slirpctl to an OCI bundle's hooks",
		Long: `Add slirpctl to the hooks of an OCI bundle, so that runc or crun set up a network
before the container's program starts and remove it when the container ends:
createRuntime calls slirpctl up, poststop calls slirpctl down. A network namespace
and a resolv.conf are added if the container has none; the rest of config.json is
not changed. A second call replaces the flags.

The flags of slirpctl up are written into the hook, and so are the variables PATH,
HOME, XDG_RUNTIME_DIR, XDG_CONFIG_HOME, TMPDIR and SLIRPCTL_*: the hooks then use the
configuration and the state directory of the user who runs this command.`,
		Example: `  slirpctl hook --bundle . -p 8080:80 && runc run web
  slirpctl hook --bundle . --print | jq .hooks`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runHook(a, cmd.Flags(), opts) },
	}
	opts.AddFlags(cmd.Flags())
	return cmd
}

func runHook(a *app, fs *pflag.FlagSet, o *hookOptions) error {
	if o.bundle == "" {
		return wrongUsage("no bundle given", "slirpctl hook --bundle DIR")
	}
	for _, name := range notForHooks {
		if fs.Changed(name) {
			return usagef("--%s makes no sense in a hook", name)
		}
	}
	b, err := oci.OpenBundle(o.bundle)
	if err != nil {
		return err
	}
	defer b.Close()
	setup, err := a.hookSetup(fs, b)
	if err != nil {
		return err
	}
	if err := b.Apply(setup); err != nil {
		return err
	}
	if o.print {
		_, err := a.out.Write(b.Bytes())
		return err
	}
	return b.Write()
}

// hookSetup returns the hooks for the flags. It also checks the container's annotations, so that a mistake
// in them shows here and not when the container starts.
func (a *app) hookSetup(fs *pflag.FlagSet, b *oci.Bundle) (oci.Setup, error) {
	self, err := os.Executable()
	if err != nil {
		return oci.Setup{}, fmt.Errorf("find slirpctl's own path: %w", err)
	}
	annotations, err := b.Annotations()
	if err != nil {
		return oci.Setup{}, err
	}
	src := a.sources
	src.Annotations = annotations
	cfg, err := options.Load(fs, src)
	if err != nil {
		return oci.Setup{}, err
	}
	env, err := hookEnv(os.Environ(), b.OwnedBy(os.Geteuid()))
	if err != nil {
		return oci.Setup{}, err
	}
	hook := func(command string, args []string) (specs.Hook, error) {
		all := []string{"slirpctl", command, "--oci-state", "-"}
		for _, arg := range args {
			if arg, err = absolute(arg); err != nil {
				return specs.Hook{}, err
			}
			all = append(all, arg)
		}
		return specs.Hook{Path: self, Args: all, Env: env}, nil
	}
	s := oci.Setup{}
	if s.Up, err = hook("up", options.Given(fs)); err != nil {
		return s, err
	}
	if s.Down, err = hook("down", options.GivenGeneral(fs)); err != nil {
		return s, err
	}
	if !cfg.DisableDNS {
		var dns6 netip.Addr
		if cfg.IPv6 {
			dns6 = subnet.DNS6()
		}
		s.ResolvConf, _ = resolvconf.Read().Guest(cfg.CIDR.DNS(), dns6)
	}
	return s, nil
}

// absolute makes the path in arg absolute, if arg is a flag whose value is a file. It refuses pipes and
// descriptors, which won't exist when a container starts.
func absolute(arg string) (string, error) {
	name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
	read := name == "config" || name == "containers-conf" && value != "true" && value != "false"
	isFile := read || name == "state-dir" || name == "pid-file" || name == "slirp4netns-path" && strings.Contains(value, "/")
	if !isFile || value == "" {
		return arg, nil
	}
	path, err := filepath.Abs(value)
	if err != nil {
		return "", err
	}
	if fi, err := os.Stat(path); read && err == nil && (fi.Mode()&os.ModeNamedPipe != 0 ||
		path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/")) {
		return "", fault.Errorf(fault.Usage, "use a regular file", "--%s %s: the hooks read it each time a container starts, when this pipe or descriptor is gone", name, value)
	}
	return "--" + name + "=" + path, nil
}

// hookEnv returns the environment of the hooks: the variables that locate programs, configuration and state.
// A hook without an environment gets the runtime's own from some runtimes, and none from others. For a bundle
// that another user owns, the caller's directories are left out.
func hookEnv(environ []string, own bool) (env []string, err error) {
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		home := slices.Contains([]string{"HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "TMPDIR"}, name)
		if value != "" && (name == "PATH" || home && own) {
			env = append(env, kv)
		}
	}
	for _, kv := range options.Environ(environ) {
		name, value, _ := strings.Cut(kv, "=")
		key := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, "SLIRPCTL_")), "_", "-")
		arg, err := absolute("--" + key + "=" + value)
		if err != nil {
			return nil, err
		}
		_, value, _ = strings.Cut(arg, "=")
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env, nil
}
