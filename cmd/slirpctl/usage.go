package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// wrongUsage returns an error about the command line or the configuration, with a hint.
func wrongUsage(msg, hint string) error { return fault.New(fault.Usage, msg, hint) }

// usagef is like wrongUsage, without a hint.
func usagef(format string, a ...any) error { return fault.Errorf(fault.Usage, "", format, a...) }

// didYouMean returns a hint that names the nearest of known or, after otherwise, all.
func didYouMean(word string, known []string, otherwise string) string {
	if near := options.Nearest(word, known); near != "" {
		return "did you mean " + near + "?"
	}
	return otherwise + strings.Join(known, ", ")
}

// takes returns a check for the arguments of a command. A name in brackets is optional.
func takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		usage := "usage: " + cmd.UseLine()
		if len(args) > len(names) {
			return wrongUsage(fmt.Sprintf("unexpected argument %q", args[len(names)]), usage)
		}
		for i, name := range names {
			if i >= len(args) && !strings.HasPrefix(name, "[") {
				return wrongUsage("no "+name+" given", usage)
			}
		}
		return nil
	}
}

// unknownCommand returns the error for word, which is no subcommand of cmd. The hint names the nearest one.
func unknownCommand(cmd *cobra.Command, word string) error {
	full := map[string]string{"help": cmd.CommandPath() + " --help"}
	names := []string{"help"}
	meant := ""
	for _, sub := range cmd.Commands() {
		if strings.HasPrefix(sub.Name(), "__") {
			continue // cobra's own
		}
		for _, name := range append([]string{sub.Name()}, sub.Aliases...) {
			names = append(names, name)
			full[name] = sub.CommandPath()
		}
		if slices.Contains(sub.SuggestFor, word) { // what other programs call it
			meant = sub.CommandPath()
		}
	}
	hint := cmd.CommandPath() + " --help shows the commands"
	if meant == "" {
		meant = full[options.Nearest(word, names)]
	}
	if meant != "" {
		hint = "did you mean " + meant + "?"
	}
	return wrongUsage(fmt.Sprintf("unknown command %q", cmd.CommandPath()+" "+word), hint)
}

// flagError rewords an error of pflag's about the command line of cmd. Values of configuration keys are checked
// later, by package options.
func flagError(cmd *cobra.Command, err error) error {
	if args := cmd.Flags().Args(); cmd.HasSubCommands() && len(args) > 0 {
		return unknownCommand(cmd, args[0]) // its flags are not known
	}
	e := &fault.Error{Kind: fault.Usage, Help: cmd.CommandPath() + " --help shows the flags"}
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	var syntax *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown):
		e.Msg = "unknown flag --" + unknown.GetSpecifiedName()
		word := unknown.GetSpecifiedName()
		if letters := unknown.GetSpecifiedShortnames(); letters != "" {
			e.Msg = "unknown flag -" + unknown.GetSpecifiedName()
			if word = letters; len(letters) > 1 {
				e.Msg += " in -" + letters
			}
		}
		if near := nearestFlag(cmd, word); near != "" {
			e.Help = "did you mean --" + near + "?"
		}
	case errors.As(err, &missing):
		e.Msg = "flag --" + missing.GetFlag().Name + " needs a value"
	case errors.As(err, &invalid):
		reason := map[string]string{
			"int": "not a whole number", "bool": "neither true nor false", "duration": "not a duration such as 500ms, 10s or 1m30s",
		}[invalid.GetFlag().Value.Type()]
		if reason == "" {
			reason = "not a " + invalid.GetFlag().Value.Type()
		}
		e.Msg = fmt.Sprintf("flag --%s: %q: %s", invalid.GetFlag().Name, invalid.GetValue(), reason)
	case errors.As(err, &syntax):
		e.Msg = fmt.Sprintf("%s is not a flag", syntax.GetSpecifiedFlag())
	default:
		return err
	}
	return e
}

func nearestFlag(cmd *cobra.Command, word string) string {
	if len(word) < 2 {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return options.Nearest(word, names)
}

// setHelp makes the command help of root fail for an unknown command, which cobra's does not.
func setHelp(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, _ := root.Find([]string{"help"})
	help.Use, help.Short, help.Long = "help [COMMAND]...", "Show the help of a command", ""
	help.PersistentPreRunE = func(*cobra.Command, []string) error { return nil }
	show := help.Run
	help.RunE = func(cmd *cobra.Command, args []string) error {
		at, rest, err := root.Find(args)
		switch {
		case err != nil:
			return err
		case len(rest) > 0 && at.HasSubCommands():
			return unknownCommand(at, rest[0])
		case len(rest) > 0:
			return wrongUsage(fmt.Sprintf("unexpected argument %q", rest[0]), at.CommandPath()+" has no subcommands")
		}
		show(cmd, args)
		return nil
	}
}
