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
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { drawProgress(w, done, text) })
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// drawProgress draws the line again and again until done is closed, and then erases it.
func drawProgress(w io.Writer, done <-chan struct{}, text func(time.Duration) string) {
	start, wait, erase := time.Now(), progressAfter, ""
	for {
		select {
		case <-time.After(wait):
			fmt.Fprintf(w, "\rslirpctl: %s%s", cut(text(time.Since(start)), max(terminalWidth(w), 40)-11), clearLine)
			wait, erase = progressEvery, "\r"+clearLine
		case <-done:
			fmt.Fprint(w, erase)
			return
		}
	}
}

// working returns the progress text of an operation on n forwards.
func working(what string, n int) func(time.Duration) string {
	return func(d time.Duration) string {
		return fmt.Sprintf("%s %d forwards … %.1f s", what, n, d.Seconds())
	}
}
