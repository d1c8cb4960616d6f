package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	manyInstances = 50
	manyForwards  = 20
	firstPort     = 12000 // below the kernel's ephemeral range
)

// memoryRows starts many instances and measures their memory.
func (b *bench) memoryRows() {
	for _, id := range b.available("direct", "handler-rootlesskit", "handler-slirp4netns", "rootlesskit", "rootlesskit-debian") {
		start := time.Now()
		if err := b.weigh(id); err != nil {
			b.failed("memory, %s: %v", b.res.contestant(id).Name, err)
		}
		warn("%-28s %5.1f s", "memory, "+b.res.contestant(id).Name, time.Since(start).Seconds())
	}
}

// heavy is one of many instances.
type heavy struct {
	roots, without []int
	supervisor     int
	stop           func()
}

func (b *bench) weigh(id string) error {
	var all []heavy
	defer func() {
		for _, h := range all {
			h.stop()
		}
	}()
	for i := range manyInstances {
		h, err := b.heavy(id, firstPort+i*manyForwards)
		if err != nil {
			return err
		}
		all = append(all, h)
		if b.ctx.Err() != nil {
			return b.ctx.Err()
		}
	}
	time.Sleep(2 * time.Second) // let the starts finish their work
	var pidsAll, own []int      // own: without slirp4netns, which has its own timer
	for _, h := range all {
		pids := family(h.roots, h.without)
		pidsAll = append(pidsAll, pids...)
		own = append(own, slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return programOf(pid) == "slirp4netns" })...)
		v, err := memory(pids)
		if err != nil {
			return fmt.Errorf("%w (as root it can be read)", err)
		}
		b.res.add("memory", id, v)
		if h.supervisor > 0 {
			if v, err = memory([]int{h.supervisor}); err != nil {
				return err
			}
			b.res.add("memory-supervisor", id, v)
		}
	}
	const idle = 3 * time.Second
	cpu, woken, ownWoken := cpuSeconds(pidsAll), wakeups(pidsAll), wakeups(own)
	time.Sleep(idle)
	b.res.add("idle-cpu", id, (cpuSeconds(pidsAll)-cpu)*1000/idle.Seconds())
	b.res.add("idle-wakeups", id, (wakeups(pidsAll)-woken)/idle.Seconds())
	b.res.add("idle-own", id, (wakeups(own)-ownWoken)/idle.Seconds())
	return nil
}

func (b *bench) heavy(id string, port int) (heavy, error) {
	w, c := b.w, b.res.contestant(id)
	if handler, ours := strings.CutPrefix(id, "handler-"); ours || id == "direct" {
		if id == "direct" {
			handler = id
		}
		h, err := w.holder()
		if err != nil {
			return heavy{}, err
		}
		st, err := w.up(h.pid, "--port-handler", handler, "-p", fmt.Sprintf("127.0.0.1:%d-%d:%d-%d", port, port+manyForwards-1, port, port+manyForwards-1))
		if err != nil {
			h.stop()
			return heavy{}, err
		}
		return heavy{
			roots: []int{st.SupervisorPID, st.SlirpPID}, supervisor: st.SupervisorPID,
			stop: func() { w.down(st.Name); h.stop() },
		}, nil
	}
	args := append(rootlesskitFlags(filepath.Join(w.runDir(), w.name())), "--port-driver=builtin")
	for i := range manyForwards {
		args = append(args, fmt.Sprintf("--publish=127.0.0.1:%d:%d/tcp", port+i, port+i))
	}
	cmd, inside, err := w.startRootlesskitHolder(c.path, args)
	if err != nil {
		return heavy{}, err
	}
	return heavy{roots: []int{cmd.Process.Pid}, without: []int{inside}, stop: func() { endNow(cmd) }}, nil
}

// startRootlesskitHolder starts RootlessKit with a program that does nothing, and returns that
// program's PID once it runs.
func (w *world) startRootlesskitHolder(path string, args []string) (cmd *exec.Cmd, inside int, err error) {
	cmd = w.command(path, append(args, "sh", "-c", "echo $$; exec sleep 1000")...)
	said := &tail{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, 0, err
	}
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		endNow(cmd)
		return nil, 0, fmt.Errorf("rootlesskit: %w: %s", err, said)
	}
	inside, err = strconv.Atoi(strings.TrimSpace(line))
	return cmd, inside, err
}

// forwardLine is a template that lists as rootlessctl does: each forward on a line of its own, ranges not collapsed.
const forwardLine = "{{.ID}} {{.Proto}} {{.HostIP}}:{{.HostPort}} {{.GuestPort}}"

// thousandRows adds, lists and removes 1,000 forwards.
func (b *bench) thousandRows() {
	ups, order, stop := b.bringAll(b.available("direct", "rootlesskit", "rootlesskit-debian"))
	defer stop()
	const n = 1000
	var specs []string
	for port := firstPort; port < firstPort+n; port++ {
		specs = append(specs, fmt.Sprintf("127.0.0.1:%d:%d/tcp", port, port))
	}
	span := fmt.Sprintf("127.0.0.1:%d-%d:%d-%d", firstPort, firstPort+n-1, firstPort, firstPort+n-1)
	names := []string{"add-1000", "list-1000", "remove-1000"}
	b.interleave("1,000 forwards", b.w.runs, order, names, func(id string) (map[string]float64, error) {
		f := ups[id]
		var add, list, remove []string
		ctl := b.w.slirpctl
		if id == "direct" {
			add = []string{"forward", "add", f.state.Name, span}
			list = []string{"forward", "list", f.state.Name, "--format", forwardLine}
			remove = []string{"forward", "remove", f.state.Name, span}
		} else {
			ctl = rootlessctl(f.c.path)
			socket := "--socket=" + filepath.Join(b.w.rootlesskitDir(f.roots[0]), "api.sock")
			add = append([]string{socket, "add-ports"}, specs...)
			list = []string{socket, "list-ports"}
			remove = []string{socket, "remove-ports"} // ids are appended
		}
		got := map[string]float64{}
		start := time.Now()
		out, err := b.w.run(ctl, add...)
		got["add-1000"] = milliseconds(time.Since(start))
		if err != nil {
			return nil, err
		}
		if id != "direct" {
			remove = append(remove, strings.Fields(out)...)
		}
		start = time.Now()
		out, err = b.w.run(ctl, list...)
		got["list-1000"] = milliseconds(time.Since(start))
		if err == nil && strings.Count(out, "\n") < n {
			err = fmt.Errorf("only %d lines listed", strings.Count(out, "\n"))
		}
		took, rerr := b.w.timed(ctl, remove...)
		got["remove-1000"] = took
		return got, errors.Join(err, rerr)
	})
}

func rootlessctl(rootlesskit string) string {
	return filepath.Join(filepath.Dir(rootlesskit), "rootlessctl")
}

// rootlesskitDir returns the state directory that a RootlessKit was started with.
func (w *world) rootlesskitDir(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	for arg := range bytes.SplitSeq(data, []byte{0}) {
		if dir, ok := strings.CutPrefix(string(arg), "--state-dir="); ok {
			return dir
		}
	}
	return ""
}

// scaleRows compares the last additions with the first.
func (b *bench) scaleRows() {
	for range min(b.w.runs, 3) {
		if err := b.tenThousand(); err != nil {
			b.failed("10,000 forwards: %v", err)
			break
		}
	}
	if err := b.twoHundred(); err != nil {
		b.failed("200 instances: %v", err)
	}
}

func (b *bench) tenThousand() error {
	f, err := b.w.bring(b.ctx, b.res.contestant("direct"))
	if err != nil {
		return err
	}
	defer f.stop()
	var took []float64
	for port := firstPort; port < firstPort+10000; port += 1000 {
		span := fmt.Sprintf("127.0.0.1:%d-%d:%d-%d", port, port+999, port, port+999)
		v, err := b.w.timed(b.w.slirpctl, "forward", "add", f.state.Name, span)
		if err != nil {
			return err
		}
		took = append(took, v)
	}
	out, err := b.w.run(b.w.slirpctl, "forward", "list", "--json", f.state.Name)
	if err != nil {
		return err
	}
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return err
	}
	if len(list) < 10000 {
		return fmt.Errorf("only %d forwards are listed", len(list))
	}
	b.res.add("forwards-10000", "direct", took[9]/took[0])
	return nil
}

func (b *bench) twoHundred() error {
	start := time.Now()
	var names []string
	var holders []*holder
	defer func() {
		if len(names) > 0 {
			b.w.down(names...)
		}
		for _, h := range holders {
			h.stop()
		}
	}()
	var took []float64
	for range 200 {
		h, err := b.w.holder()
		if err != nil {
			return err
		}
		holders = append(holders, h)
		begin := time.Now()
		st, err := b.w.up(h.pid)
		if err != nil {
			return fmt.Errorf("instance %d: %w", len(names)+1, err)
		}
		took = append(took, milliseconds(time.Since(begin)))
		names = append(names, st.Name)
	}
	b.res.add("instances-200", "slirpctl", median(took[180:])/median(took[:20]))
	warn("%-28s %5.1f s", "200 instances", time.Since(start).Seconds())
	return nil
}

// healRow kills slirp4netns and waits until its forward works again.
func (b *bench) healRow() {
	runs := 20
	if b.w.runs < 7 {
		runs = b.w.runs
	}
	b.interleave("healing", runs, b.available("handler-slirp4netns"), []string{"heal"}, func(id string) (map[string]float64, error) {
		f, err := b.w.bring(b.ctx, b.res.contestant(id))
		if err != nil {
			return nil, err
		}
		defer f.stop()
		start := time.Now()
		if err := syscall.Kill(f.state.SlirpPID, syscall.SIGKILL); err != nil {
			return nil, err
		}
		// A connection that the killed process had accepted fails; only an answer counts.
		for exchange(f.to) != nil {
			if time.Since(start) > 10*time.Second {
				return nil, errors.New("no forward works 10 s after")
			}
			time.Sleep(time.Millisecond)
		}
		return map[string]float64{"heal": milliseconds(time.Since(start))}, nil
	})
}
