package forwardtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAttackShortage: clients of one forward use up the descriptors of an instance that has few. Another
// forward works meanwhile; afterwards all recover by themselves.
func TestAttackShortage(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		for _, handler := range []string{"direct", "rootlesskit"} {
			for _, limit := range []uint64{64, 128} {
				t.Run(fmt.Sprintf("%s %d", handler, limit), func(t *testing.T) {
					w := newWorld(t)
					g := w.up("g", "--port-handler", handler)
					// Before the first forward, which starts the handler and the helper.
					few := unix.Rlimit{Cur: limit, Max: limit}
					if err := unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
						t.Fatal(err)
					}
					tcp, udp := g.listen("tcp4", "0.0.0.0:0", "echo"), g.listen("udp4", "0.0.0.0:0", "echo")
					flooded, other := g.forward("127.0.0.1", tcp, "tcp"), g.forward("127.0.0.1", tcp, "tcp")
					floodedUDP, otherUDP := g.forward("127.0.0.1", udp, "udp"), g.forward("127.0.0.1", udp, "udp")

					var flood []net.Conn
					for range limit {
						flood = append(flood, dial(t, local(flooded.HostPort)))
					}
					eventually(t, func() error {
						if !strings.Contains(w.must("logs", "g"), "new ones wait") {
							return errors.New("the log does not say that connections wait")
						}
						return nil
					})
					for range 10 {
						c := dial(t, local(other.HostPort))
						if err := echo(c, "meanwhile"); err != nil {
							t.Fatalf("another forward: %v", err)
						}
						c.Close()
					}
					for _, c := range flood {
						c.Close()
					}
					for _, f := range []row{flooded, other} {
						eventually(t, func() error {
							c := dial(t, local(f.HostPort))
							defer c.Close()
							return echo(c, "afterwards")
						})
					}

					clients := make([]net.Conn, 5*limit)
					for i := range clients {
						c, err := net.Dial("udp", local(floodedUDP.HostPort))
						if err != nil {
							t.Fatal(err)
						}
						defer c.Close()
						clients[i] = c
						_, _ = c.Write([]byte("x"))
					}
					echoUDP(t, local(otherUDP.HostPort), "meanwhile")
					echoUDP(t, local(floodedUDP.HostPort), "afterwards")
					if err := echo(dial(t, local(flooded.HostPort)), "TCP still"); err != nil {
						t.Error(err)
					}
					if text := w.must("forward", "list", "g"); strings.Contains(text, "FAILED") {
						t.Errorf("a forward has failed:\n%s", text)
					}
				})
			}
		}
	})
}

// TestFamilies: an IPv4 address means IPv4, no address 0.0.0.0, [::] both families; from a command and
// through RootlessKit's API.
func TestFamilies(t *testing.T) {
	asCaller(t, func(t *testing.T) {
		if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
			lacking(t, "this host has no IPv6: %v", err)
		} else {
			l.Close()
		}
		for _, handler := range handlers {
			t.Run(handler, func(t *testing.T) {
				w := newWorld(t)
				g := w.up("g", "--port-handler", handler)
				port := g.listen("tcp4", "0.0.0.0:0", "echo")
				answers := func(host string, p int, want bool) {
					t.Helper()
					c, err := net.DialTimeout("tcp", net.JoinHostPort(host, fmt.Sprint(p)), testTimeout)
					if err == nil {
						defer c.Close()
						_ = c.SetDeadline(time.Now().Add(testTimeout))
						err = echo(c, "x")
					}
					if (err == nil) != want {
						t.Errorf("%s port %d: %v", host, p, err)
					}
				}
				for _, spec := range []string{fmt.Sprintf("0:%d", port), fmt.Sprintf("0.0.0.0:0:%d", port)} {
					f := w.add("g", spec)[0]
					if f.HostIP != "0.0.0.0" {
						t.Errorf("%s listens on %s", spec, f.HostIP)
					}
					answers("127.0.0.1", f.HostPort, true)
					answers("::1", f.HostPort, false)
				}
				free := w.add("g", fmt.Sprintf("0:%d", port))[0]
				g.remove(fmt.Sprint(free.ID))
				addByAPI(t, filepath.Join(w.state(), "g", "control.sock"), fmt.Sprintf(`{"proto":"tcp","parentPort":%d,"childPort":%d}`, free.HostPort, port))
				answers("127.0.0.1", free.HostPort, true)
				answers("::1", free.HostPort, false)
				if handler == "slirp4netns" {
					return
				}
				both := w.add("g", fmt.Sprintf("[::]:0:%d", port))[0]
				answers("127.0.0.1", both.HostPort, true)
				answers("::1", both.HostPort, true)
				w.refused(5, fmt.Sprintf("already forwarded by %d", both.ID), "forward", "add", "g", fmt.Sprintf("0.0.0.0:%d:%d", both.HostPort, port))
				six := w.add("g", fmt.Sprintf("[::]:0:%d/tcp6", port))[0]
				answers("::1", six.HostPort, true)
				four := w.add("g", fmt.Sprintf("0.0.0.0:%d:%d", six.HostPort, port))[0]
				answers("127.0.0.1", four.HostPort, true)
			})
		}
	})
}

// addByAPI adds a forward as RootlessKit's clients do.
func addByAPI(t *testing.T, socket, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://x/v1/ports", "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode/100 != 2 {
		t.Fatalf("%s: %s", resp.Status, text)
	}
}

// TestFailedForward: a forward whose port another process takes while slirp4netns is down is listed as
// failed, with the reason, and is restored automatically.
func TestFailedForward(t *testing.T) {
	asCaller(t, func(t *testing.T) {
		w := newWorld(t)
		g := w.up("g", "--port-handler", "slirp4netns")
		port := g.listen("tcp4", "0.0.0.0:0", "echo")
		f := g.forward("127.0.0.1", port, "tcp")
		var taken net.Listener
		eventually(t, func() (err error) {
			killSlirp4netns(t, w)
			for range 2000 { // the port is free for some milliseconds
				if taken, err = net.Listen("tcp4", local(f.HostPort)); err == nil {
					return nil
				}
				time.Sleep(100 * time.Microsecond)
			}
			return err
		})
		defer taken.Close()
		reason := fmt.Sprintf("127.0.0.1:%d/tcp is in use by %s (pid %d)", f.HostPort, comm(t), os.Getpid())
		eventually(t, func() error {
			if text := w.must("forward", "list", "g"); !strings.Contains(text, "FAILED") || !strings.Contains(text, reason) {
				return fmt.Errorf("not listed as failed because of %q:\n%s", reason, text)
			}
			return nil
		})
		taken.Close()
		eventually(t, func() error {
			c, err := net.DialTimeout("tcp", local(f.HostPort), testTimeout)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(testTimeout))
			return echo(c, "back")
		})
		eventually(t, func() error {
			if text := w.must("forward", "list", "g"); strings.Contains(text, "FAILED") {
				return errors.New(text)
			}
			return nil
		})
	})
}

func killSlirp4netns(t *testing.T, w *world) {
	t.Helper()
	var pid int
	if _, err := fmt.Sscan(w.must("list", "g", "--format", "{{.slirp4netnsPid}}"), &pid); err != nil || pid <= 0 {
		t.Fatalf("slirp4netns's PID: %d, %v", pid, err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}
