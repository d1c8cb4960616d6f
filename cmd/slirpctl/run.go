package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// streams are the standard ones: stdout is the answer, everything else goes to err.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// app is what every command is built from.
type app struct {
	streams
	log     *logrus.Logger
	sources options.Sources
	cfg     options.Merged // what flags, environment and files say; loaded before each command runs

	completing []string // the words so far, the last perhaps half, if this is a completion
	unknown    error    // instead of the help of a command, because another was asked for
}

// statusError carries an exit status that is an answer, not a failure: nothing is printed.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, std streams) int {
	a := &app{streams: std, log: newLogger(std.err), sources: options.SystemSources()}
	root := newRootCmd(a)
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		a.completing = args[1:]
		plainUsages(root)
	}
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = a.unknown
	}
	var st statusError
	if errors.As(err, &st) {
		return int(st)
	}
	if err == nil {
		return exitOK
	}
	err = diagnose(err)
	a.printError(args, err)
	if passesStatusOn(cmd, args) {
		if ee, ok := errorAs[*nscommand.ExecError](err); ok {
			return ee.Status
		}
		return nscommand.StatusFailed
	}
	return exitCode(err)
}

// passesStatusOn reports whether the exit status of this command line is that of a COMMAND: then a
// failure of slirpctl's must not be taken for COMMAND's.
func passesStatusOn(cmd *cobra.Command, args []string) bool {
	switch cmd.CommandPath() {
	case "slirpctl exec":
		return true
	case "slirpctl up":
		dash := slices.Index(args, "--")
		return dash >= 0 && !detaches(args[:dash])
	}
	return false
}

// lenientFlags parses those of args that it knows, for what must be found out about a wrong command line.
func lenientFlags(args []string, add ...func(*pflag.FlagSet)) *pflag.FlagSet {
	fs := pflag.NewFlagSet("slirpctl", pflag.ContinueOnError)
	fs.ParseErrorsAllowlist.UnknownFlags = true
	fs.Usage = func() {}
	for _, f := range add {
		f(fs)
	}
	_ = fs.Parse(args)
	return fs
}

// detaches reports whether `up` with these arguments detaches, however wrong they, or the configuration,
// are otherwise.
func detaches(args []string) bool {
	all := lenientFlags(args, options.AddFlags, options.AddGeneralFlags)
	few := pflag.NewFlagSet("up", pflag.ContinueOnError)
	detach := all.Lookup("detach")
	few.AddFlag(detach)
	few.AddFlag(all.Lookup("config"))
	cfg, err := options.Load(few, options.SystemSources())
	if err != nil {
		return detach.Changed && detach.Value.String() == "true"
	}
	return cfg.Detach
}

func newRootCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slirpctl",
		Short: "Give a network namespace a working network without root",
		Long: `Give a Linux network namespace a working network without root, by driving
slirp4netns: start it with the right options, watch over it, forward ports into
the namespace, and say what this host can do.`,
		Example: `  slirpctl up -- bash                    a shell with a network of its own
  slirpctl up 4711                       a network for the namespace of process 4711
  slirpctl up -d -p 8080:80 --name web 4711
  slirpctl forward add web 8443:443`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // see newCompletionCmd
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.load(cmd) },
		Args:              cobra.ArbitraryArgs, // else cobra has words of its own for an unknown command
		Version:           versionText(),
	}
	cmd.SetVersionTemplate("{{.Version}}")
	options.AddGeneralFlags(cmd.PersistentFlags())
	cmd.SetFlagErrorFunc(flagError)
	// Help is what cobra shows for a command that has others below it, and finds none of them.
	showHelp := cmd.HelpFunc()
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
			a.unknown = unknownCommand(cmd, words[0])
			return
		}
		showHelp(cmd, args)
	})
	cmd.SetHelpCommand(newHelpCmd())
	ip := newIPCmd(a.lookupValues)
	// Addresses are calculated from nothing, so no file can stand in the way; only an instance must
	// be looked for in the right directory.
	ip.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("name") {
			return nil
		}
		return a.load(cmd)
	}
	cmd.AddCommand(
		newUpCmd(a),
		newDownCmd(a),
		newListCmd(a),
		newForwardCmd(a),
		newExecCmd(a),
		newHookCmd(a),
		newLogsCmd(a),
		ip,
		newProbeCmd(func() probeSurroundings { return probeSurroundings{a.stateDir(), a.cfg.Options} }),
		newConfigCmd(a),
		newVersionCmd(a),
		newCompletionCmd(a),
	)
	a.complete(cmd)
	return cmd
}

// printError prints one line for the error, and one for the hint, or one JSON object. Quoted words of
// others can't break out of their line or steer the terminal.
func (a *app) printError(args []string, err error) {
	hint := fault.Hint(err)
	if a.jsonLog(args) {
		data := logrus.Fields{}
		if hint != "" {
			data["hint"] = plaintext.Line(hint)
		}
		a.writeJSON(logrus.ErrorLevel, plaintext.Line(err.Error()), data)
		return
	}
	fmt.Fprintf(a.err, "slirpctl: error: %s\n", plaintext.Line(err.Error()))
	if hint != "" {
		fmt.Fprintf(a.err, "slirpctl: hint: %s\n", plaintext.Line(hint))
	}
}

// load merges the configuration for a command, once, and sets the log up.
func (a *app) load(cmd *cobra.Command) error {
	if name := cmd.Name(); name == cobra.ShellCompRequestCmd || name == cobra.ShellCompNoDescRequestCmd {
		return nil // a mistake in the configuration is no reason to complete nothing
	}
	cfg, err := options.Load(cmd.Flags(), a.sources)
	if err != nil {
		return err
	}
	a.cfg = cfg
	if err := setLog(a.log, a.err, cfg.LogLevel, cfg.LogFormat); err != nil {
		return err
	}
	warnings := cfg.Warnings
	if cmd.Flags().Lookup("sandbox") != nil { // it takes the flags of up
		warnings = append(warnings, cfg.UpWarnings...)
	}
	for _, w := range warnings {
		a.log.Warn(w)
	}
	return nil
}

// stateDir returns the base directory of instances.
func (a *app) stateDir() string {
	if a.cfg.StateDir != "" {
		return a.cfg.StateDir
	}
	return instance.DefaultBase(os.Getenv)
}

// openBase opens the base directory for commands that look at what runs.
func (a *app) openBase() (instance.Base, error) { return instance.OpenBase(a.stateDir()) }
