package instance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
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
	w := l.Foreign("x")
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
	if !strings.HasPrefix(text, string(l.notice(cutNotice))+"line ") && !strings.HasPrefix(text, string(l.notice(cutNotice))+"our line") || len(text) < keptLog-200 {
		t.Errorf("%d bytes, begins with %.200q", len(text), text)
	}
	if !strings.Contains(text, "\nour line 99000\n") || !strings.HasSuffix(text, fmt.Sprintf("line %d %0100d\n", n, 0)) {
		t.Error("the newest lines are gone")
	}
}

// Where COMMAND writes too, nothing of its is cut; others are silenced, slirpctl's own words last.
func TestSharedLogIsNotCut(t *testing.T) {
	i, l := newLog(t)
	f := l.Share()
	w := l.Foreign("x")
	for n := range 100_000 {
		fmt.Fprintf(w, "line %d %0100d\n", n, 0)
		if n%10_000 == 0 {
			fmt.Fprintf(f, "command %d\n", n)
			fmt.Fprintf(l, "our line %d\n", n)
		}
	}
	text := content(t, i)
	for n := range 10 {
		for _, want := range []string{fmt.Sprintf("command %d\n", n*10_000), fmt.Sprintf("our line %d\n", n*10_000)} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is gone", want)
			}
		}
	}
	if len(text) > MaxLog+10_000 || strings.Count(text, fullNotice) != 1 {
		t.Errorf("%d bytes, %d notices", len(text), strings.Count(text, fullNotice))
	}
	line := []byte(strings.Repeat("o", 1000) + "\n")
	for range 20_000 {
		_, _ = l.Write(line)
	}
	if fi, err := os.Stat(i.Path(LogFile)); err != nil || fi.Size() > 2*MaxLog+10_000 {
		t.Errorf("%v: %d bytes of our own", err, fi.Size())
	}
}

// Lines of several writers don't mix, and nothing in them reaches a terminal.
func TestForeignWords(t *testing.T) {
	i, l := newLog(t)
	a, b := l.Foreign("x"), l.Foreign("x")
	for _, part := range []string{"a\x1b[31", "m", "\r\xff\xc2\x9b", "\u202e", " end\nrest"} {
		fmt.Fprint(a, part)
		fmt.Fprint(b, "b")
		fmt.Fprintln(l, "ours")
	}
	for _, w := range []any{a, b} {
		_ = w.(interface{ Flush() error }).Flush()
	}
	want := strings.Repeat("ours\n", 4) + `a\x1b[31m\x0d\xff\xc2\x9b\xe2\x80\xae end` + "\nours\nrest\nbbbbb\n"
	if got := content(t, i); got != want {
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
	go func() { done <- e.CopyLog(ctx, seen, true) }()
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
	w := l.Foreign("slirp4netns")
	fmt.Fprint(w, "one \"quoted\"\ntwo \x1b[31m\nhal")
	fmt.Fprint(w, "f")
	_ = w.(interface{ Flush() error }).Flush()
	if _, err := l.Write(l.notice(cutNotice)); err != nil {
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
