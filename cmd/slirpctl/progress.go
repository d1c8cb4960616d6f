package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// When progress appears, and how often it is drawn anew: what is done sooner needs none.
const (
	progressAfter = 400 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// startProgress shows what text returns on a terminal while something takes long. Nothing is
// shown anywhere else. stop takes it away again.
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

// drawProgress draws at every tick, and leaves an empty line behind.
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

// working says that something with n forwards goes on.
func working(what string, n int) func(time.Duration) string {
	return func(d time.Duration) string {
		return fmt.Sprintf("%s %d forwards … %.1f s", what, n, d.Seconds())
	}
}
