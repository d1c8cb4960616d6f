package instance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// Limits of a log, in bytes.
const (
	MaxLog  = 4 << 20 // a longer log is cut
	keptLog = 1 << 20 // length after a cut
	maxLine = 64 << 10
)

const cutNotice = "the log was full: older lines were removed"

// LogTime is the format of times in a log (see [time.Layout]).
const LogTime = "2006-01-02T15:04:05.000Z07:00"

// sourceTime is the format of the times of other processes' lines: no two have the same.
const sourceTime = "2006-01-02T15:04:05.000000000Z07:00"

// Log is one of an instance's logs. Everything that is written to a log goes through it, so that lines are whole, have
// no control characters, and the file's size is bounded.
type Log struct {
	json bool // lines are JSON objects

	mu      sync.Mutex
	f       *os.File
	written int // bytes since it was opened, or in it since it was cut
	last    time.Time
}

// OpenLog opens one of the instance's logs, [LogFile], [OutputFile] or [EgressLogFile], for appending. With asJSON its
// lines are JSON objects, also those of other processes that come through [Log.Foreign].
func (i *Instance) OpenLog(name string, asJSON bool) (*Log, error) {
	f, err := os.OpenFile(i.Path(name), os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	return &Log{json: asJSON, f: f}, err
}

// Close closes the file.
func (l *Log) Close() error { return l.f.Close() }

// Write writes slirpctl's own lines.
func (l *Log) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(lines), l.write(lines)
}

// entry formats a line of a source. l.mu must be held.
func (l *Log) entry(level, source string, text []byte, partial bool) []byte {
	now := time.Now()
	if !now.After(l.last) {
		now = l.last.Add(1)
	}
	l.last = now
	stamp := now.Format(sourceTime)
	text = plaintext.Escape(text)
	if l.json {
		line, _ := json.Marshal(logEntry{Time: stamp, Level: level, Source: source, Msg: string(text), Partial: partial})
		return append(line, '\n')
	}
	tag := "F"
	if partial {
		tag = "P"
	}
	return fmt.Appendf(nil, "%s %s %s %s\n", stamp, source, tag, text)
}

// Foreign returns a writer for the messages of another process, named source. It escapes control characters and writes
// whole lines, each with its time; Flush writes an unfinished one. Lines for which drop, if not nil, returns true are
// dropped. The writer may be used concurrently.
func (l *Log) Foreign(source string, drop func(line []byte) bool) io.Writer {
	return &foreign{log: l, source: source, drop: drop}
}

// Command is [Log.Foreign] for the output of COMMAND, which may be a question: it does not wait for the end of a line.
func (l *Log) Command() io.Writer { return &foreign{log: l, source: "command", eager: true} }

type foreign struct {
	log    *Log
	source string
	drop   func([]byte) bool
	eager  bool

	mu   sync.Mutex
	rest []byte // an unfinished line
}

func (f *foreign) Write(output []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = append(f.rest, output...)
	return len(output), f.take(f.rest)
}

// Flush writes an unfinished line.
func (f *foreign) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rest) == 0 {
		return nil
	}
	return f.take(append(f.rest, '\n')) // with eager, the rest is part of a character
}

// take writes the whole lines of text, and pieces of a line that is too long; the rest is kept.
func (f *foreign) take(text []byte) error {
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	var out []byte
	for {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		switch {
		case len(line) > maxLine:
			end := wholeRunes(line[:maxLine])
			out = append(out, f.log.entry("info", f.source, line[:end], true)...)
			text = text[end:]
			continue
		case !whole && f.eager && wholeRunes(line) > 0:
			end := wholeRunes(line)
			out = append(out, f.log.entry("info", f.source, line[:end], true)...)
			line = line[end:]
			fallthrough
		case !whole:
			f.rest = append(f.rest[:0], line...)
			return f.log.write(out)
		case f.drop == nil || !f.drop(line):
			out = append(out, f.log.entry("info", f.source, line, false)...)
		}
		text = rest
	}
}

// wholeRunes returns the length of text without a character that is not complete.
func wholeRunes(text []byte) int {
	for n := len(text) - 1; n >= max(0, len(text)-utf8.UTFMax+1); n-- {
		if utf8.RuneStart(text[n]) {
			if !utf8.FullRune(text[n:]) {
				return n
			}
			break
		}
	}
	return len(text)
}

// write appends lines; l.mu must be held.
func (l *Log) write(lines []byte) error {
	if len(lines) == 0 {
		return nil
	}
	if l.written+len(lines) > MaxLog {
		if err := l.cut(); err != nil {
			return err
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
	if err := l.append(l.entry("warning", "slirpctl", []byte(cutNotice), false)); err != nil {
		return err
	}
	return l.append(tail)
}
