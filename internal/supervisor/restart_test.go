package supervisor

import (
	"testing"
	"time"
)

// The pauses are those of docs/reliability.md, and in all a quarter of a minute.
func TestPauseBefore(t *testing.T) {
	var all, last time.Duration
	for n := 1; n <= restartLimit; n++ {
		pause := pauseBefore(n)
		if n <= 2 && pause != 0 || n == 3 && pause != 50*time.Millisecond || n > 3 && pause < last || pause > 2*time.Second {
			t.Errorf("pause %d is %s, after %s", n, pause, last)
		}
		last = pause
		all += pause
	}
	if last != 2*time.Second || all > 15*time.Second {
		t.Errorf("the last pause is %s, all are %s", last, all)
	}
}
