package hostfwd

import (
	"fmt"
	"os"
	"testing"
)

func TestListening(t *testing.T) {
	for file, want := range map[string]string{
		"tcp":  "[127.0.0.1:8080 0.0.0.0:22]",
		"tcp6": "[[::]:22 [::1]:8080 127.0.0.1:9000]",
		"udp":  "[127.0.0.1:53]",
	} {
		f, err := os.Open("testdata/proc_net_" + file)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(Listening(f, file[:3])); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
		f.Close()
	}
}
