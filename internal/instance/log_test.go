package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func newLog(t *testing.T) (*Instance, *Log) { return newLogAs(t, false) }

func newLogAs(t *testing.T, asJSON bool) (*Instance, *Log) {
	t.Helper()
	base, err := OpenBase(t.TempDir() + "/s")
	if err != nil {
		t.Fatal(err)
	}
	i, err := base.Create(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	l, err := i.OpenLog(LogFile, asJSON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if err := i.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return i, l
}

func content(t *testing.T, i *Instance) string {
	t.Helper()
	text, err := os.ReadFile(i.Path(LogFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Whatever is written, the file stays below its bound, and the newest lines are there.
func TestLogIsCut(t *testing.T) {
	i, l := newLog(t)
	w := l.Foreign("x", nil)
	var n int
	for n = range 100_000 {
		fmt.Fprintf(w, "line %d %0100d\n", n, 0)
		if n%1000 == 0 {
			fmt.Fprintf(l, "our line %d\n", n)
			if fi, err := os.Stat(i.Path(LogFile)); err != nil || fi.Size() > MaxLog {
				t.Fatalf("%v: %d bytes", err, fi.Size())
			}
		}
	}
	text := content(t, i)
	if first, _, _ := strings.Cut(text, "\n"); !strings.HasSuffix(first, " slirpctl F "+cutNotice) || len(text) < keptLog-200 {
		t.Errorf("%d bytes, begins with %.200q", len(text), text)
	}
	if !strings.Contains(text, "\nour line 99000\n") || !strings.HasSuffix(text, fmt.Sprintf(" x F line %d %0100d\n", n, 0)) {
		t.Error("the newest lines are gone")
	}
}

// Lines of several writers don't mix, and nothing in them reaches a terminal.
func TestForeignWords(t *testing.T) {
	i, l := newLog(t)
	a, b := l.Foreign("a", nil), l.Foreign("b", func(line []byte) bool { return string(line) == "noise" })
	fmt.Fprint(b, "noise\n")
	for _, part := range []string{"a\x1b[31", "m", "\r\xff\xc2\x9b", "\u202e", " end\nrest"} {
		fmt.Fprint(a, part)
		fmt.Fprint(b, "b")
		fmt.Fprintln(l, "ours")
	}
	for _, w := range []any{a, b} {
		_ = w.(interface{ Flush() error }).Flush()
	}
	want := strings.Repeat("ours\n", 4) + `a F a\x1b[31m\x0d\xff\xc2\x9b\xe2\x80\xae end` + "\nours\na F rest\nb F bbbbb\n"
	if got := regexp.MustCompile(`(?m)^\d{4}-\S+ `).ReplaceAllString(content(t, i), ""); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Who follows a log sees what comes after a cut too.
func TestFollowCut(t *testing.T) {
	i, l := newLog(t)
	st := State{Name: "x", SupervisorPID: os.Getpid()}
	if err := i.WriteState(&st); err != nil {
		t.Fatal(err)
	}
	e, err := i.base.Find(context.Background(), "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out bytes.Buffer
	seen := writerFunc(func(p []byte) (int, error) {
		out.Write(p)
		if bytes.Contains(p, []byte("after the cut")) {
			cancel()
		}
		return len(p), nil
	})
	done := make(chan error, 1)
	go func() { done <- e.CopyLog(ctx, seen, LogOptions{Follow: true, Tail: -1}) }()
	for n := 0; n < MaxLog; n += 1000 {
		fmt.Fprintf(l, "%0999d\n", n)
	}
	fmt.Fprintln(l, "after the cut")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "after the cut\n") {
		t.Error("the line after the cut was not seen")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// With JSON every line is an object, whoever it is from and whatever it says.
func TestLogJSON(t *testing.T) {
	i, l := newLogAs(t, true)
	w := l.Foreign("slirp4netns", nil)
	fmt.Fprint(w, "one \"quoted\"\ntwo \x1b[31m\nhal")
	fmt.Fprint(w, "f")
	_ = w.(interface{ Flush() error }).Flush()
	if _, err := l.Write(l.entry("warning", "slirpctl", []byte(cutNotice), false)); err != nil {
		t.Fatal(err)
	}
	var said []string
	for line := range strings.Lines(content(t, i)) {
		var entry map[string]string
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["time"] == "" || entry["level"] == "" {
			t.Errorf("%q: %v", line, err)
		}
		said = append(said, entry["source"]+": "+entry["msg"])
	}
	if want := []string{`slirp4netns: one "quoted"`, `slirp4netns: two \x1b[31m`, "slirp4netns: half", "slirpctl: " + cutNotice}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
}

// TestCopyLog: what is chosen of two logs, in the order of time, with long lines whole.
func TestCopyLog(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		i, l := newLogAs(t, asJSON)
		st := State{Name: "x", SupervisorPID: os.Getpid()}
		if err := i.WriteState(&st); err != nil {
			t.Fatal(err)
		}
		e, err := i.base.Find(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		copied := func(o LogOptions) string {
			var out bytes.Buffer
			if err := e.CopyLog(t.Context(), &out, o); err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		slirp := l.Foreign("slirp4netns", nil)
		fmt.Fprintln(slirp, "before")
		if got := copied(LogOptions{Tail: -1}); !strings.Contains(got, "before") {
			t.Errorf("without COMMAND's output: %q", got)
		}
		output, err := i.OpenLog(OutputFile, asJSON)
		if err != nil {
			t.Fatal(err)
		}
		defer output.Close()
		command := output.Command()
		long := strings.Repeat("é", 100_000)
		for _, part := range []string{"on", "e\n\n", long[:10_001], long[10_001:] + "\n"} { // in the middle of a character
			fmt.Fprint(command, part)
		}
		if asJSON {
			fmt.Fprintf(l, `{"level":"info","msg":"ours","time":%q}`+"\n", time.Now().Format(LogTime))
		} else {
			fmt.Fprintf(l, "time=%q level=warning msg=%q\n", time.Now().Format(LogTime), "our \"own\"\x1b")
		}
		since := time.Now()
		fmt.Fprintln(command, "four F 1 command F")
		fmt.Fprintln(slirp, "after")
		for _, c := range []struct {
			o    LogOptions
			want string
		}{
			{LogOptions{Tail: -1}, "one\n\n" + long + "\nfour F 1 command F\n"},
			{LogOptions{Tail: 2}, long + "\nfour F 1 command F\n"},
			{LogOptions{Tail: 1}, "four F 1 command F\n"},
			{LogOptions{Tail: 0}, ""},
			{LogOptions{Tail: -1, Since: since}, "four F 1 command F\n"},
			{LogOptions{Tail: -1, Since: since.Add(time.Hour)}, ""},
		} {
			if got := copied(c.o); got != c.want {
				t.Errorf("JSON %t, %+v: %.300q", asJSON, c.o, got)
			}
		}
		fmt.Fprint(command, "a question? ")
		if got, want := copied(LogOptions{Tail: 2}), "four F 1 command F\na question? "; got != want {
			t.Errorf("an unfinished line: %q", got)
		}
		fmt.Fprintln(command, "yes")
		if got, want := copied(LogOptions{Tail: 1}), "a question? yes\n"; got != want {
			t.Errorf("it is finished: %q", got)
		}
		if got := copied(LogOptions{Tail: 3, Times: true}); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\S+ é+\n\d{4}-\S+ four F 1 command F\n\d{4}-\S+ a question\? yes\n$`).MatchString(got) {
			t.Errorf("with times: %.200q", got)
		}
		all := copied(LogOptions{All: true, Tail: -1})
		if asJSON {
			for line := range strings.Lines(all) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%q", line)
				}
			}
			continue
		}
		if want := "slirp4netns: before\ncommand: one\ncommand: \ncommand: " + long + "\nslirpctl: warning: our \"own\"\ncommand: four F 1 command F\nslirp4netns: after\ncommand: a question? yes\n"; all != want {
			t.Errorf("all: %q", strings.ReplaceAll(all, long, "LONG"))
		}
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.FixedZone("", 3600))
	for text, want := range map[string]string{
		"10m": "2026-11-26T11:50:00+01:00", "1h30m": "2026-11-26T10:30:00+01:00", "0s": "2026-11-26T12:00:00+01:00",
		"2026-11-26T10:00:00Z": "2026-11-26T11:00:00+01:00", "2026-11-25": "2026-11-25T00:00:00+01:00",
		"2026-11-25 13:14:15": "2026-11-25T13:14:15+01:00", "2026-11-25T13:14": "2026-11-25T13:14:00+01:00",
		"1764154800": "2025-11-26T12:00:00+01:00",
		"":           "", "yesterday": "", "-5": "", "10": "1970-01-01T01:00:10+01:00", "1e30": "", "NaN": "", "2026-13-01": "",
	} {
		got, err := ParseSince(text, now)
		if (err != nil) != (want == "") || err == nil && got.In(now.Location()).Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v, want %s", text, got, err, want)
		}
	}
}

// FuzzParseEntry: a log holds what other programs print.
func FuzzParseEntry(f *testing.F) {
	f.Add([]byte("2026-11-26T06:10:00.000000001Z command P text"))
	f.Add([]byte(`time="x" level=info msg="a\"b" k=v`))
	f.Add([]byte(`{"msg":"\u001b","time":"x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) == 0 {
			return
		}
		if e := parseEntry(line); e.Source == "" || e.Source == "slirpctl" && strings.ContainsAny(e.Msg, "\x1b\n\r") {
			t.Errorf("%q becomes %+v", line, e)
		}
	})
}
