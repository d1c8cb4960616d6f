package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is the maximum width of a help text, in columns.
const helpWidth = 100

// flagGroup is a heading of a help text, and the flags below it in their order.
type flagGroup struct{ title, flags string }

// flagGroups are the groups of the flags of `up`.
func flagGroups() []flagGroup {
	return []flagGroup{
		{"Target flags", "netns userns oci-state wait-netns user map-users pid-namespace"},
		{"Port flags", "publish port-handler source-ip-transparent auto-exclude annotation-ports"},
		{"Network flags", "cidr mtu ipv6 allow-host-loopback outbound-addr outbound-addr6 disable-dns tap-name macaddress"},
		{"Egress flags", "egress allow deny egress-policy egress-record fail-on-deny upstream-proxy preserve-fds"},
		{"Security flags", "sandbox seccomp"},
		{"Life cycle flags", "name detach wait-listen timeout restart ready-fd exit-fd pid-file slirp4netns-path dry-run"},
		{"Podman's spelling", "network option"},
		{"Output flags", "json format"},
	}
}

// showUsage writes the usage of cmd: what cobra writes, with the flags of `up` in groups and nothing wider than
// helpWidth or the terminal.
func showUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	var b strings.Builder
	title := func(text string) { b.WriteString("\n" + paint(wantColour(w), bold, text+":") + "\n") }
	b.WriteString(paint(wantColour(w), bold, "Usage:") + "\n")
	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", cmd.CommandPath())
	}
	if len(cmd.Aliases) > 0 {
		title("Aliases")
		fmt.Fprintf(&b, "  %s\n", cmd.NameAndAliases())
	}
	if cmd.HasExample() {
		title("Examples")
		b.WriteString(cmd.Example + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		title("Available commands")
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	width := helpWidth
	if columns := terminalWidth(w); columns >= 60 {
		width = min(width, columns)
	}
	local, headings := groupedFlags(cmd.LocalFlags())
	for line := range strings.Lines(local.FlagUsagesWrapped(width)) {
		if m := flagLine().FindStringSubmatch(line); m != nil && headings[m[1]] != "" {
			title(headings[m[1]])
		}
		b.WriteString(line)
	}
	global := pflag.NewFlagSet("", pflag.ContinueOnError)
	global.AddFlagSet(cmd.InheritedFlags())
	if local.Lookup("help") == nil {
		global.AddFlag(cmd.LocalFlags().Lookup("help"))
	}
	if global.HasAvailableFlags() {
		title("Global flags")
		b.WriteString(global.FlagUsagesWrapped(width))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nUse \"%s [command] --help\" for more information about a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// groupedFlags returns the flags of a command that its help shows, in their order, and the headings above the first
// flags of groups. They stay in one set, so that all descriptions begin in the same column.
func groupedFlags(own *pflag.FlagSet) (shown *pflag.FlagSet, headings map[string]string) {
	shown, headings = pflag.NewFlagSet("", pflag.ContinueOnError), map[string]string{}
	shown.SortFlags = false
	started := map[string]bool{}
	add := func(group string, f *pflag.Flag) {
		if f == nil || f.Hidden || shown.Lookup(f.Name) != nil {
			return
		}
		if !started[group] {
			started[group], headings[f.Name] = true, group
		}
		shown.AddFlag(f)
	}
	grouped := own.Lookup("publish") != nil
	if grouped {
		for _, g := range flagGroups() {
			for _, name := range strings.Fields(g.flags) {
				add(g.title, own.Lookup(name))
			}
		}
	}
	own.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" || !grouped {
			add("Flags", f)
		}
	})
	return shown, headings
}

// flagLine matches the first line of a flag in a help text.
var flagLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^ {2}(?:-\w, | {4})--([a-z0-9-]+)`) })
