package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/writer"

	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// newLogger returns a logger that writes warnings and errors to w.
func newLogger(w io.Writer) *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard) // hooks write, each from its level on: setScreen's, and that of the instance's log
	l.SetLevel(logrus.TraceLevel)
	setScreen(l, w, logrus.WarnLevel, plainFormat{wantColour(w)})
	return l
}

// setScreen makes l write messages at or above level to w, which is stderr.
func setScreen(l *logrus.Logger, w io.Writer, level logrus.Level, format logrus.Formatter) {
	l.SetFormatter(format)
	l.ReplaceHooks(logrus.LevelHooks{})
	l.AddHook(&writer.Hook{Writer: w, LogLevels: logrus.AllLevels[:level+1]})
}

// plainFormat formats messages as "slirpctl: warning: …".
type plainFormat struct{ colour bool }

func (f plainFormat) Format(e *logrus.Entry) ([]byte, error) {
	var b strings.Builder
	code := dim
	switch {
	case e.Level <= logrus.ErrorLevel:
		code = red
	case e.Level == logrus.WarnLevel:
		code = yellow
	}
	fmt.Fprintf(&b, "slirpctl: %s %s", paint(f.colour, code, e.Level.String()+":"), plaintext.Clean(e.Message))
	for k, v := range e.Data {
		fmt.Fprintf(&b, " %s=%q", k, fmt.Sprint(v))
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

// jsonLog reports whether messages are printed as JSON. If the configuration has not been loaded or is invalid,
// the command line and the environment decide.
func (a *app) jsonLog(args []string) bool {
	if a.cfg.LogFormat != "" {
		return a.cfg.LogFormat == "json"
	}
	fs := lenientFlags(args, options.AddGeneralFlags)
	if cfg, err := options.Load(fs, options.SystemSources()); err == nil {
		return cfg.LogFormat == "json"
	}
	if f := fs.Lookup("log-format"); f.Changed {
		return f.Value.String() == "json"
	}
	return os.Getenv("SLIRPCTL_LOG_FORMAT") == "json"
}

// writeJSON writes one message as a JSON object.
func (a *app) writeJSON(level logrus.Level, msg string, data logrus.Fields) {
	line, err := (&logrus.JSONFormatter{}).Format(&logrus.Entry{Logger: a.log, Time: time.Now(), Level: level, Message: msg, Data: data})
	if err == nil {
		_, _ = a.err.Write(line)
	}
}

// note prints a message that is not a warning.
func (a *app) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if a.cfg.LogFormat == "json" {
		a.writeJSON(logrus.InfoLevel, text, nil)
		return
	}
	fmt.Fprintf(a.err, "slirpctl: %s\n", text)
}

// fileLevel returns the level of the instance's log: --log-level, or nil, which means info, if it isn't set.
func (a *app) fileLevel() *logrus.Level {
	if !a.cfg.IsSet("log-level") {
		return nil
	}
	level, err := logrus.ParseLevel(a.cfg.LogLevel)
	if err != nil {
		return nil
	}
	return &level
}

// setLog applies --log-level and --log-format.
func setLog(l *logrus.Logger, w io.Writer, level, format string) error {
	lv, err := logrus.ParseLevel(level)
	if err != nil {
		return usagef("--log-level %q: want trace, debug, info, warning or error", level)
	}
	if format == "json" {
		setScreen(l, w, lv, &logrus.JSONFormatter{})
	} else {
		setScreen(l, w, lv, plainFormat{wantColour(w)})
	}
	return nil
}
