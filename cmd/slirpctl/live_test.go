package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
)

func TestTable(t *testing.T) {
	tab := &table{}
	tab.add(cell{"NAME", bold}, cell{"STATE", bold}, plain("X"))
	tab.add(plain("café"), cell{"running", green}, plain("a long text"))
	for _, c := range []struct {
		colour bool
		limit  int
		want   string
	}{
		{false, 0, "NAME  STATE    X\ncafé  running  a long text\n"},
		{true, 0, "\x1b[1mNAME\x1b[0m  \x1b[1mSTATE\x1b[0m    X\ncafé  \x1b[32mrunning\x1b[0m  a long text\n"},
		{false, 20, "NAME  STATE    X\ncafé  running  a lo…\n"},
		{false, 8, "NAME  S…\ncafé  r…\n"},
	} {
		if got := tab.render(c.colour, c.limit); got != c.want {
			t.Errorf("colour %t, limit %d: %q, want %q", c.colour, c.limit, got, c.want)
		}
	}
}

func TestByteRate(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0 B/s", 999: "999 B/s", 999.6: "1.0 kB/s", 1500: "1.5 kB/s", 123456: "123 kB/s",
		99.96e3: "100 kB/s", 999.9e6: "1.0 GB/s", 5e15: "5000 TB/s",
	} {
		if got := byteRate(n); got != want {
			t.Errorf("%g: %q, want %q", n, got, want)
		}
	}
}

func TestMeter(t *testing.T) {
	m := &meter{}
	now := time.Unix(1000, 0)
	sts := []instance.State{{Name: "a"}, {Name: "b"}}
	look := func(after time.Duration, counters map[string]instance.Traffic) []watchedState {
		now = now.Add(after)
		return m.read(now, sts, counters)
	}
	first := look(0, map[string]instance.Traffic{"a": {InBytes: 1000, OutBytes: 10}})
	if first[0].Traffic.InPerSecond != nil || first[1].Traffic != nil {
		t.Errorf("first look: %+v", first)
	}
	second := look(2*time.Second, map[string]instance.Traffic{"a": {InBytes: 5000, OutBytes: 10}, "b": {InBytes: 1}})
	if tr := second[0].Traffic; *tr.InPerSecond != 2000 || *tr.OutPerSecond != 0 || tr.InBytes != 5000 {
		t.Errorf("second look: %+v", tr)
	}
	if second[1].Traffic.InPerSecond != nil {
		t.Error("b has a rate at its first reading")
	}
	// slirp4netns was restarted: the tap's counters start at zero.
	third := look(time.Second, map[string]instance.Traffic{"a": {InBytes: 300, OutBytes: 10}})
	if tr := third[0].Traffic; *tr.InPerSecond != 300 {
		t.Errorf("after a restart: %v", *tr.InPerSecond)
	}

	var out bytes.Buffer
	if got := watchTable(second).render(false, 0); !strings.Contains(got, "2.0 kB/s") || strings.Contains(got, "\x1b") {
		t.Errorf("%q", got)
	}
	if empty := look(time.Second, nil)[:0]; printTo[watchedState](&out, empty, "--json") != nil || out.String() != "[]\n" {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	if err := printTo[watchedState](&out, third, "--json"); err != nil {
		t.Fatal(err)
	}
	var docs []map[string]any
	if err := json.Unmarshal(out.Bytes(), &docs); err != nil {
		t.Fatal(err)
	}
	if tr := docs[0]["traffic"].(map[string]any); tr["inBytesPerSecond"] != 300.0 || tr["inBytes"] != 300.0 || docs[0]["name"] != "a" {
		t.Errorf("%v", docs[0])
	}
	if tr := docs[1]["traffic"]; tr != nil {
		t.Errorf("b: %v", tr)
	}
}

// TestFrame: a frame has at most the lines of the terminal, including the titles, and no final newline
// that would scroll them away.
func TestFrame(t *testing.T) {
	now := time.Unix(0, 0)
	table := "NAME\n" + strings.Repeat("row\n", 20)
	for rows, want := range map[int]int{0: 23, 1: 1, 2: 2, 3: 3, 5: 5, 6: 6, 10: 10, 22: 22, 23: 23, 24: 23} {
		got := frame(now, table, rows)
		if n := strings.Count(got, "\n") + 1; n != want || !strings.Contains(got, "NAME") || !strings.HasPrefix(got, goHome) || !strings.HasSuffix(got, clearBelow) {
			t.Errorf("%d lines: %d of them in %q", rows, n, got)
		}
		shown := strings.Count(got, "row")
		if hidden := strings.Contains(got, fmt.Sprintf("… %d more", 20-shown)); hidden != (shown < 20 && rows > 1) {
			t.Errorf("%d lines: %d rows shown in %q", rows, shown, got)
		}
	}
}

func TestProgress(t *testing.T) {
	ticks := make(chan time.Time, 2)
	start := time.Unix(0, 0)
	ticks <- start.Add(time.Second)
	ticks <- start.Add(2 * time.Second)
	close(ticks)
	var out bytes.Buffer
	drawProgress(&out, ticks, start, working("adding", 4000))
	want := "\rslirpctl: adding 4000 forwards … 1.0 s" + clearLine + "\rslirpctl: adding 4000 forwards … 2.0 s" + clearLine + "\r" + clearLine
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	// A quick action prints nothing, and so does one without a terminal.
	out.Reset()
	never := make(chan time.Time)
	close(never)
	drawProgress(&out, never, start, working("adding", 1))
	startProgress(&out, working("adding", 1))()
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}
