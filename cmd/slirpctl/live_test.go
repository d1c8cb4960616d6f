package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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
		if got := byteCount(n) + "/s"; got != want {
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
	if got := watchTable(second, false).render(false, 0); !strings.Contains(got, "2.0 kB/s") || strings.Contains(got, "\x1b") {
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
		got := frame(now, table, rows, false)
		if n := strings.Count(got, "\n") + 1; n != want || !strings.Contains(got, "NAME") || !strings.HasPrefix(got, goHome) || !strings.HasSuffix(got, clearBelow) {
			t.Errorf("%d lines: %d of them in %q", rows, n, got)
		}
		shown := strings.Count(got, "row")
		if hidden := strings.Contains(got, fmt.Sprintf("… %d more", 20-shown)); hidden != (shown < 20 && rows > 1) {
			t.Errorf("%d lines: %d rows shown in %q", rows, shown, got)
		}
	}
}

// TestFrameTotals: the row with the totals stays, if there is room for it.
func TestFrameTotals(t *testing.T) {
	table := "NAME\n" + strings.Repeat("row\n", 20) + "total\n"
	for rows := 1; rows < 30; rows++ {
		got := frame(time.Unix(0, 0), table, rows, true)
		if n := strings.Count(got, "\n") + 1; n > rows || !strings.Contains(got, "NAME") || strings.Contains(got, "total") != (rows > 3) {
			t.Errorf("%d rows: %q", rows, got)
		}
		hidden := 20 - strings.Count(got, "row")
		if rows > 3 && hidden > 0 && !strings.Contains(got, fmt.Sprintf("… %d more", hidden)) {
			t.Errorf("%d rows, %d hidden: %q", rows, hidden, got)
		}
	}
}

// TestBusiest: the instance with most traffic comes first, the others in natural order, and a last row has the totals.
func TestBusiest(t *testing.T) {
	rate := func(in, out float64, total uint64) *traffic {
		return &traffic{Traffic: instance.Traffic{InBytes: total, OutBytes: 2 * total}, InPerSecond: &in, OutPerSecond: &out}
	}
	states := []watchedState{
		{State: instance.State{Name: "job10"}},
		{State: instance.State{Name: "job2", Restarts: 1}, Traffic: rate(10, 5, 100)},
		{State: instance.State{Name: "job1"}, Traffic: rate(0, 0, 1000)},
		{State: instance.State{Name: "job3", Restarts: 2}, Traffic: rate(0, 2000, 10_000)},
		{State: instance.State{Name: "new"}, Traffic: &traffic{Traffic: instance.Traffic{InBytes: 1}}},
	}
	busiest(states)
	var got []string
	for line := range strings.Lines(watchTable(states, false).render(false, 0)) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"NAME STATE IN OUT RECEIVED SENT RESTARTS TARGET",
		"job3 0 B/s 2.0 kB/s 10.0 kB 20.0 kB 2 -", "job2 10 B/s 5 B/s 100 B 200 B 1 -", "job1 0 B/s 0 B/s 1.0 kB 2.0 kB 0 -",
		"job10 - - 0 B 0 B 0 -", "new - - 1 B 0 B 0 -",
		"total 5 10 B/s 2.0 kB/s 11.1 kB 22.2 kB 3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if one := watchTable(states[:1], false).render(false, 0); strings.Contains(one, "total") {
		t.Errorf("totals of one: %q", one)
	}
}

func TestProgress(t *testing.T) {
	draw := func(d time.Duration, text func(time.Duration) string) string {
		var out bytes.Buffer
		synctest.Test(t, func(*testing.T) {
			done := make(chan struct{})
			time.AfterFunc(d, func() { close(done) })
			drawProgress(&out, done, text)
		})
		return out.String()
	}
	want := "\rslirpctl: adding 4000 forwards … 0.4 s" + clearLine + "\rslirpctl: adding 4000 forwards … 0.5 s" + clearLine + "\r" + clearLine
	if got := draw(550*time.Millisecond, working("adding", 4000)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// A quick action prints nothing, and so does one without a terminal.
	if got := draw(399*time.Millisecond, working("adding", 1)); got != "" {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	startProgress(&out, working("adding", 1))()
	if out.Len() > 0 {
		t.Errorf("%q", out.String())
	}
}
