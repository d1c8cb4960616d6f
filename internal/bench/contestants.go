package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// contestant is one program to measure, used in one way.
type contestant struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// Missing says why it could not be measured.
	Missing string `json:"missing,omitempty"`

	path  string
	start func(w *world, c *contestant, port int) (*forwarder, error)
}

// forwarder is a running contestant: a server inside, and a way to reach it.
type forwarder struct {
	c       *contestant
	to      netip.AddrPort // on the host, TCP and UDP
	guest   *guest
	roots   []int // the forwarding processes; their descendants count too
	counted string
	stop    func()
	state   slirpctlState // of a slirpctl instance
}

// pids returns the forwarding processes.
func (f *forwarder) pids() []int { return family(f.roots, []int{f.guest.pid}) }

// slirpctlState is the part of `up --json` that is used here.
type slirpctlState struct {
	Name          string `json:"name"`
	SupervisorPID int    `json:"supervisorPid"`
	SlirpPID      int    `json:"slirp4netnsPid"`
}

// rootlesskitFlags are the flags for what slirpctl does by default.
func rootlesskitFlags(dir string) []string {
	return []string{
		"--state-dir=" + dir, "--net=slirp4netns", "--mtu=65520", "--copy-up=/etc", "--disable-host-loopback",
		"--slirp4netns-sandbox=true", "--slirp4netns-seccomp=true",
	}
}

var pastaFlags = []string{"--quiet", "--foreground", "--config-net"}

// slirpFlags are the best options of a bare slirp4netns, with sandbox and seccomp.
var slirpFlags = []string{"--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"}

var unshare = []string{"unshare", "-Urnm"}

func startLoopback(w *world, c *contestant, port int) (*forwarder, error) {
	g, err := w.startGuest(port)
	if err != nil {
		return nil, err
	}
	return &forwarder{c: c, to: loopback(port), guest: g, stop: g.stop}, nil
}

func startPasta(flags ...string) func(*world, *contestant, int) (*forwarder, error) {
	return func(w *world, c *contestant, port int) (*forwarder, error) {
		inside := strconv.Itoa(port)
		spec := "127.0.0.1/" + inside
		wrap := append(append([]string{c.path}, pastaFlags...), flags...)
		g, err := w.startGuest(port, append(wrap, "-t", spec, "-u", spec, "--")...)
		if err != nil {
			return nil, err
		}
		return &forwarder{c: c, to: loopback(port), guest: g, roots: []int{g.cmd.Process.Pid}, counted: "pasta", stop: g.stop}, nil
	}
}

func startRootlesskit(w *world, c *contestant, port int) (*forwarder, error) {
	wrap := append([]string{c.path}, rootlesskitFlags(filepath.Join(w.runDir(), w.name()))...)
	for _, proto := range []string{"tcp", "udp"} {
		wrap = append(wrap, fmt.Sprintf("--publish=127.0.0.1:%d:%d/%s", port, port, proto))
	}
	g, err := w.startGuest(port, append(wrap, "--port-driver=builtin")...)
	if err != nil {
		return nil, err
	}
	return &forwarder{
		c: c, to: loopback(port), guest: g, roots: []int{g.cmd.Process.Pid},
		counted: "parent, child, slirp4netns", stop: g.stop,
	}, nil
}

// startBare starts slirp4netns alone, with forwards through its API socket.
func startBare(flags ...string) func(*world, *contestant, int) (*forwarder, error) {
	return func(w *world, c *contestant, port int) (*forwarder, error) {
		g, err := w.startGuest(port, unshare...)
		if err != nil {
			return nil, err
		}
		api := filepath.Join(w.runDir(), w.name()+".sock")
		cmd, err := w.startSlirp(g.pid, append(append([]string{}, flags...), "--api-socket="+api)...)
		if err != nil {
			g.stop()
			return nil, err
		}
		f := &forwarder{c: c, to: loopback(port), guest: g, roots: []int{cmd.Process.Pid}, counted: "slirp4netns"}
		f.stop = func() { endNow(cmd); g.stop() }
		for _, proto := range []string{"tcp", "udp"} {
			if err := addHostfwd(api, proto, port); err != nil {
				f.stop()
				return nil, err
			}
		}
		return f, nil
	}
}

// startSlirp starts slirp4netns on a process's namespace and waits until it is ready. It first
// checks that the process has left our own network namespace.
func (w *world) startSlirp(pid int, flags ...string) (*exec.Cmd, error) {
	ours, _ := os.Readlink("/proc/self/ns/net")
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err == nil && ours == theirs {
		err = errors.New("it is in the host's network namespace")
	}
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	r, wr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := w.command("slirp4netns", append(flags, "--ready-fd=3", strconv.Itoa(pid), "tap0")...)
	cmd.ExtraFiles = []*os.File{wr}
	said := &tail{}
	cmd.Stderr = said
	err = cmd.Start()
	wr.Close()
	if err != nil {
		return nil, err
	}
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, _ := r.Read(make([]byte, 1)); n != 1 {
		endProcess(cmd)
		return nil, fmt.Errorf("slirp4netns: not ready: %s", said)
	}
	return cmd, nil
}

// addHostfwd requests a forward from slirp4netns.
func addHostfwd(api, proto string, port int) error {
	c, err := net.Dial("unix", api)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, `{"execute":"add_hostfwd","arguments":{"proto":%q,"host_addr":"127.0.0.1","host_port":%d,"guest_port":%d}}`, proto, port, port); err != nil {
		return err
	}
	var r struct {
		Error *struct{ Desc string }
	}
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return err
	}
	if r.Error != nil {
		return errors.New(r.Error.Desc)
	}
	return nil
}

// startSlirpctl starts slirpctl with a handler on the namespace of a process.
func startSlirpctl(handler string, flags ...string) func(*world, *contestant, int) (*forwarder, error) {
	return func(w *world, c *contestant, port int) (*forwarder, error) {
		g, err := w.startGuest(port, unshare...)
		if err != nil {
			return nil, err
		}
		args := append([]string{"--port-handler", handler}, flags...)
		for _, proto := range []string{"tcp", "udp"} {
			args = append(args, "-p", fmt.Sprintf("127.0.0.1:%d:%d/%s", port, port, proto))
		}
		st, err := w.up(g.pid, args...)
		if err != nil {
			g.stop()
			return nil, err
		}
		return &forwarder{
			c: c, to: loopback(port), guest: g, state: st,
			roots: []int{st.SupervisorPID, st.SlirpPID}, counted: "supervisor, helper, slirp4netns",
			stop: func() { w.down(st.Name); g.stop() },
		}, nil
	}
}

// up starts a detached instance on a process's namespace.
func (w *world) up(pid int, args ...string) (st slirpctlState, err error) {
	argv := append([]string{"up", "-d", "--json", "--name", w.name()}, args...)
	out, err := w.run(w.slirpctl, append(argv, strconv.Itoa(pid))...)
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal([]byte(out), &st)
}

func (w *world) down(names ...string) {
	if _, err := w.run(w.slirpctl, append([]string{"down"}, names...)...); err != nil {
		warn("%v", err)
	}
}

// bring starts a contestant and waits until a connection succeeds.
func (w *world) bring(ctx context.Context, c *contestant) (*forwarder, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	f, err := c.start(w, c, port)
	if err != nil {
		return nil, err
	}
	if err := until(ctx, 10*time.Second, func() error { return exchange(f.to) }); err != nil {
		f.stop()
		return nil, fmt.Errorf("no connection gets through: %w", err)
	}
	return f, nil
}

// versionLine returns the first line of a program's output that starts with the program's name.
func (w *world) versionLine(path string, args ...string) string {
	cmd := w.command(path, args...)
	out, _ := cmd.CombinedOutput()
	name, _, _ := strings.Cut(filepath.Base(path), "-")
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, name+" ") {
			return line
		}
	}
	return ""
}
