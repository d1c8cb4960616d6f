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
	fs.StringVar(&o.bundle, "bundle", "", "the bundle `DIR`, which has a config.json")
	fs.BoolVar(&o.print, "print", false, "print the new config.json, and change nothing")
	options.AddFlags(fs)
	for _, name := range notForHooks {
		_ = fs.MarkHidden(name)
	}
}

// notForHooks are flags of `up` that a hook has no use for: it has no descriptors but three,
// its name is the container's, and it has to detach.
var notForHooks = []string{"name", "detach", "ready-fd", "exit-fd", "map-users", "pid-namespace", "dry-run"}

func newHookCmd(a *app) *cobra.Command {
	opts := &hookOptions{}
	cmd := &cobra.Command{
		Use:   "hook --bundle DIR [-p SPEC]... [--print]",
		Short: "Put slirpctl into an OCI bundle's hooks",
		Long: `Put slirpctl into the hooks of an OCI bundle, so that runc or crun give the
container a network before its program starts, and take it away in the end:
createRuntime calls slirpctl up, poststop calls slirpctl down. The container gets
a network namespace and a resolv.conf if it has none; all else in config.json
stays as it is. Doing it again replaces the flags.

The flags of slirpctl up go into the hook, as do the variables PATH, HOME,
XDG_RUNTIME_DIR, XDG_CONFIG_HOME, TMPDIR and SLIRPCTL_*, so that the hooks use the
configuration and the state directory of who runs this command.`,
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
		return wrongUsage("no bundle named", "slirpctl hook --bundle DIR")
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

// hookSetup makes the hooks from the flags, as the container will find them: with its
// annotations, which are checked here rather than when it starts.
func (a *app) hookSetup(fs *pflag.FlagSet, b *oci.Bundle) (oci.Setup, error) {
	self, err := os.Executable()
	if err != nil {
		return oci.Setup{}, fmt.Errorf("find my own path: %w", err)
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

// absolute makes the value of a flag that names a file independent of the directory, and refuses a
// file that won't be there when a container starts.
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
		return "", fault.Errorf(fault.Usage, "name a file that stays", "--%s %s: the hooks read it each time a container starts, when this pipe or descriptor is gone", name, value)
	}
	return "--" + name + "=" + path, nil
}

// hookEnv is the environment of the hooks: what finds programs, configuration and state.
// Runtimes differ in what they give to a hook that names none: some hand their own on, some
// nothing. A bundle made for another user does without the caller's own directories.
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
