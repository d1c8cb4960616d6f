package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// gateway is the host's loopback as seen from inside.
const gateway = "10.0.2.2"

// slirpRows measures traffic through slirp4netns itself: outgoing connections, and its own
// forwards.
func (b *bench) slirpRows() {
	host, stop, err := b.w.hostServer()
	if err != nil {
		b.failed("through slirp4netns: %v", err)
		return
	}
	defer stop()
	ups, order, stopAll := b.bringAll(b.available("bare-open", "slirp-open"))
	defer stopAll()
	b.throughSlirp("through slirp4netns", b.w.runs, b.w.stream, ups, order, host, [4]string{"slirp-out", "slirp-back", "hostfwd-in", "hostfwd-out"})
}

func (b *bench) throughSlirp(what string, runs int, d time.Duration, ups map[string]*forwarder, order []string, host int, names [4]string) {
	b.interleave(what, runs, order, names[:], func(id string) (map[string]float64, error) {
		f := ups[id]
		got := map[string]float64{}
		var err error
		for i, dir := range []string{"send", "receive"} {
			if got[names[i]], err = f.guest.order("%s %s:%d %d", dir, gateway, host, d.Milliseconds()); err != nil {
				return nil, fmt.Errorf("%s: %w", dir, err)
			}
		}
		if got[names[2]], err = sendStream(f.to, d); err != nil {
			return nil, fmt.Errorf("forward, in: %w", err)
		}
		got[names[3]], err = receiveStream(f.to, d)
		return got, err
	})
}

// hostServer is a server on the host, for clients inside.
func (w *world) hostServer() (port int, stop func(), err error) {
	if port, err = freePort(); err != nil {
		return 0, nil, err
	}
	g, err := w.startGuest(port)
	if err != nil {
		return 0, nil, err
	}
	return port, g.stop, nil
}

// tuning is a setting inside the namespace that may make slirp4netns faster.
type tuning struct {
	id, name string
	orders   []string // to the program inside
	mtu      string   // of slirp4netns; "": 65520
}

const ipv4 = "write /proc/sys/net/ipv4/"

var tunings = []tuning{
	{"plain", "nothing changed", nil, ""},
	{"bbr", "congestion control bbr", []string{ipv4 + "tcp_congestion_control bbr"}, ""},
	{"cubic", "congestion control cubic", []string{ipv4 + "tcp_congestion_control cubic"}, ""},
	{"reno", "congestion control reno", []string{ipv4 + "tcp_congestion_control reno"}, ""},
	{"rmem-87380", "tcp_rmem default 87380", []string{ipv4 + "tcp_rmem 4096 87380 6291456"}, ""},
	{"reno-rmem", "reno, tcp_rmem default 87380", []string{ipv4 + "tcp_congestion_control reno", ipv4 + "tcp_rmem 4096 87380 6291456"}, ""},
	{"rmem-1m", "tcp_rmem default 1 MiB", []string{ipv4 + "tcp_rmem 4096 1048576 33554432"}, ""},
	{"no-autotune", "tcp_moderate_rcvbuf off", []string{ipv4 + "tcp_moderate_rcvbuf 0"}, ""},
	{"queue-100", "txqueuelen 100", []string{"link txqueuelen 100"}, ""},
	{"queue-10000", "txqueuelen 10000", []string{"link txqueuelen 10000"}, ""},
	{"gro-off", "GRO off", []string{"offload gro off"}, ""},
	{"mtu-1500", "MTU 1500", nil, "1500"},
	{"mtu-32768", "MTU 32768", nil, "32768"},
}

// tuningRows tries each setting with its own slirp4netns.
func (b *bench) tuningRows() {
	host, stop, err := b.w.hostServer()
	if err != nil {
		b.failed("tuning: %v", err)
		return
	}
	defer stop()
	ups := map[string]*forwarder{}
	var order []string
	usual, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	for _, t := range tunings {
		if t.id == strings.TrimSpace(string(usual)) {
			continue // nothing changed
		}
		mtu := t.mtu
		if mtu == "" {
			mtu = "65520"
		}
		c := &contestant{ID: t.id, Name: t.name, path: "slirp4netns", start: startBare("--configure", "--mtu="+mtu, "--enable-sandbox", "--enable-seccomp")}
		f, err := b.w.bring(b.ctx, c)
		if err == nil {
			for _, o := range t.orders {
				if _, err = f.guest.order("%s", o); err != nil {
					f.stop()
					break
				}
			}
		}
		if err != nil {
			warn("%s: left out: %v", t.name, err)
			continue
		}
		defer f.stop()
		ups[t.id], order = f, append(order, t.id)
	}
	// Many settings: shorter streams, and only enough rounds to show large effects.
	b.throughSlirp("settings inside", min(b.w.runs, 5), b.w.stream/2, ups, order, host, [4]string{"tune-out", "tune-back", "tune-fwd-in", "tune-fwd-out"})
}
