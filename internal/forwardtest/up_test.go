package forwardtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// TestUpPublish: ready means listening, with any network, and a port that can't be opened leaves
// nothing behind.
func TestUpPublish(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		for _, h := range handlers {
			t.Run(h, func(t *testing.T) {
				w := newWorld(t)
				first := freeRange(t, 3)
				publish := fmt.Sprintf("127.0.0.1:%d-%d:7001-7003", first, first+2)
				g := w.up("g", "--port-handler", h, "--cidr", "10.99.32.0/24", "-p", publish)
				for p := first; p <= first+2; p++ {
					checkListens(t, local(p)) // a single attempt
				}
				g.listen("tcp4", "10.99.32.100:7002", "echo")
				if err := echo(dial(t, local(first+1)), "x"); err != nil {
					t.Errorf("with a network of one's own: %v", err)
				}
				for _, r := range w.list("g") {
					if r.GuestIP != "10.99.32.100" {
						t.Errorf("%+v", r)
					}
				}

				busy := taken(t)
				next := freeRange(t, 2)
				w.refused(5, "in use by", "up", "-d", "--name", "fails", "--port-handler", h, "--netns", "/proc/"+strconv.Itoa(namespaces(t))+"/ns/net",
					"-p", fmt.Sprintf("%d:80", next), "-p", fmt.Sprintf("%d:81", busy))
				if !rangeIsFree(next, 1) {
					t.Error("a port of the start that failed is still taken")
				}
				w.refused(4, "no such instance", "list", "fails")
				if _, err := os.Stat(w.state() + "/fails"); err == nil {
					t.Error("the state of the start that failed is left")
				}
			})
		}
	})
}

// TestDetachedPublish: `up -d --json` prints the ports that were picked.
func TestDetachedPublish(t *testing.T) { asCaller(t, testDetachedPublish) }

func testDetachedPublish(t *testing.T) {
	for _, h := range handlers {
		t.Run(h, func(t *testing.T) {
			w := newWorld(t)
			text := w.must("up", "-d", "--json", "--name", "d", "--port-handler", h, "-p", "127.0.0.1::80/tcp,udp", "--", bin(t, "idle"))
			var st struct{ Ports []row }
			if err := json.Unmarshal([]byte(text), &st); err != nil {
				t.Fatal(err)
			}
			if len(st.Ports) != 2 || st.Ports[0].HostPort == 0 || st.Ports[0].HostPort != st.Ports[1].HostPort {
				t.Fatalf("%+v", st.Ports)
			}
			checkListens(t, local(st.Ports[0].HostPort))
			if list := w.list("d"); len(list) != 2 || list[0] != st.Ports[0] {
				t.Errorf("forward list: %+v, up: %+v", list, st.Ports)
			}
		})
	}
}

// TestHelperKilled: forwards keep working when the helper in the namespace is killed.
func TestHelperKilled(t *testing.T) { asCaller(t, testHelperKilled) }

func testHelperKilled(t *testing.T) {
	for _, h := range []string{"rootlesskit", "direct"} {
		t.Run(h, func(t *testing.T) {
			w := newWorld(t)
			g := w.up("g", "--port-handler", h)
			port := g.listen("tcp4", "0.0.0.0:0", "echo")
			f := g.forward("127.0.0.1", port, "tcp")
			open := dial(t, local(f.HostPort))
			if err := echo(open, "before"); err != nil {
				t.Fatal(err)
			}
			helper := helperOf(t, g.cmd.Process.Pid)
			if err := syscall.Kill(helper, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			// This uses up all sockets that were created ahead of time.
			for range 150 {
				eventually(t, func() error {
					c := dial(t, local(f.HostPort))
					defer c.Close()
					return echo(c, "after")
				})
			}
			if again := helperOf(t, g.cmd.Process.Pid); again == helper {
				t.Errorf("helper %d is still there", helper)
			}
			if err := echo(open, "still"); err != nil {
				t.Errorf("the connection that was open: %v", err)
			}
			if err := echo(dial(t, local(g.forward("127.0.0.1", port, "tcp").HostPort)), "new"); err != nil {
				t.Errorf("a new forward: %v", err)
			}
		})
	}
}

// helperOf finds the process in the namespace that a supervisor has started.
func helperOf(t *testing.T, supervisor int) (pid int) {
	t.Helper()
	eventually(t, func() error {
		des, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, de := range des {
			stat, err := os.ReadFile("/proc/" + de.Name() + "/stat")
			if err != nil {
				continue
			}
			cmdline, err := os.ReadFile("/proc/" + de.Name() + "/cmdline")
			if err != nil || !bytes.Contains(cmdline, []byte("__guest")) {
				continue
			}
			f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
			if ppid, _ := strconv.Atoi(string(f[1])); ppid == supervisor {
				pid, err = strconv.Atoi(de.Name())
				return err
			}
		}
		return fmt.Errorf("process %d has no helper", supervisor)
	})
	return pid
}
