package forwardtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTransparent: --source-ip-transparent works for an ordinary user too, also after slirp4netns was
// started again, and what the guest itself connects to is not affected.
// TestSourceAddress compares the client's address with the documentation.
func TestTransparent(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		needLAN(t)
		t.Run("rootlesskit", func(t *testing.T) {
			g := newWorld(t).up("g", "--port-handler=rootlesskit", "--source-ip-transparent")
			wantSource(t, "tcp4", lan, g.forward(lan, g.listen("tcp4", "0.0.0.0:0", "whoami"), "tcp").HostPort)
		})
		t.Run("direct", testTransparentDirect)
	})
}

func testTransparentDirect(t *testing.T) {
	w := newWorld(t)
	g := w.up("g", "--source-ip-transparent", "--ipv6")
	var st struct{ IPv6 struct{ Guest string } }
	unmarshal(t, w.must("list", "g", "--format", "json"), &st)
	type forward struct {
		network, host string
		port          int
	}
	var forwards []forward
	for _, network := range []string{"tcp4", "udp4"} {
		port := g.listen(network, "0.0.0.0:0", "whoami")
		for _, inside := range []string{"10.0.2.100", "127.0.0.1"} {
			f := w.add("g", fmt.Sprintf("%s:0:%s:%d/%s", lan, inside, port, network))[0]
			forwards = append(forwards, forward{network, lan, f.HostPort})
		}
	}
	for _, network := range []string{"tcp6", "udp6"} {
		port := g.listen(network, "[::]:0", "whoami")
		for _, inside := range []string{st.IPv6.Guest, "::1"} {
			f := w.add("g", fmt.Sprintf("[%s]:0:[%s]:%d/%s", lan6, inside, port, network))[0]
			forwards = append(forwards, forward{network, lan6, f.HostPort})
		}
	}
	echoPort := g.listen("tcp4", "0.0.0.0:0", "echo")
	first, second := g.forward(lan, echoPort, "tcp"), g.forward(lan, echoPort, "tcp")
	nobody := g.forward(lan, 9, "tcp")
	server, own, err := serve("tcp4", lan+":0", "whoami")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// A client that stays connected, and uses its port for two forwards to the same program.
	client := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(lan), Port: freeRange(t, 1)}, Control: reuseAddr}
	var stays []net.Conn
	for _, f := range []row{first, second} {
		c, err := client.Dial("tcp4", net.JoinHostPort(lan, strconv.Itoa(f.HostPort)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		stays = append(stays, c)
	}
	for restarts := range 2 {
		for _, c := range stays {
			if err := echo(c, "x"); err != nil {
				t.Error(err)
			}
		}
		for _, f := range forwards {
			wantSource(t, f.network, f.host, f.port)
		}
		if c, err := net.Dial("tcp4", net.JoinHostPort(lan, strconv.Itoa(nobody.HostPort))); err == nil {
			_ = c.SetDeadline(time.Now().Add(testTimeout))
			if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
				t.Errorf("nothing listens: %v", err)
			}
			c.Close()
		}
		g.tell("run %s tcp4 %s:%s", bin(t, "ask"), lan, own)
		if restarts == 0 {
			kill(t, w, "g")
		}
	}
}

// wantSource checks the client's address that a "whoami" server inside sees.
func wantSource(t *testing.T, network, host string, port int) {
	t.Helper()
	proto := strings.TrimRight(network, "46")
	if got, err := ask(proto, net.JoinHostPort(host, strconv.Itoa(port))); err != nil || got != host {
		t.Errorf("%s to %s: a program inside sees %q, %v", network, host, got, err)
	}
}

func reuseAddr(_, _ string, c syscall.RawConn) (err error) {
	_ = c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
	return err
}

// kill kills slirp4netns and waits until another one runs.
func kill(t *testing.T, w *world, name string) {
	t.Helper()
	var before, now struct{ Slirp4netnsPID, Restarts int }
	unmarshal(t, w.must("list", name, "--format", "json"), &before)
	if err := syscall.Kill(before.Slirp4netnsPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		unmarshal(t, w.must("list", name, "--format", "json"), &now)
		if now.Restarts == before.Restarts {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
}

// TestTransparentUndone: the rules, routes and sysctls of --source-ip-transparent are taken away again. Those
// of a supervisor that was killed are taken away by the next one.
func TestTransparentUndone(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		needLAN(t)
		w := newWorld(t)
		pid := namespaces(t)
		look := func(args ...string) string {
			t.Helper()
			return runs(t, append([]string{"nsenter", "--user", "--preserve-credentials", "--net", "--target", strconv.Itoa(pid), "sh", "-c"}, args...)...)
		}
		const rules = "ip rule; ip -6 rule; ip route show table all | grep -v 'table local'; ip -6 route show table all | grep -v 'table local'; true"
		const all = rules + "; cat /proc/sys/net/ipv4/tcp_fwmark_accept /proc/sys/net/ipv4/fwmark_reflect /proc/sys/net/ipv6/fwmark_reflect"
		before, beforeRules := look(all), look(rules)
		up := func() {
			t.Helper()
			w.must("up", "-d", "--name", "g", "--source-ip-transparent", strconv.Itoa(pid))
			// A session, whether it is answered or not.
			f := w.add("g", lan+":0:9/udp")[0]
			c, err := net.Dial("udp", net.JoinHostPort(lan, strconv.Itoa(f.HostPort)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			eventually(t, func() error {
				_, _ = c.Write([]byte("x"))
				if now := look(rules); !strings.Contains(now, "to "+lan+" ipproto udp") {
					return fmt.Errorf("no rule for the session:\n%s", now)
				}
				return nil
			})
		}
		up()
		w.must("down", "g")
		if after := look(all); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		up()
		var st struct{ SupervisorPID int }
		unmarshal(t, w.must("list", "g", "--format", "json"), &st)
		if err := syscall.Kill(st.SupervisorPID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if out, err := exec.Command("nsenter", "--user", "--preserve-credentials", "--net", "--target", strconv.Itoa(pid), "ip", "link", "show", "tap0").Output(); err == nil {
				return fmt.Errorf("the tap is still there: %s", out)
			}
			return nil
		})
		up()
		w.must("down", "g")
		if after := look(rules); after != beforeRules {
			t.Errorf("before:\n%s\nafter a supervisor was killed:\n%s", beforeRules, after)
		}
	})
}

// TestTransparentMissing: what --source-ip-transparent needs and can't have is an error that names it.
func TestTransparentMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		return // hiding programs needs root; covered by root's run
	}
	asCaller(t, func(t *testing.T) {
		w := newWorld(t)
		private := "mount --make-rprivate /"
		noTools := private
		for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
			for _, tool := range []string{"nft", "iptables", "ip6tables"} {
				if _, err := os.Stat(dir + "/" + tool); err == nil {
					// No program can be found.
					noTools += " && mount --bind /dev/null " + dir + "/" + tool
				}
			}
		}
		for _, c := range []struct{ handler, hide, want string }{
			{"rootlesskit", noTools, "--source-ip-transparent needs nft or iptables"},
			{"direct", private + " && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys", "--source-ip-transparent: the namespace's net.ipv4.tcp_fwmark_accept must be 1"},
		} {
			up := w.command(t.Context(), "up", "-d", "--name", "g", "--port-handler", c.handler, "--source-ip-transparent", "-p", "127.0.0.1::80", strconv.Itoa(namespaces(t)))
			cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", c.hide + ` && exec "$0" "$@"`}, up.Args...)...)
			cmd.Env = up.Env
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), c.want) {
				t.Errorf("%s: exit status %d, want 3:\n%s", c.handler, code, out)
			}
		}
	})
}
