package supervisor

import (
	"io"
	"sync"

	"github.com/sirupsen/logrus"
)

// fileHook copies what the logger says into the instance's log, at every level from info up.
type fileHook struct {
	mu  sync.Mutex
	out io.Writer // nil once closed
}

var fileFormat = &logrus.TextFormatter{DisableColors: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00", FullTimestamp: true}

func (h *fileHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *fileHook) Fire(e *logrus.Entry) error {
	line, err := fileFormat.Format(e)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out == nil {
		return nil
	}
	_, _ = h.out.Write(line) // a full disk must not make every message two
	return nil
}

func (h *fileHook) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out = nil
}
