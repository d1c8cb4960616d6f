package supervisor

import (
	"fmt"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/childlog"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
)

// fileHook copies log entries of a level and above into the instance's log.
type fileHook struct {
	level  logrus.Level
	format logrus.Formatter
	out    io.Writer
}

var fileFormat = &logrus.TextFormatter{DisableColors: true, TimestampFormat: instance.LogTime, FullTimestamp: true}

func (h *fileHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *fileHook) Fire(e *logrus.Entry) error {
	if e.Level > h.level {
		return nil
	}
	line, err := h.format.Format(e)
	if err != nil {
		return err
	}
	_, _ = h.out.Write(line) // logrus would print a second message for each error, say on a full disk or once it is closed
	return nil
}

// openLog opens the instance's log, and copies what this process logs into it.
func (s *supervisor) openLog() (err error) {
	if s.instLog, err = s.inst.OpenLog(instance.LogFile, s.env.LogJSON); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	hook := &fileHook{level: logrus.InfoLevel, format: fileFormat, out: s.instLog}
	if s.env.LogLevel != nil {
		hook.level = *s.env.LogLevel
	}
	if s.env.LogJSON {
		hook.format = &logrus.JSONFormatter{TimestampFormat: instance.LogTime}
	}
	s.env.Log.AddHook(hook)
	s.atEnd(func() { s.instLog.Close() })
	s.log.Debugf("instance %s: %s", s.inst.Name(), s.inst.Dir())
	return nil
}

// slirpLog returns the writer for slirp4netns's messages. Those of every start are for --log-level debug.
func (s *supervisor) slirpLog() io.Writer {
	drop := launcher.Routine
	if s.env.LogLevel != nil && *s.env.LogLevel >= logrus.DebugLevel {
		drop = nil
	}
	return s.instLog.Foreign("slirp4netns", drop)
}

// recordOutput makes the pipe through which the output of a detached COMMAND goes to a log of its own.
func (s *supervisor) recordOutput() (*childlog.Log, error) {
	log, err := s.inst.OpenLog(instance.OutputFile, s.env.LogJSON)
	if err != nil {
		return nil, fmt.Errorf("open the log of the command's output: %w", err)
	}
	s.atEnd(func() { log.Close() })
	return childlog.NewBlocking(log.Command())
}
