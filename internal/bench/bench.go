package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	ctx context.Context
	w   *world
	res *results
}

func warn(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// interleave measures one contestant after the other, A B C A B C …, so that other load on the
// machine affects all of them alike. one returns values by metric; if it fails, the round counts
// as failed for all metrics in fail.
func (b *bench) interleave(what string, runs int, ids []string, fail []string, one func(id string) (map[string]float64, error)) {
	start := time.Now()
	for round := range runs {
		for _, id := range ids {
			if b.ctx.Err() != nil {
				return
			}
			got, err := one(id)
			if err != nil {
				b.failed("%s, %s, round %d: %v", what, b.res.contestant(id).Name, round+1, err)
				for _, m := range fail {
					b.res.add(m, id, math.NaN())
				}
				continue
			}
			for m, v := range got {
				b.res.add(m, id, v)
			}
		}
	}
	warn("%-28s %5.1f s", what, time.Since(start).Seconds())
}

func (b *bench) failed(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	text = strings.ReplaceAll(text, b.w.tmp, "…")
	warn("FAILED: %s", text)
	if len(b.res.Failures) < 40 && !slices.Contains(b.res.Failures, text) {
		b.res.Failures = append(b.res.Failures, text)
	}
}

// each returns the median of n values.
func each(n int, f func() (float64, error)) (float64, error) {
	var all []float64
	for range n {
		v, err := f()
		if err != nil {
			return 0, err
		}
		all = append(all, v)
	}
	return median(all), nil
}

// available returns the contestants that are installed.
func (b *bench) available(ids ...string) []string {
	var out []string
	for _, id := range ids {
		if c := b.res.contestant(id); c.Missing == "" && (c.start != nil || c.path != "") {
			out = append(out, id)
		}
	}
	return out
}

// bringAll starts contestants; those that fail are reported and left out.
func (b *bench) bringAll(ids []string) (up map[string]*forwarder, order []string, stop func()) {
	up = map[string]*forwarder{}
	for _, id := range ids {
		c := b.res.contestant(id)
		f, err := b.w.bring(b.ctx, c)
		if err != nil {
			b.failed("start %s: %v", c.Name, err)
			continue
		}
		if f.counted != "" {
			b.res.Counted[id] = f.counted
		}
		up[id], order = f, append(order, id)
	}
	return up, order, func() {
		for _, id := range order {
			up[id].stop()
		}
	}
}
