package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/target"
)

type completer = cobra.CompletionFunc

const noFiles = cobra.ShellCompDirectiveNoFileComp

// states returns the states of the instances. Completion prints no errors, so on failure it returns nil.
func (a *app) states(cmd *cobra.Command) []instance.State {
	if cfg, err := options.Load(cmd.Flags(), a.sources); err == nil {
		a.cfg = cfg
	} else { // only the state directory is needed here
		a.cfg.StateDir = os.Getenv("SLIRPCTL_STATE_DIR")
		if f := cmd.Flag("state-dir"); f != nil && f.Changed {
			a.cfg.StateDir = f.Value.String()
		}
	}
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	// openBase creates the directory; completion must not.
	if _, err := os.Stat(a.stateDir()); err != nil {
		return nil
	}
	base, err := a.openBase()
	if err != nil {
		return nil
	}
	entries, err := base.List(ctx)
	if err != nil {
		return nil
	}
	if takesRecords[cmd.CommandPath()] {
		ended, _ := base.Ended(ctx)
		entries = append(entries, ended...)
	}
	return control.Query(ctx, entries)
}

// takesRecords are the commands that take the name of a detached COMMAND that has ended.
var takesRecords = map[string]bool{"slirpctl down": true, "slirpctl list": true, "slirpctl logs": true, "slirpctl wait": true}

// completeInstances completes names of instances that are not given yet, for at most limit arguments
// (0: any number).
func (a *app) completeInstances(limit int) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if limit > 0 && len(args) >= limit {
			return nil, noFiles
		}
		var out []cobra.Completion
		for _, st := range a.states(cmd) {
			if !slices.Contains(args, st.Name) {
				out = append(out, cobra.CompletionWithDesc(st.Name, targetText(st)))
			}
		}
		return out, noFiles
	}
}

// completeForwards completes NAME, then the ids and specs of its forwards.
func (a *app) completeForwards(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 && !cmd.Flags().Changed("api-socket") {
		return a.completeInstances(1)(cmd, args, toComplete)
	}
	var out []cobra.Completion
	for _, st := range a.states(cmd) {
		if len(args) == 0 || st.Name != args[0] {
			continue
		}
		for _, p := range st.Ports {
			out = append(out, cobra.CompletionWithDesc(strconv.Itoa(p.ID), portText(p)))
		}
		for _, p := range st.Ports {
			out = append(out, p.Forward.String())
		}
	}
	return out, noFiles
}

// completeProcesses completes the PIDs that `up` accepts: those of processes in a network namespace
// other than slirpctl's own.
func completeProcesses(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	var out []cobra.Completion
	for _, p := range target.Candidates() {
		if strings.HasPrefix(p.Command, "slirpctl __") {
			continue // a helper of an instance
		}
		out = append(out, cobra.CompletionWithDesc(strconv.Itoa(p.PID), p.Command))
	}
	return out, noFiles
}

// orCommand completes COMMAND after --, and before it what before does.
func (a *app) orCommand(before completer) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if i := slices.Index(a.completing, "--"); i >= 0 && i < len(a.completing)-1 {
			return completeCommand(len(a.completing)-i-2, toComplete)
		}
		return before(cmd, args, toComplete)
	}
}

// completeCommand completes word n of a command line: the first with programs on PATH, all with files.
func completeCommand(n int, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if n > 0 || strings.Contains(toComplete, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []cobra.Completion
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), toComplete) || slices.Contains(out, e.Name()) {
				continue
			}
			if fi, err := os.Stat(filepath.Join(dir, e.Name())); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
				out = append(out, e.Name())
			}
		}
	}
	return out, cobra.ShellCompDirectiveDefault
}

// stripBackquotes removes the backquotes around value names from the usage texts of flags, because completions
// show these texts unchanged.
func stripBackquotes(cmd *cobra.Command) {
	plain := func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") }
	cmd.Flags().VisitAll(plain)
	cmd.PersistentFlags().VisitAll(plain)
	for _, sub := range cmd.Commands() {
		stripBackquotes(sub)
	}
}

// completeNetns completes names in /run/netns, and paths.
func completeNetns(_ *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.Contains(toComplete, "/") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return baseNames("/run/netns/*"), cobra.ShellCompDirectiveDefault
}

// completeOption completes the K=V of -o.
func completeOption(_ *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	name, _, hasValue := strings.Cut(toComplete, "=")
	var out []cobra.Completion
	for _, k := range options.Keys() {
		if k.Podman == "" || hasValue && k.Podman != name {
			continue
		}
		if !hasValue {
			usage := strings.ReplaceAll(k.Usage, "`", "")
			out = append(out, cobra.CompletionWithDesc(k.Podman+"=", usage))
			continue
		}
		values := k.Values
		if k.Kind == options.KindBool {
			values = []string{"true", "false"}
		}
		for _, v := range values {
			out = append(out, name+"="+v)
		}
	}
	return out, noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeFilter completes the KEY=VALUE of `list --filter`.
func completeFilter(_ *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var out []cobra.Completion
	if strings.HasPrefix(toComplete, "state=") {
		for _, s := range instanceStates() {
			out = append(out, "state="+s)
		}
		return out, noFiles
	}
	for _, k := range filterKeys() {
		out = append(out, k+"=")
	}
	return out, noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeFeatures completes the comma-separated list of --require.
func completeFeatures(_ *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	done := ""
	if i := strings.LastIndexByte(toComplete, ','); i >= 0 {
		done = toComplete[:i+1]
	}
	var out []cobra.Completion
	for _, f := range probe.Requirable() {
		if !slices.Contains(strings.Split(done, ","), f) {
			out = append(out, done+f)
		}
	}
	return out, noFiles | cobra.ShellCompDirectiveNoSpace
}

// completeInterfaces completes the names of this host's interfaces.
func completeInterfaces(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return baseNames("/sys/class/net/*"), noFiles
}

// baseNames returns the names of the files that match pattern, without their directories.
func baseNames(pattern string) (names []cobra.Completion) {
	paths, _ := filepath.Glob(pattern)
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

// complete registers completions for cmd and all commands below it. Call it after all are added.
func (a *app) complete(cmd *cobra.Command) {
	none := cobra.NoFileCompletions
	flags := map[string]completer{
		"netns": completeNetns, "option": completeOption, "require": completeFeatures,
		"outbound-addr": completeInterfaces, "outbound-addr6": completeInterfaces,
		"network": cobra.FixedCompletions([]string{"slirp4netns"}, noFiles|cobra.ShellCompDirectiveNoSpace),
		"cidr":    none, "mtu": none, "publish": none, "timeout": none, "wait-netns": none, "guest-ip": none,
		"tap-name": none, "macaddress": none, "ready-fd": none, "exit-fd": none,
		"filter": completeFilter,
		"format": cobra.FixedCompletions([]string{formatTable, formatJSON}, noFiles),
	}
	for _, k := range options.Keys() {
		if len(k.Values) > 0 {
			flags[k.Name] = cobra.FixedCompletions(k.Values, noFiles)
		}
	}
	a.completeTree(cmd, flags)
}

// withoutControls removes control characters from descriptions, such as the command lines of other users'
// processes, and drops values that contain any.
func withoutControls(complete completer) completer {
	if complete == nil {
		return nil
	}
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		list, directive := complete(cmd, args, toComplete)
		var out []cobra.Completion
		for _, c := range list {
			value, description, _ := strings.Cut(c, "\t")
			if launcher.Printable(value) == value {
				out = append(out, cobra.CompletionWithDesc(value, launcher.Printable(description)))
			}
		}
		return out, directive
	}
}

func (a *app) completeTree(cmd *cobra.Command, flags map[string]completer) {
	cmd.ValidArgsFunction = withoutControls(cmd.ValidArgsFunction)
	set := func(f *pflag.Flag) {
		complete := flags[f.Name]
		if cmd.Name() == "ip" && f.Name == "name" {
			complete = a.completeInstances(0)
		}
		if complete != nil {
			// The only error is that the command has registered one itself.
			_ = cmd.RegisterFlagCompletionFunc(f.Name, withoutControls(complete))
		}
	}
	cmd.Flags().VisitAll(set)
	cmd.PersistentFlags().VisitAll(set)
	for _, sub := range cmd.Commands() {
		a.completeTree(sub, flags)
	}
}
