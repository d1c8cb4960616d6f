package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Progress is shown for operations longer than progressAfter, and updated every progressEvery.
const (
	progressAfter = 400 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// startProgress shows text on the terminal w until stop is called, which erases it. It shows nothing if w is not a
// terminal.
func startProgress(w io.Writer, text func(elapsed time.Duration) string) (stop func()) {
	if !isTerminal(w) {
		return func() {}
	}
	ticks := make(chan time.Time)
	done := make(chan struct{})
	go func() {
		defer close(ticks)
		t := time.NewTimer(progressAfter)
		defer t.Stop()
		for {
			select {
			case now := <-t.C:
				select {
				case ticks <- now:
				case <-done:
					return
				}
				t.Reset(progressEvery)
			case <-done:
				return
			}
		}
	}()
	var wg sync.WaitGroup
	wg.Go(func() { drawProgress(w, ticks, time.Now(), text) })
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// drawProgress draws the line at every tick, and erases it at the end.
func drawProgress(w io.Writer, ticks <-chan time.Time, start time.Time, text func(time.Duration) string) {
	drawn := false
	for now := range ticks {
		fmt.Fprintf(w, "\rslirpctl: %s%s", cut(text(now.Sub(start)), max(terminalWidth(w), 40)-11), clearLine)
		drawn = true
	}
	if drawn {
		fmt.Fprint(w, "\r"+clearLine)
	}
}

// working returns the progress text of an operation on n forwards.
func working(what string, n int) func(time.Duration) string {
	return func(d time.Duration) string {
		return fmt.Sprintf("%s %d forwards … %.1f s", what, n, d.Seconds())
	}
}
