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

// streams are the standard streams. Results go to out, everything else to err.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// app is what all commands share.
type app struct {
	streams
	log     *logrus.Logger
	sources options.Sources
	cfg     options.Merged // the merged configuration; loaded before the command runs

	completing []string // arguments of a completion request; the last may be incomplete
	unknown    error    // unknown subcommand; reported instead of showing help
}

// statusError is the exit status of COMMAND. It is passed on, and no error is printed.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, std streams) int {
	a := &app{streams: std, log: newLogger(std.err), sources: options.SystemSources()}
	root := newRootCmd(a)
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		a.completing = args[1:]
		stripBackquotes(root)
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
	if returnsCommandStatus(cmd, args) {
		if ee, ok := errors.AsType[*nscommand.ExecError](err); ok {
			return ee.Status
		}
		return nscommand.StatusFailed
	}
	return exitCode(err)
}

// returnsCommandStatus reports whether slirpctl exits with the status of COMMAND. If so, its own failures have
// statuses from 125 on.
func returnsCommandStatus(cmd *cobra.Command, args []string) bool {
	switch cmd.CommandPath() {
	case "slirpctl exec", "slirpctl wait":
		return true
	case "slirpctl up":
		dash := slices.Index(args, "--")
		return dash >= 0 && !detaches(args[:dash])
	}
	return false
}

// lenientFlags parses the flags that add registers and ignores everything else in args, which may be invalid.
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

// detaches reports whether `up` with these arguments detaches. The arguments and the configuration may be invalid.
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
		Long: `Give a Linux network namespace a working network without root. slirpctl runs
slirp4netns: it starts it with the right options, restarts it if it dies, forwards
ports into the namespace, and reports what the host supports.`,
		Example: `  slirpctl up -- bash                    a shell with a network of its own
  slirpctl up 4711                       a network for the namespace of process 4711
  slirpctl up -d -p 8080:80 --name web 4711
  slirpctl forward add web 8443:443`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true}, // see newCompletionCmd
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.load(cmd) },
		Args:              cobra.ArbitraryArgs, // otherwise cobra reports unknown commands in its own way
		Version:           versionText(),
	}
	cmd.SetVersionTemplate("{{.Version}}")
	options.AddGeneralFlags(cmd.PersistentFlags())
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetUsageFunc(showUsage)
	// For an unknown subcommand, cobra shows the help of the parent command.
	showHelp := cmd.HelpFunc()
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
			a.unknown = unknownCommand(cmd, words[0])
			return
		}
		showHelp(cmd, args)
	})
	ip := newIPCmd(a.lookupValues)
	// Only --name needs the configuration, for the state directory. Without it, a mistake in the configuration is
	// no error.
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
		newInspectCmd(a),
		newPortCmd(a),
		newForwardCmd(a),
		newEgressCmd(a),
		newExecCmd(a),
		newHookCmd(a),
		newLogsCmd(a),
		newWaitCmd(a),
		ip,
		newProbeCmd(a),
		newConfigCmd(a),
		newVersionCmd(a),
		newCompletionCmd(a),
	)
	setHelp(cmd)
	a.complete(cmd)
	return cmd
}

// printError prints one line for the error and one for the hint, or one JSON object. Control characters in quoted
// text are escaped.
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
	colour := wantColour(a.err)
	fmt.Fprintf(a.err, "slirpctl: %s %s\n", paint(colour, red, "error:"), plaintext.Line(err.Error()))
	if hint != "" {
		fmt.Fprintf(a.err, "slirpctl: %s %s\n", paint(colour, bold, "hint:"), plaintext.Line(hint))
	}
}

// load loads the configuration for cmd and sets up the log.
func (a *app) load(cmd *cobra.Command) error {
	if name := cmd.Name(); name == cobra.ShellCompRequestCmd || name == cobra.ShellCompNoDescRequestCmd {
		return nil // complete even if the configuration is invalid
	}
	flags := cmd.Flags()
	if cmd.Name() == "exec" {
		flags = cmd.InheritedFlags() // its --user is not that of up
	}
	cfg, err := options.Load(flags, a.sources)
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

// openBase opens the base directory of instances, and creates it if it doesn't exist.
func (a *app) openBase() (instance.Base, error) { return instance.OpenBase(a.stateDir()) }
