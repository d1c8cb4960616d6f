package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// LogOptions selects what [Entry.CopyLog] copies.
type LogOptions struct {
	All    bool      // also the messages of slirpctl, slirp4netns and the helpers
	Tail   int       // at most so many lines of those that are there; below 0: all
	Since  time.Time // only lines of this time or later
	Times  bool      // begin each line with its time
	Follow bool      // copy new lines until the instance stops or ctx is done
}

// logEntry is a line of a log: a JSON object or, in a text log, logrus's text or "TIME SOURCE F|P TEXT", where P means
// that the line goes on.
type logEntry struct {
	Time    string `json:"time"`
	Level   string `json:"level"`
	Source  string `json:"source"` // "": slirpctl
	Msg     string `json:"msg"`
	Partial bool   `json:"partial,omitempty"`

	at  time.Time // zero: unknown
	raw []byte
}

// ownLine matches slirpctl's own lines in a text log.
var ownLine = sync.OnceValue(func() *regexp.Regexp { // compiled only where a log is read
	return regexp.MustCompile(`^time="([^"]*)" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S*)(.*)$`)
})

// parseEntry parses a line of a log. What it does not know is a message of slirpctl's.
func parseEntry(line []byte) logEntry {
	e := logEntry{Msg: string(line)}
	text := string(line)
	if line[0] == '{' {
		var parsed logEntry
		if json.Unmarshal(line, &parsed) == nil {
			e = parsed
		}
		e.raw = line
	} else if m := ownLine().FindStringSubmatch(text); m != nil {
		e.Time, e.Level = m[1], m[2]
		if msg, err := strconv.Unquote(m[3]); err == nil {
			m[3] = msg
		}
		e.Msg = m[3] + m[4]
	} else if f := strings.SplitN(text, " ", 4); len(f) == 4 && (f[2] == "F" || f[2] == "P") {
		e.Time, e.Source, e.Partial, e.Msg = f[0], f[1], f[2] == "P", f[3]
	}
	if e.Source == "" {
		e.Source = "slirpctl"
		e.Msg = plaintext.Line(e.Msg)
	}
	e.at, _ = time.Parse(time.RFC3339Nano, e.Time)
	return e
}

// logReader reads what is new in a log.
type logReader struct {
	f    *os.File
	rest []byte    // an unfinished line
	seen time.Time // of the newest line
}

// read returns the new lines, with the pieces of a long line joined.
func (r *logReader) read(last bool) ([]logEntry, error) {
	again, err := rewind(r.f)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r.f)
	if err != nil {
		return nil, err
	}
	if again {
		r.rest = nil
	}
	data = append(r.rest, data...)
	end := bytes.LastIndexByte(data, '\n') + 1
	if last {
		end = len(data)
	}
	r.rest = slices.Clone(data[end:])
	var list []logEntry
	for line := range bytes.Lines(data[:end]) {
		if line = bytes.TrimSuffix(line, []byte{'\n'}); len(line) == 0 {
			continue
		}
		e := parseEntry(line)
		if again && !e.at.IsZero() && !e.at.After(r.seen) {
			continue // it was there before the log was cut
		}
		if e.at.After(r.seen) {
			r.seen = e.at
		}
		if n := len(list) - 1; n >= 0 && list[n].Partial && list[n].Source == e.Source {
			list[n].Msg += e.Msg
			list[n].Partial = e.Partial
			continue
		}
		list = append(list, e)
	}
	return list, nil
}

// HasOutput reports whether the output of a detached COMMAND is recorded.
func (e Entry) HasOutput() bool {
	_, err := os.Lstat(filepath.Join(e.Dir, OutputFile))
	return err == nil
}

// CopyLog copies the output of the instance's COMMAND to w, and other messages with o.All or if there is no output.
// Control characters are escaped. Error: [ErrNotFound] if the instance has stopped.
func (e Entry) CopyLog(ctx context.Context, w io.Writer, o LogOptions) error {
	files := []string{OutputFile}
	if !e.HasOutput() {
		files, o.All = nil, true
	}
	if o.All {
		files = append(files, LogFile)
	}
	var readers []*logReader
	for _, name := range files {
		f, err := e.open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		readers = append(readers, &logReader{f: f})
	}
	p := logPrinter{o: o}
	first := true
	return e.follow(ctx, o.Follow, func(last bool) error {
		var list []logEntry
		for _, r := range readers {
			lines, err := r.read(last)
			if err != nil {
				return err
			}
			list = append(list, lines...)
		}
		slices.SortStableFunc(list, func(x, y logEntry) int { return x.at.Compare(y.at) })
		list = slices.DeleteFunc(list, func(e logEntry) bool { return e.at.Before(o.Since) })
		if first && o.Tail >= 0 && len(list) > o.Tail {
			list = list[len(list)-o.Tail:]
		}
		first = false
		_, err := w.Write(p.text(list))
		return err
	})
}

// logPrinter formats lines.
type logPrinter struct {
	o       LogOptions
	partial bool // the last line goes on
}

func (p *logPrinter) text(list []logEntry) []byte {
	var out []byte
	for _, e := range list {
		if p.o.All && e.raw != nil {
			out = append(append(out, e.raw...), '\n')
			continue
		}
		if p.o.Times && !p.partial {
			out = append(e.at.Local().AppendFormat(out, sourceTime), ' ')
		}
		if p.o.All {
			out = append(out, e.Source+": "...)
			if e.Level != "" {
				out = append(out, e.Level+": "...)
			}
		}
		out = append(out, e.Msg...)
		p.partial = e.Partial && !p.o.All
		if !p.partial {
			out = append(out, '\n')
		}
	}
	return out
}

var errSince = errors.New("want a duration such as 10m, a time such as 2006-01-02T15:04:05, or seconds since 1970")

// ParseSince parses the time of `logs --since`: how long before now, a time, or seconds since 1970.
func ParseSince(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 && s < 1<<40 {
		return time.UnixMicro(int64(s * 1e6)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errSince
}
