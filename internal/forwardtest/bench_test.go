package forwardtest

import (
	"fmt"
	"os/exec"
	"testing"
)

const benchPorts = 1000

// benchInstance starts an instance, and returns the specs of a thousand forwards in
// rootlessctl's spelling, which slirpctl accepts too.
func benchInstance(b *testing.B) (w *world, specs []string) {
	b.Helper()
	rootlessTools(b)
	w = newWorld(b)
	w.must("up", "-d", "--name", "b", "--", bin(b, "idle"))
	for i := range benchPorts {
		specs = append(specs, fmt.Sprintf("127.0.0.1:%d:%d/tcp", 20000+i, 20000+i))
	}
	return w, specs
}

// BenchmarkAdd1000 adds a thousand forwards in one command.
func BenchmarkAdd1000(b *testing.B) {
	b.Run("slirpctl", func(b *testing.B) {
		w, specs := benchInstance(b)
		for b.Loop() {
			w.must(append([]string{"forward", "add", "b"}, specs...)...)
			b.StopTimer()
			w.must("forward", "set", "b")
			b.StartTimer()
		}
	})
	b.Run("rootlessctl", func(b *testing.B) {
		w, specs := benchInstance(b)
		for b.Loop() {
			args := append([]string{"--socket", w.state() + "/b/control.sock", "add-ports"}, specs...)
			if out, err := exec.Command(bin(b, "rootlessctl"), args...).CombinedOutput(); err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			b.StopTimer()
			w.must("forward", "set", "b")
			b.StartTimer()
		}
	})
}

// BenchmarkList1000 lists a thousand forwards.
func BenchmarkList1000(b *testing.B) {
	w, specs := benchInstance(b)
	w.must(append([]string{"forward", "add", "b"}, specs...)...)
	for b.Loop() {
		w.must("forward", "list", "b")
	}
}
