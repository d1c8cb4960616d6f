package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// hostService is a TCP and a UDP service on an address of the host that records what it receives.
type hostService struct {
	port int

	mu   sync.Mutex
	hits map[string]int
}

func serveOn(t *testing.T, addr string) *hostService {
	t.Helper()
	ip := netip.MustParseAddr(addr)
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		lacking(t, "this test needs %s: %v", addr, err)
	}
	s := &hostService{hits: map[string]int{}, port: tcp.Addr().(*net.TCPAddr).Port}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(s.port))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			s.hit("TCP")
			_, _ = io.WriteString(c, "host\n")
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			s.hit("UDP " + string(buf[:n]))
			_, _ = udp.WriteToUDPAddrPort([]byte("host\n"), from)
		}
	}()
	return s
}

func (s *hostService) hit(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[what]++
}

// heard returns what was received since the previous call. It sends to the service itself and waits
// for the answer, so that everything sent before has arrived.
func (s *hostService) heard(t *testing.T, addr string) []string {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		c, err := net.Dial(network, net.JoinHostPort(addr, strconv.Itoa(s.port)))
		if err != nil {
			t.Fatal(err)
		}
		answered := func() bool { // a datagram may be lost while the socket is flooded
			_, _ = io.WriteString(c, "mark")
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, err = io.ReadFull(c, make([]byte, 5))
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
		eventually(t, "the service answers", answered)
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits["TCP"]-- // our own
	delete(s.hits, "UDP mark")
	var others []string
	for what, n := range s.hits {
		if n > 0 {
			others = append(others, fmt.Sprintf("%s (%d)", what, n))
		}
	}
	s.hits = map[string]int{}
	return others
}

// labs runs a test as root and as an ordinary user.
func labs(t *testing.T, test func(*testing.T, *lab)) {
	if os.Geteuid() == 0 {
		t.Run("root", func(t *testing.T) { t.Parallel(); test(t, newLab(t)) })
	}
	t.Run("user", func(t *testing.T) { t.Parallel(); test(t, newUserLab(t)) })
}

func (l *lab) helper(name string) string { return filepath.Join(programs.path(l.t.(*testing.T)), name) }

// TestAttackLoopbackFrames sends frames to the host's loopback that slirp4netns's own ban lets pass.
func TestAttackLoopbackFrames(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		lo4, lo6 := serveOn(t, "127.0.0.1"), serveOn(t, "::1")
		const guest4, guest6 = "10.0.2.100", "fd00::64"
		attacks := map[string]testFrame{}
		for name, proto := range map[string]byte{"TCP": unix.IPPROTO_TCP, "UDP": unix.IPPROTO_UDP} {
			for _, dst := range []string{"127.0.0.1", "0.0.0.0", "10.0.2.2"} {
				attacks[name+" "+dst] = testFrame{src: guest4, dst: dst, proto: proto, port: lo4.port}
			}
			attacks[name+" options"] = testFrame{src: guest4, dst: "127.0.0.1", proto: proto, port: lo4.port, options: []byte{1, 1, 1, 0}}
			attacks[name+" source route"] = testFrame{src: guest4, dst: "127.0.0.1", proto: proto, port: lo4.port, options: []byte{131, 7, 4, 127, 0, 0, 1, 0}}
			attacks[name+" foreign source"] = testFrame{src: "198.51.100.7", dst: "127.0.0.1", proto: proto, port: lo4.port}
			attacks[name+" fragments"] = testFrame{src: guest4, dst: "127.0.0.1", proto: proto, port: lo4.port, fragments: true}
			attacks[name+" VLAN"] = testFrame{src: guest4, dst: "127.0.0.1", proto: proto, port: lo4.port, vlans: []uint16{unix.ETH_P_8021Q}}
			attacks[name+" two VLANs"] = testFrame{src: guest4, dst: "127.0.0.1", proto: proto, port: lo4.port, vlans: []uint16{unix.ETH_P_8021AD, unix.ETH_P_8021Q}}
			attacks[name+" as IPv6"] = testFrame{src: guest4, dst: "127.0.0.1", proto: proto, port: lo4.port, etherType: unix.ETH_P_IPV6}
			for _, dst := range []string{"::1", "::", "fd00::2"} {
				attacks[name+" "+dst] = testFrame{src: guest6, dst: dst, proto: proto, port: lo6.port}
			}
			attacks[name+" ::ffff:127.0.0.1"] = testFrame{src: guest6, dst: "::ffff:127.0.0.1", proto: proto, port: lo4.port}
			attacks[name+" ::127.0.0.1"] = testFrame{src: guest6, dst: "::127.0.0.1", proto: proto, port: lo4.port}
			attacks[name+" as IPv4"] = testFrame{src: guest6, dst: "::1", proto: proto, port: lo6.port, etherType: unix.ETH_P_IP}
		}
		var all []string
		for _, f := range attacks {
			all = append(all, f.make()...)
		}
		run := func(more ...string) {
			t.Helper()
			args := append(append([]string{"up", "--ipv6"}, more...), "--", l.helper("frames"))
			if r := l.run(append(args, all...)...); r.code != 0 || strings.Contains(r.err, "warning") {
				t.Fatalf("exit status %d: %s", r.code, r.err)
			}
		}
		run()
		if got := append(lo4.heard(t, "127.0.0.1"), lo6.heard(t, "::1")...); len(got) > 0 {
			t.Errorf("the host's loopback was reached: %q", got)
		}
		// The same, allowed: otherwise the test would prove nothing.
		run("--allow-host-loopback")
		got4, got6 := strings.Join(lo4.heard(t, "127.0.0.1"), ", "), strings.Join(lo6.heard(t, "::1"), ", ")
		for _, got := range []string{got4, got6} {
			if !strings.Contains(got, "TCP") || !strings.Contains(got, "UDP "+frameText) {
				t.Errorf("allowed, but not reached: %q, %q", got4, got6)
			}
		}
	})
}

// TestAttackLoopbackRewritten makes nftables rewrite addresses after the guest's own network stack.
func TestAttackLoopbackRewritten(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		if _, err := exec.LookPath("nft"); err != nil {
			lacking(t, "this test needs nft: %v", err)
		}
		lo4, lo6 := serveOn(t, "127.0.0.1"), serveOn(t, "::1")
		script := fmt.Sprintf(`set -e; export PATH=$PATH:/usr/sbin:/sbin
			nft 'table netdev attack {
				chain out { type filter hook egress device tap0 priority 0
					ip daddr 198.51.100.7 ip daddr set 127.0.0.1
					ip6 daddr 2001:db8::7 ip6 daddr set ::1
					ip6 daddr 2001:db8::8 ip6 daddr set ::ffff:127.0.0.1
				}
				chain in { type filter hook ingress device tap0 priority 0
					ip saddr 127.0.0.1 ip saddr set 198.51.100.7
					ip6 saddr ::1 ip6 saddr set 2001:db8::7
					ip6 saddr ::ffff:127.0.0.1 ip6 saddr set 2001:db8::8
				}
			}'
			for to in TCP4:198.51.100.7:%[1]d UDP4:198.51.100.7:%[1]d TCP6:[2001:db8::7]:%[2]d UDP6:[2001:db8::7]:%[2]d TCP6:[2001:db8::8]:%[1]d; do
				(echo "$to $(echo hi | timeout 3 socat -t1 -T2 - $to 2>/dev/null)") &
			done; wait`, lo4.port, lo6.port)
		r := l.run("up", "--ipv6", "--", "bash", "-c", script)
		if strings.Contains(r.out, "host") || strings.Count(r.out, "\n") != 5 {
			t.Errorf("exit status %d: %s%s", r.code, r.out, r.err)
		}
		if got := append(lo4.heard(t, "127.0.0.1"), lo6.heard(t, "::1")...); len(got) > 0 {
			t.Errorf("the host's loopback was reached: %q", got)
		}
		r = l.run("up", "--ipv6", "--allow-host-loopback", "--", "bash", "-c", script)
		if strings.Count(r.out, " host") < 4 {
			t.Errorf("allowed, but not reached: %s%s", r.out, r.err)
		}
	})
}

// TestAttackLoopbackWhileStarting floods every tap with such frames from the moment it appears: while
// slirp4netns starts, and while it restarts.
func TestAttackLoopbackWhileStarting(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		lo := serveOn(t, "127.0.0.1")
		syn := testFrame{src: "10.0.2.100", dst: "127.0.0.1", proto: unix.IPPROTO_TCP, port: lo.port}
		datagram := testFrame{src: "10.0.2.100", dst: "127.0.0.1", proto: unix.IPPROTO_UDP, port: lo.port}
		args := append(append([]string{"-flood"}, syn.make()...), datagram.make()...)
		pid := strconv.Itoa(l.startTarget(l.helper("frames"), args...).Process.Pid)
		for i := range 3 {
			st := l.up("--name", "x", pid)
			for range 5 {
				_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
				eventually(t, "it is started again", func() bool {
					now := l.state("x")
					defer func() { st = now }()
					return now.State == instance.Running && now.SlirpPID != st.SlirpPID
				})
			}
			if log := l.log("x"); strings.Contains(log, "no packet filter") {
				t.Fatalf("round %d: %s", i, log)
			}
			l.must("down", "x")
			if got := lo.heard(t, "127.0.0.1"); len(got) > 0 {
				t.Fatalf("round %d: the host's loopback was reached: %q", i, got)
			}
		}
		l.up("--name", "x", "--allow-host-loopback", pid)
		defer l.must("down", "x")
		eventually(t, "allowed, it is reached", func() bool { return len(lo.heard(t, "127.0.0.1")) > 0 })
	})
}

// TestAttackLoopbackFilter tries to remove the filter from inside.
func TestAttackLoopbackFilter(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		lo := serveOn(t, "127.0.0.1")
		syn := testFrame{src: "10.0.2.100", dst: "127.0.0.1", proto: unix.IPPROTO_TCP, port: lo.port}
		datagram := testFrame{src: "10.0.2.100", dst: "127.0.0.1", proto: unix.IPPROTO_UDP, port: lo.port}
		send := strings.Join(append(append([]string{l.helper("frames"), "-dev $dev"}, syn.make()...), datagram.make()...), " ")
		script := `set -e; export PATH=$PATH:/usr/sbin:/sbin; dev=tap0
			! ip tuntap add dev tap0 mode tap 2>/dev/null # a second descriptor of it
			! ip tuntap add dev tap0 mode tap multi_queue 2>/dev/null
			ip link set tap0 txqueuelen 5; ` + send + `
			ip link set tap0 txqueuelen 5000; ` + send + `
			ip link set tap0 down; ip link set tap0 name eth5; ip addr add 10.0.2.100/24 dev eth5 2>/dev/null || :; ip link set eth5 up; dev=eth5; ` + send + `
			unshare --net sleep 1000 & there=$!
			until [ "$(readlink /proc/$there/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
			ip link set eth5 netns $there
			nsenter --net=/proc/$there/ns/net ip link set eth5 up
			nsenter --net=/proc/$there/ns/net ` + send + `
			kill $there; echo all sent`
		run := func(more ...string) {
			t.Helper()
			r := l.run(append(append([]string{"up"}, more...), "--", "bash", "-c", script)...)
			if !strings.Contains(r.out, "all sent") || strings.Contains(r.err, "packet filter") {
				t.Errorf("exit status %d: %s%s", r.code, r.out, r.err)
			}
		}
		run()
		if got := lo.heard(t, "127.0.0.1"); len(got) > 0 {
			t.Errorf("the host's loopback was reached: %q", got)
		}
		run("--allow-host-loopback")
		if got := lo.heard(t, "127.0.0.1"); len(got) != 2 {
			t.Errorf("allowed, but not reached: %q", got)
		}
		// A tap that existed before, and remains.
		pid := strconv.Itoa(l.target())
		in := func(args ...string) result {
			cmd := exec.Command("nsenter", append([]string{"--preserve-credentials", "-U", "-n", "-t", pid}, args...)...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
			if l.uid != 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(l.uid), Gid: uint32(l.gid)}}
			}
			return l.finish(cmd)
		}
		if r := in("ip", "tuntap", "add", "dev", "tap0", "mode", "tap"); r.code != 0 {
			t.Fatal(r.err)
		}
		l.up("--name", "x", pid)
		if r := in("sh", "-c", "dev=tap0; "+send); r.code != 0 {
			t.Errorf("exit status %d: %s", r.code, r.err)
		}
		l.must("down", "x")
		if got := lo.heard(t, "127.0.0.1"); len(got) > 0 {
			t.Errorf("the host's loopback was reached: %q", got)
		}
	})
}

// TestLoopbackBanImpossible: if slirp4netns can't be inspected, there is no filter. That is a warning, or an
// error if the ban was requested.
func TestLoopbackBanImpossible(t *testing.T) {
	t.Parallel()
	l := newUserLab(t)
	real, err := exec.LookPath("slirp4netns")
	must(t, err)
	// A process that executes an unreadable program can't be inspected either (execve(2)).
	blind := filepath.Join(filepath.Dir(l.base), "slirp4netns")
	must(t, noForks(func() error { return copyFile(real, blind, 0o111) }))
	if l.uid != 0 {
		must(t, os.Chown(blind, l.uid, l.gid))
	}
	pid := strconv.Itoa(l.target())
	up := func(env string, args ...string) result {
		l.env = []string{env}
		defer func() { l.env = nil }()
		return l.run(append([]string{"up", "-d", "--name", "x", "--slirp4netns-path", blind, pid}, args...)...)
	}
	const warning, asked = "there is no packet filter on the tap: ", "--allow-host-loopback=false is not possible: no packet filter on the tap: "
	if r := up(""); r.code != 0 || !strings.Contains(r.err, warning) {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	st := l.state("x")
	_ = syscall.Kill(st.SlirpPID, syscall.SIGKILL)
	eventually(t, "it is told again", func() bool { return strings.Count(l.log("x"), warning) == 2 })
	l.must("down", "x")
	if r := up("", "--allow-host-loopback"); r.code != 0 || strings.Contains(r.err, "packet filter") {
		t.Errorf("exit status %d: %s", r.code, r.err)
	}
	l.must("down", "x")
	for _, r := range []result{
		up("", "--allow-host-loopback=false"), up("", "-o", "allow_host_loopback=false"),
		up("", "--network", "slirp4netns:allow_host_loopback=false"), up("SLIRPCTL_ALLOW_HOST_LOOPBACK=false"),
	} {
		if r.code != exitUnsupported || !strings.Contains(r.err, asked) {
			t.Errorf("exit status %d: %s", r.code, r.err)
		}
		l.noneLeft()
	}
}

// TestAttackSlirpTraced: a process that may trace an ordinary user's slirp4netns can act as that user.
// docs/security.md says when that is possible.
func TestAttackSlirpTraced(t *testing.T) {
	t.Parallel()
	l := newUserLab(t)
	pid := l.target()
	runs(t, pid, "socat")
	for sandbox, want := range map[string]bool{"true": true, "false": false} {
		st := l.up("--name", "x", "--sandbox="+sandbox, strconv.Itoa(pid))
		if worked := attack(t, l, pid, st.SlirpPID); slices.Contains(worked, "PTRACE_SEIZE") != want || !want && len(worked) > 0 {
			t.Errorf("--sandbox=%s: %q works", sandbox, worked)
		}
		l.must("down", "x")
	}
}
