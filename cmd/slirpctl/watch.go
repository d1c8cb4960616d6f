package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// traffic is what `list --watch --json` adds to an instance. The rates are null the first time
// an instance is seen.
type traffic struct {
	instance.Traffic
	InPerSecond  *float64 `json:"inBytesPerSecond"`
	OutPerSecond *float64 `json:"outBytesPerSecond"`
}

// watchedState is an instance as `list --watch --json` prints it.
type watchedState struct {
	instance.State
	Traffic *traffic `json:"traffic"`
}

// meter turns counters into rates.
type meter struct {
	last map[string]reading
}

type reading struct {
	at time.Time
	instance.Traffic
}

// read returns the instances with their traffic at the time now. It forgets instances that are not in sts.
func (m *meter) read(now time.Time, sts []instance.State, counters map[string]instance.Traffic) []watchedState {
	next := map[string]reading{}
	out := []watchedState{}
	for _, st := range sts {
		w := watchedState{State: st}
		if c, ok := counters[st.Name]; ok {
			w.Traffic = &traffic{Traffic: c}
			before, seen := m.last[st.Name]
			if seconds := now.Sub(before.at).Seconds(); seen && seconds > 0 {
				in, out := rate(before.InBytes, c.InBytes, seconds), rate(before.OutBytes, c.OutBytes, seconds)
				w.Traffic.InPerSecond, w.Traffic.OutPerSecond = &in, &out
			}
			next[st.Name] = reading{now, c}
		}
		out = append(out, w)
	}
	m.last = next
	return out
}

// rate returns the rate per second. A counter that went back has been reset: slirp4netns was restarted.
func rate(before, after uint64, seconds float64) float64 {
	if after < before {
		before = 0
	}
	return float64(after-before) / seconds
}

// watchList prints the instances count times, or until ctx ends if count is 0.
func watchList(ctx context.Context, o *listOptions, query func() ([]instance.State, error)) error {
	m, p := &meter{}, &o.output
	p.oneLine = true
	onScreen := isTerminal(p.w) && p.format == formatTable
	last := ""
	if onScreen {
		var stop context.CancelFunc
		ctx, stop = interruptible(ctx)
		defer stop()
		if _, err := io.WriteString(p.w, enterScreen); err != nil {
			return err
		}
		defer func() { _, _ = io.WriteString(p.w, leaveScreen+last) }()
	}
	for n := 1; ; n++ {
		sts, err := query()
		if err != nil {
			return err
		}
		states := m.read(time.Now(), sts, control.QueryTraffic(ctx, sts))
		busiest(states)
		err = p.print(states, func() (string, error) {
			text := watchTable(states, o.whole).text(p.w)
			if !onScreen {
				return text + "\n", nil
			}
			if n == o.count {
				last = text // printed again after the alternate screen
			}
			_, rows := terminalSize(p.w)
			return frame(time.Now(), text, rows, len(states) > 1), nil
		})
		if err != nil {
			return err
		}
		if n == o.count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.interval):
		}
	}
}

// Control sequences: xterm's alternate screen; ECMA-48's cursor to the top left corner, clear to the end of the line,
// clear to the end of the screen.
const (
	enterScreen = "\x1b[?1049h"
	leaveScreen = "\x1b[?1049l"
	goHome      = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// busiest sorts the instances by their rate in both directions, the highest first, otherwise naturally by name.
func busiest(states []watchedState) {
	rate := func(w watchedState) float64 {
		if w.Traffic == nil || w.Traffic.InPerSecond == nil {
			return 0
		}
		return *w.Traffic.InPerSecond + *w.Traffic.OutPerSecond
	}
	slices.SortStableFunc(states, func(x, y watchedState) int {
		return cmp.Or(cmp.Compare(rate(y), rate(x)), instance.CompareNames(x.Name, y.Name))
	})
}

// watchTable returns the table of the instances, and with several a last row with the totals.
func watchTable(states []watchedState, whole bool) *table {
	t := newTable("NAME", "STATE", "IN", "OUT", "RECEIVED", "SENT", "RESTARTS", "TARGET")
	row := func(name string, state cell, in, out *float64, all instance.Traffic, restarts cell, target string) {
		t.add(plain(name), state, plain(rateText(in)), plain(rateText(out)),
			plain(byteCount(float64(all.InBytes))), plain(byteCount(float64(all.OutBytes))), restarts, plain(target))
	}
	var sum traffic
	restarts := 0
	for _, st := range states {
		now := cmp.Or(st.Traffic, &traffic{})
		row(shortName(st.Name, whole), stateCell(st.State), now.InPerSecond, now.OutPerSecond, now.Traffic, restartsCell(st.Restarts), targetText(st.State))
		sum.InPerSecond, sum.OutPerSecond = add(sum.InPerSecond, now.InPerSecond), add(sum.OutPerSecond, now.OutPerSecond)
		sum.InBytes += now.InBytes
		sum.OutBytes += now.OutBytes
		restarts += st.Restarts
	}
	if len(states) > 1 {
		row("total", plain(fmt.Sprint(len(states))), sum.InPerSecond, sum.OutPerSecond, sum.Traffic, restartsCell(restarts), "")
	}
	return t
}

func rateText(perSecond *float64) string {
	if perSecond == nil {
		return "-"
	}
	return byteCount(*perSecond) + "/s"
}

// add adds two rates; nil is unknown.
func add(x, y *float64) *float64 {
	if x == nil || y == nil {
		return cmp.Or(x, y)
	}
	sum := *x + *y
	return &sum
}

// frame returns the text that draws table over the previous one, cut to rows lines; 0 means that the number of rows
// is unknown. The header row always stays, and with totals the last one, if there is room.
func frame(now time.Time, table string, rows int, totals bool) string {
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if rows == 0 || rows > 5 {
		lines = append([]string{now.Format("15:04:05"), ""}, lines...)
	}
	if over := len(lines) - rows; rows > 0 && over > 0 {
		var last []string
		if totals && rows > 3 {
			last = lines[len(lines)-1:]
		}
		lines = slices.Clone(lines[:rows])
		if end := rows - 1 - len(last); rows > 1 {
			lines = append(append(lines[:end], fmt.Sprintf("… %d more", over+1)), last...)
		}
	}
	// Clearing the screen first would flicker. A newline after the last line would scroll.
	return goHome + strings.Join(lines, clearLine+"\n") + clearLine + clearBelow
}

func stateCell(st instance.State) cell {
	colour := map[instance.Status]string{
		instance.Running: green, instance.Restarting: yellow, instance.Stopped: yellow, instance.Stopping: yellow,
		instance.Exited: dim, instance.Dead: red,
	}[st.State]
	if st.State == instance.Exited && st.ExitStatus != nil && st.EndedAt != nil {
		return cell{fmt.Sprintf("exited (%d) %s ago", *st.ExitStatus, age(*st.EndedAt)), colour}
	}
	return cell{string(st.State), colour}
}

func restartsCell(n int) cell {
	if n > 0 {
		return cell{fmt.Sprint(n), yellow}
	}
	return plain("0")
}
