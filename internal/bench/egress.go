package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func init() {
	groups = append(groups, groupOf{"egress", "Egress: with a gateway and without", []string{
		"egress-out", "egress-back", "egress-connect", "egress-udp", "egress-up", "egress-run", "egress-memory", "egress-idle",
		"egress-denied", "egress-name", "egress-10000", "egress-change",
	}})
	metrics = append(metrics,
		metric{ID: "egress-out", Title: "TCP out of the namespace, one stream", Unit: "Gbit/s", Higher: true, How: "A client inside sends to a server on the host, at the gateway's address. The rows of slirpctl and of slirpctl with --egress log, in this and the tables below, show what a gateway for every instance would cost; [egress](egress.md#what-it-costs) sums it up."},
		metric{ID: "egress-back", Title: "TCP, the answer", Unit: "Gbit/s", Higher: true, How: "The same client receives."},
		metric{ID: "egress-connect", Title: "Connect and four bytes", Unit: "µs", How: "A client inside connects, sends four bytes, reads four, closes; the median of 500."},
		metric{ID: "egress-udp", Title: "UDP out, 1,400 bytes, under 1 % loss", Unit: "1/s", Higher: true, How: "As into the namespace, but from inside to the host."},
		metric{ID: "egress-up", Title: "up -d PID, until it returns", Unit: "ms", How: "On a namespace that is there; the median of five."},
		metric{ID: "egress-run", Title: "A command that may reach one name, from start to end", Unit: "ms", How: "`true` with one allowed name, the whole process; the median of three. The peers are proxies, for programs that heed proxy variables."},
		metric{ID: "egress-memory", Title: "Memory of an instance", Unit: "MiB", How: "Proportional set size of all its processes, after the rows above."},
		metric{ID: "egress-idle", Title: "Wake-ups of an idle instance", Unit: "1/s", How: "Voluntary context switches of all its threads, over three seconds; without slirp4netns, which wakes about once a second by itself."},
		metric{ID: "egress-denied", Title: "A connection that is denied, until it is refused", Unit: "µs", How: "The median of 500."},
		metric{ID: "egress-name", Title: "A name that was asked for before", Unit: "µs", How: "Go's resolver inside, the median of 500."},
		metric{ID: "egress-10000", Title: "Connect and four bytes: with 10,000 rules over with 4", Unit: "×", How: "The medians of 500 each, one after the other; the other rules are for other names."},
		metric{ID: "egress-change", Title: "1,000 rules changed", Unit: "ms", How: "`slirpctl egress set` with other rules, the whole process; the median of five."},
	)
}

// egressFlags are those of the two ways with a gateway; 10.0.2.2 is the host.
var egressFlags = map[string][]string{
	"gateway-log":  {"--egress", "log", "--allow-host-loopback"},
	"gateway-deny": {"--allow", gateway + ":10000-65535", "--allow", gateway + ":10000-65535/udp", "--allow", "*.example", "--allow-host-loopback"},
}

func (b *bench) addEgress() {
	add := func(c contestant) { b.res.Contestants = append(b.res.Contestants, &c) }
	for _, id := range []string{"pasta", "pasta-debian"} {
		c := *b.res.contestant(id)
		c.ID = strings.Replace(id, "pasta", "pasta-out", 1) // targets find the system's by the same suffix
		c.start = startPasta("--address=10.0.2.100", "--netmask=24", "--gateway="+gateway)
		add(c)
	}
	ours := contestant{Version: b.res.Slirpctl, path: b.w.slirpctl}
	for _, way := range []struct{ id, name string }{{"gateway-log", "slirpctl --egress log"}, {"gateway-deny", "slirpctl --allow …"}} {
		ours.ID, ours.Name, ours.start = way.id, way.name, startSlirpctl("direct", egressFlags[way.id]...)
		add(ours)
	}
}

// egressRows measures what a gateway costs, and what its rules do.
func (b *bench) egressRows() {
	b.addEgress()
	host, stop, err := b.w.hostServer()
	if err != nil {
		b.failed("egress: %v", err)
		return
	}
	defer stop()
	ups, order, stopAll := b.bringAll(b.available("bare-open", "slirp-open", "gateway-log", "gateway-deny", "pasta-out", "pasta-out-debian"))
	defer stopAll()
	b.interleave("egress", b.w.runs, order, []string{"egress-out", "egress-back", "egress-connect", "egress-udp"}, func(id string) (map[string]float64, error) {
		got := map[string]float64{}
		for metric, order := range map[string]string{
			"egress-out":     fmt.Sprintf("send %s:%d %d", gateway, host, b.w.stream.Milliseconds()),
			"egress-back":    fmt.Sprintf("receive %s:%d %d", gateway, host, b.w.stream.Milliseconds()),
			"egress-connect": fmt.Sprintf("connect %s:%d 500", gateway, host),
			"egress-udp":     fmt.Sprintf("udp %s:%d", gateway, host),
		} {
			v, err := ups[id].guest.order("%s", order)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", order, err)
			}
			got[metric] = v
		}
		return got, nil
	})
	for _, id := range order {
		pids := ups[id].pids()
		if v, err := memory(pids); err == nil {
			b.res.add("egress-memory", id, v)
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return programOf(pid) == "slirp4netns" })
		const idle = 3 * time.Second
		woken := wakeups(pids)
		time.Sleep(idle)
		b.res.add("egress-idle", id, (wakeups(pids)-woken)/idle.Seconds())
	}
	b.interleave("egress up -d", b.w.runs, b.available("slirp-open", "gateway-log", "gateway-deny"), []string{"egress-up"}, func(id string) (map[string]float64, error) {
		flags := egressFlags[id]
		v, err := each(5, func() (float64, error) { return b.detachedWith(flags) })
		return map[string]float64{"egress-up": v}, err
	})
	if err := b.runRows(); err != nil {
		b.failed("egress run: %v", err)
	}
	if f := ups["gateway-deny"]; f != nil {
		b.interleave("egress rules", b.w.runs, []string{"gateway-deny"}, []string{"egress-denied", "egress-name", "egress-10000", "egress-change"},
			func(string) (map[string]float64, error) { return b.ruleRows(f, host) })
	}
}

// runRows measures a command that may reach one name.
func (b *bench) runRows() error {
	settings := filepath.Join(b.w.tmp, "settings.json")
	const text = `{"network": {"allowedDomains": ["example.com"], "deniedDomains": []}, "filesystem": {"denyRead": [], "allowWrite": [], "denyWrite": []}}`
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		return err
	}
	argv := map[string][]string{
		"slirpctl": {"up", "--allow", "example.com", "--", "true"},
		"srt":      {"--settings", settings, "true"},
		"fence":    {"--settings", settings, "--", "true"},
	}
	b.interleave("egress run", b.w.runs, b.available("slirpctl", "srt", "fence"), []string{"egress-run"}, func(id string) (map[string]float64, error) {
		// The peers look through the working directory for what to protect.
		args := append([]string{"--chdir=" + filepath.Join(b.w.tmp, "tmp"), b.res.contestant(id).path}, argv[id]...)
		v, err := each(3, func() (float64, error) { return b.w.timed("env", args...) })
		return map[string]float64{"egress-run": v}, err
	})
	return nil
}

// ruleRows are the rows that only an instance with rules has.
func (b *bench) ruleRows(f *forwarder, host int) (map[string]float64, error) {
	got := map[string]float64{}
	var err error
	if got["egress-denied"], err = f.guest.order("refused %s:7 500", gateway); err != nil {
		return nil, err
	}
	if got["egress-name"], err = f.guest.order("lookup www.example. 500"); err != nil {
		return nil, err
	}
	own := []string{gateway + ":10000-65535", gateway + ":10000-65535/udp"}
	set := func(kind string, n int) error {
		args := append([]string{"egress", "set", f.state.Name}, own...)
		for i := range n - len(own) {
			args = append(args, kind+strconv.Itoa(i)+".example")
		}
		_, err := b.w.run(b.w.slirpctl, args...)
		return err
	}
	few, err := f.guest.order("connect %s:%d 500", gateway, host)
	if err != nil {
		return nil, err
	}
	if err := set("x", 10000); err != nil {
		return nil, err
	}
	if got["egress-10000"], err = f.guest.order("connect %s:%d 500", gateway, host); err != nil {
		return nil, err
	}
	got["egress-10000"] /= few
	turn := 0
	if got["egress-change"], err = each(5, func() (float64, error) {
		turn++
		start := time.Now()
		err := set(fmt.Sprintf("y%d-", turn), 1000)
		return milliseconds(time.Since(start)), err
	}); err != nil {
		return nil, err
	}
	own = append(own, "*.example")
	return got, set("", len(own))
}

// detachedWith measures `up -d` with flags on a namespace that is there.
func (b *bench) detachedWith(flags []string) (float64, error) {
	h, err := b.w.holder()
	if err != nil {
		return 0, err
	}
	defer h.stop()
	start := time.Now()
	st, err := b.w.up(h.pid, flags...)
	took := milliseconds(time.Since(start))
	if err == nil {
		b.w.down(st.Name)
	}
	return took, err
}

// tries is the median of n times that something takes inside, in microseconds.
func tries(words []string) (float64, error) {
	n, err := strconv.Atoi(words[2])
	if err != nil {
		return 0, err
	}
	one := map[string]func(string) error{"connect": connectOnce, "refused": refusedOnce, "lookup": lookupOnce}[words[0]]
	var all []float64
	for range n {
		start := time.Now()
		if err := one(words[1]); err != nil {
			return 0, err
		}
		all = append(all, float64(time.Since(start).Nanoseconds())/1e3)
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

func connectOnce(to string) error {
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	return exchange(at)
}

func refusedOnce(to string) error {
	c, err := net.Dial("tcp", to)
	if err == nil {
		c.Close()
		return errors.New(to + " is not refused")
	}
	return nil
}

func lookupOnce(name string) error {
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return net.Dial("udp", "10.0.2.3:53") }}
	_, err := r.LookupNetIP(context.Background(), "ip4", name)
	return err
}
