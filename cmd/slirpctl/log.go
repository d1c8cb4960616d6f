package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// newLogger returns a logger that writes warnings and errors to w.
func newLogger(w io.Writer) *logrus.Logger {
	l := logrus.New()
	l.SetOutput(w)
	l.SetFormatter(plainFormat{})
	l.SetLevel(logrus.TraceLevel) // hooks filter: screenHook, and that of the instance's log
	l.SetOutput(io.Discard)
	l.AddHook(&screenHook{out: w, level: logrus.WarnLevel, format: plainFormat{wantColour(w)}})
	return l
}

// screenHook writes messages at or above level to out, which is stderr.
type screenHook struct {
	out    io.Writer
	level  logrus.Level
	format logrus.Formatter
}

func (h *screenHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *screenHook) Fire(e *logrus.Entry) error {
	if e.Level > h.level {
		return nil
	}
	line, err := h.format.Format(e)
	if err != nil {
		return err
	}
	_, err = h.out.Write(line)
	return err
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
	h := &screenHook{out: w, level: lv, format: plainFormat{wantColour(w)}}
	if format == "json" {
		h.format = &logrus.JSONFormatter{}
	}
	l.ReplaceHooks(logrus.LevelHooks{})
	l.AddHook(h)
	return nil
}
