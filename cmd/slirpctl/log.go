package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/launcher"
)

// newLogger returns a logger that says warnings and worse on w.
func newLogger(w io.Writer) *logrus.Logger {
	l := logrus.New()
	l.SetOutput(w)
	l.SetFormatter(plainFormat{})
	l.SetLevel(logrus.TraceLevel) // the instance's log gets all; screen filters
	l.SetOutput(io.Discard)
	l.AddHook(&screenHook{out: w, level: logrus.WarnLevel, format: plainFormat{}})
	return l
}

// screenHook writes what is at or above a level to stderr.
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

// plainFormat is "slirpctl: warning: …".
type plainFormat struct{}

func (plainFormat) Format(e *logrus.Entry) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "slirpctl: %s: %s", e.Level, launcher.Printable(e.Message))
	for k, v := range e.Data {
		fmt.Fprintf(&b, " %s=%q", k, fmt.Sprint(v))
	}
	b.WriteByte('\n')
	return []byte(b.String()), nil
}

// setLog applies --log-level and --log-format.
func setLog(l *logrus.Logger, w io.Writer, level, format string) error {
	lv, err := logrus.ParseLevel(level)
	if err != nil {
		return usagef("--log-level %q: want trace, debug, info, warning or error", level)
	}
	h := &screenHook{out: w, level: lv, format: plainFormat{}}
	if format == "json" {
		h.format = &logrus.JSONFormatter{}
	}
	l.ReplaceHooks(logrus.LevelHooks{})
	l.AddHook(h)
	return nil
}
