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

// Limits of a log, in bytes.
const (
	MaxLog  = 4 << 20 // a longer log is cut
	keptLog = 1 << 20 // length after a cut
)

const (
	cutNotice  = "the log was full: older lines were removed"
	fullNotice = "the log is full: output of slirp4netns and the helpers is no longer recorded"
)

// LogTime is the format of times in a log (see [time.Layout]).
const LogTime = "2006-01-02T15:04:05.000Z07:00"

// Log is an instance's log. Everything that slirpctl writes to the log goes through it, so that lines are
// whole, have no control characters, and the file's size is bounded.
type Log struct {
	json bool // lines are JSON objects

	mu      sync.Mutex
	f       *os.File
	shared  bool // by Share
	written int  // bytes since it was opened, or in it since it was cut
	silent  bool // fullNotice has been written
}

// OpenLog opens one of the instance's logs, [LogFile] or [EgressLogFile], for appending. With asJSON its lines are JSON
// objects, also those of other processes that come through [Log.Foreign].
func (i *Instance) OpenLog(name string, asJSON bool) (*Log, error) {
	f, err := os.OpenFile(i.Path(name), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	return &Log{json: asJSON, f: f}, err
}

// Share returns the file, for a program that writes to it directly. The program's output is neither cut nor
// counted. A shared log is not cut; instead, what would make it too long is dropped.
func (l *Log) Share() *os.File {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shared = true
	return l.f
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }

// Write writes slirpctl's own lines.
func (l *Log) Write(lines []byte) (int, error) { return len(lines), l.write(lines, true) }

// notice formats a line about the log itself.
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

// Foreign returns a writer for the output of another process, named source in JSON. It escapes control characters and
// writes whole lines; Flush writes an unfinished one. It may be used concurrently.
func (l *Log) Foreign(source string) io.Writer {
	return &foreign{p: plainLines{w: &foreignLines{l, source}}}
}

type foreign struct {
	mu sync.Mutex
	p  plainLines
}

func (f *foreign) Write(output []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.p.Write(output)
}

// Flush writes an unfinished line.
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
	if l.written+len(lines) > MaxLog {
		switch {
		case !l.shared:
			if err := l.cut(); err != nil {
				return err
			}
		case !own || l.written+len(lines) > 2*MaxLog:
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
	if n > 0 && n < len(lines) { // a full disk: end the partial line
		_, _ = l.f.Write([]byte{'\n'})
	}
	return err
}

// Trim cuts a shared log too, once the program that it was shared with has ended.
func (l *Log) Trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if fi, err := l.f.Stat(); err == nil && fi.Size() > MaxLog {
		_ = l.cut()
	}
}

// cut removes all but the newest lines.
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
