package instance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a log, in bytes.
const (
	MostLog = 4 << 20 // then it is cut
	keptLog = 1 << 20 // to this
)

const (
	cutNotice  = "the log was full: what stood before this is gone"
	fullNotice = "the log is full: slirp4netns and the helpers are not heard any more"
)

// LogTime is how a log has the time (see [time.Layout]).
const LogTime = "2006-01-02T15:04:05.000Z07:00"

// Log is an instance's log. All that slirpctl writes to it goes through here: so the file holds
// whole and harmless lines, and not too many.
type Log struct {
	json bool // lines are JSON objects

	mu      sync.Mutex
	f       *os.File
	shared  bool
	written int // since it was opened or cut, and what it had then
	silent  bool
}

// OpenLog opens the instance's log for appending. With asJSON its lines are JSON objects, also those of
// other processes that come through [Log.Foreign].
func (i *Instance) OpenLog(asJSON bool) (*Log, error) {
	f, err := os.OpenFile(i.Path(LogFile), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	return &Log{json: asJSON, f: f}, err
}

// Share returns the file, for a program that writes to it by itself from now on. Its words are
// its own: they are neither cut nor counted. So that they stay, what would make a shared log too long
// is left out.
func (l *Log) Share() *os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shared = true
	return l.f
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }

// Write writes lines of slirpctl's own.
func (l *Log) Write(lines []byte) (int, error) { return len(lines), l.write(lines, true) }

// notice is a line of the log's own.
func (l *Log) notice(text string) []byte {
	if l.json {
		return jsonLine("warning", "slirpctl", text)
	}
	return []byte("slirpctl: " + text + "\n")
}

func jsonLine(level, source, text string) []byte {
	line, _ := json.Marshal(map[string]string{"level": level, "source": source, "msg": text, "time": time.Now().Format(LogTime)})
	return append(line, '\n')
}

// Foreign returns a writer for the words of one other process, of which JSON names source: control characters are escaped, and
// lines kept whole: one that is not ended comes with Flush. It may be used concurrently.
func (l *Log) Foreign(source string) io.Writer {
	return &foreign{p: plainLines{w: &foreignLines{l, source}}}
}

type foreign struct {
	mu sync.Mutex
	p  plainLines
}

func (f *foreign) Write(words []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.p.Write(words)
}

// Flush writes a line that was not ended.
func (f *foreign) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.p.rest) > 0 {
		_, _ = f.p.Write([]byte{'\n'})
	}
	return nil
}

type foreignLines struct {
	log    *Log
	source string
}

func (f *foreignLines) Write(lines []byte) (int, error) {
	text := lines
	if f.log.json {
		text = nil
		for line := range bytes.Lines(lines) {
			text = append(text, jsonLine("info", f.source, string(bytes.TrimSuffix(line, []byte("\n"))))...)
		}
	}
	return len(lines), f.log.write(text, false)
}

func (l *Log) write(lines []byte, own bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written+len(lines) > MostLog {
		switch {
		case !l.shared:
			if err := l.cut(); err != nil {
				return err
			}
		case !own || l.written+len(lines) > 2*MostLog:
			if !l.silent {
				l.silent = true
				l.append(l.notice(fullNotice))
			}
			return nil
		}
	}
	return l.append(lines)
}

func (l *Log) append(lines []byte) error {
	n, err := l.f.Write(lines)
	l.written += n
	if n > 0 && n < len(lines) { // a full disk: no line of two halves
		_, _ = l.f.Write([]byte{'\n'})
	}
	return err
}

// cut leaves the newest lines.
func (l *Log) cut() error {
	fi, err := l.f.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, min(keptLog, fi.Size()))
	n, err := l.f.ReadAt(tail, fi.Size()-int64(len(tail)))
	if err != nil && err != io.EOF {
		return fmt.Errorf("cut the log: %w", err)
	}
	_, tail, _ = bytes.Cut(tail[:n], []byte{'\n'})
	if err := l.f.Truncate(0); err != nil {
		return fmt.Errorf("cut the log: %w", err)
	}
	l.written = 0
	if err := l.append(l.notice(cutNotice)); err != nil {
		return err
	}
	return l.append(tail)
}
