package main

import (
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// forwardRows measures the traffic of forwards: all contestants run the whole time, idle while
// others are measured.
func (b *bench) forwardRows() {
	ids := b.available("loopback", "direct", "handler-rootlesskit", "handler-slirp4netns", "bare",
		"rootlesskit", "rootlesskit-debian", "pasta", "pasta-debian", "podman")
	up, order, stop := b.bringAll(ids)
	defer stop()

	d := b.w.stream
	for _, dir := range []struct {
		what, tcp, cpu string
		f              func(id string) (float64, error)
	}{
		{"TCP in", "tcp-in", "cpu-in", func(id string) (float64, error) { return sendStream(up[id].to, d) }},
		{"TCP out", "tcp-out", "cpu-out", func(id string) (float64, error) { return receiveStream(up[id].to, d) }},
	} {
		b.interleave(dir.what, b.w.runs, order, []string{dir.tcp, dir.cpu}, func(id string) (map[string]float64, error) {
			f := up[id]
			pids := f.pids()
			before, start := cpuSeconds(pids), time.Now()
			rate, err := dir.f(id)
			if err != nil {
				return nil, err
			}
			got := map[string]float64{dir.tcp: rate}
			if len(f.roots) > 0 {
				// The stream ran for d; the wait for its end does not count.
				gib := rate / 8 * 1e9 * math.Min(d.Seconds(), time.Since(start).Seconds()) / (1 << 30)
				got[dir.cpu] = (cpuSeconds(pids) - before) / gib
			}
			return got, nil
		})
	}
	b.interleave("connections, 1 client", b.w.runs, order, []string{"conn-1"}, func(id string) (map[string]float64, error) {
		v, err := connections(up[id].to, 1, d)
		return map[string]float64{"conn-1": v}, err
	})
	b.interleave("connections, 16 clients", b.w.runs, order, []string{"conn-16"}, func(id string) (map[string]float64, error) {
		v, err := connections(up[id].to, 16, d)
		return map[string]float64{"conn-16": v}, err
	})
	var base50, base99 float64
	b.interleave("round trips", b.w.runs, order, []string{"rtt-50", "rtt-99"}, func(id string) (map[string]float64, error) {
		p50, p99, err := roundTrips(up[id].to, 4000)
		if id == "loopback" {
			base50, base99 = p50, p99
			return nil, err
		}
		return map[string]float64{"rtt-50": p50 - base50, "rtt-99": p99 - base99}, err
	})
	pinned := []int{os.Getpid()}
	for _, f := range up {
		pinned = append(append(pinned, f.pids()...), f.guest.pid)
	}
	if err := pin(pinned, unix.CPUSet{1}); err != nil {
		b.failed("round trips, one processor: %v", err)
	} else {
		var base float64
		b.interleave("round trips, one processor", b.w.runs, order, []string{"rtt-one"}, func(id string) (map[string]float64, error) {
			p50, _, err := roundTrips(up[id].to, 4000)
			if id == "loopback" {
				base = p50
				return nil, err
			}
			return map[string]float64{"rtt-one": p50 - base}, err
		})
	}
	if err := pin(pinned, allProcessors); err != nil {
		b.failed("after the round trips: %v", err)
	}
	b.interleave("UDP", b.w.runs, order, []string{"udp"}, func(id string) (map[string]float64, error) {
		v, err := udpRate(up[id].to, up[id].to)
		return map[string]float64{"udp": v / 1000}, err
	})
}
