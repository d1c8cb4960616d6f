package instance

import "testing"

func TestParseTimeOffset(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0, "monotonic 1 0\n": 0, "nonsense": 0, "boottime x 0\n": 0,
		"monotonic      100000         0\nboottime      1234567         0\n": 123456700,
		"monotonic           0         0\nboottime        -100 500000000\n":  ^uint64(0) - 9949,
	} {
		if got := parseTimeOffset([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
