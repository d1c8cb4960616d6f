package nettune

import "testing"

func TestSlow(t *testing.T) {
	for algorithm, want := range map[string]bool{"bbr": true, "bbr2": true, "cubic": false, "reno": false, "dctcp": false, "": false} {
		if slow(algorithm) != want {
			t.Errorf("%q: %t", algorithm, !want)
		}
	}
}
