package hostfwd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
)

func hostname(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestDiagnosePortInUse(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	tcpPort := netip.MustParseAddrPort(tcp.Addr().String()).Port()
	udpPort := netip.MustParseAddrPort(udp.LocalAddr().String()).Port()
	for _, f := range []Forward{
		{Proto: TCP, HostIP: ip("127.0.0.1"), HostPort: tcpPort},
		{Proto: TCP, HostIP: ip("0.0.0.0"), HostPort: tcpPort},
		{Proto: TCP4, HostPort: tcpPort},
		{Proto: UDP, HostIP: ip("127.0.0.1"), HostPort: udpPort},
	} {
		err := Diagnose(f)
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.HasSuffix(err.Error(), fmt.Sprintf("by %s (pid %d)", hostname(t), os.Getpid())) {
			t.Errorf("%v: got %v", f, err)
		}
	}
	if err := Diagnose(Forward{Proto: TCP, HostIP: ip("127.0.0.2"), HostPort: tcpPort}); err != nil {
		t.Errorf("another address: %v", err)
	}
	// Without a visible process, the message says so.
	e := portInUse(Forward{Proto: TCP, HostIP: ip("127.0.0.1"), HostPort: 80}, Process{}, holdsOpen)
	if want := "127.0.0.1:80/tcp is in use by a process that you can't see"; e.Error() != want {
		t.Errorf("got %q", e)
	}
}

func inUseByUs(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) && strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", os.Getpid()))
}

// The manager explains a handler's system error.
func TestManagerExplains(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h := newFake()
	h.refuse = func(Forward) error {
		return &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	m := newTestManager(t, h)
	_, err = m.Add(t.Context(), forwards(t, l.Addr().String()+":80"))
	if !inUseByUs(err) {
		t.Errorf("got %v", err)
	}
	boom := errors.New("boom")
	if got := Explain(Forward{}, boom); got != boom {
		t.Errorf("got %v", got)
	}
}

func TestDiagnoseIPv6(t *testing.T) {
	if !hostHasIPv6() {
		if os.Getenv("CI") != "" {
			t.Fatal("this host has no IPv6")
		}
		t.Skip("this host has no IPv6")
	}
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	for _, f := range []Forward{{Proto: TCP, HostIP: ip("::1"), HostPort: port}, {Proto: TCP6, HostPort: port}} {
		if err := Diagnose(f); !inUseByUs(err) {
			t.Errorf("%v: got %v", f, err)
		}
	}
	for _, a := range []string{"2001:db8::1", "fe80::1%nosuch0"} {
		if err := Diagnose(Forward{Proto: TCP, HostIP: ip(a), HostPort: 8080}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("%s: got %v", a, err)
		}
	}
}

func TestDiagnoseNotLocal(t *testing.T) {
	err := Diagnose(Forward{Proto: UDP, HostIP: ip("192.0.2.1"), HostPort: 8080})
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || err.Error() != "192.0.2.1 is not an address of this host" || fault.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	if _, err := FreePort(Forward{Proto: TCP, HostIP: ip("192.0.2.1")}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("FreePort: got %v", err)
	}
}

func TestFreePort(t *testing.T) {
	for _, p := range []Proto{TCP, UDP} {
		f := Forward{Proto: p, HostIP: ip("127.0.0.1")}
		port, err := FreePort(f)
		f.HostPort = port
		if err != nil || port == 0 || Diagnose(f) != nil {
			t.Errorf("%s: %d, %v", p, port, err)
		}
	}
}

// The privileged port needs an unprivileged process, and the missing IPv6 a network namespace
// without it: this test binary, started again.
func TestDiagnoseInOtherProcess(t *testing.T) {
	if what := os.Getenv("HOSTFWD_TEST_DIAGNOSE"); what != "" {
		err := Diagnose(forwards(t, what)[0])
		os.Stdout.WriteString("answer: " + errString(err) + "\n")
		return
	}
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	port := netip.MustParseAddrPort(udp.LocalAddr().String()).Port()
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	netns := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	// Where no port is taken, and the first unprivileged port is the kernel's default.
	nobodyAlone := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: nobody.Credential}
	for _, tt := range []struct {
		spec string
		as   *syscall.SysProcAttr
		want string
	}{
		{"7:7", nobodyAlone, "0.0.0.0:7/tcp is a privileged port: below net.ipv4.ip_unprivileged_port_start, which is 1024"},
		{"127.0.0.1:" + strconv.Itoa(int(port)) + ":7/udp", nobody, "127.0.0.1:" + strconv.Itoa(int(port)) + "/udp is in use by a process that you can't see"},
		{"[::1]:8080:80", netns, "can't listen on [::1]: this host has no IPv6"},
		{"8080:80", nobodyAlone, "nothing wrong"},
	} {
		// The user nobody can't enter the binary's directory, but can execute an open file.
		exe, err := os.Open("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestDiagnoseInOtherProcess$")
		cmd.ExtraFiles = []*os.File{exe}
		cmd.Dir = "/"
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GOCOVERDIR=") }), "HOSTFWD_TEST_DIAGNOSE="+tt.spec)
		cmd.SysProcAttr = tt.as
		out, err := cmd.CombinedOutput()
		exe.Close()
		if err != nil || !strings.Contains(string(out), "answer: "+tt.want+"\n") {
			t.Errorf("%s: %v\n%s\nwant %q", tt.spec, err, out, tt.want)
		}
	}
}

func errString(err error) string {
	if err == nil {
		return "nothing wrong"
	}
	return err.Error()
}

func TestHints(t *testing.T) {
	f := Forward{Proto: TCP, HostIP: ip("127.0.0.1"), HostPort: 80}
	for _, h := range []struct {
		err  error
		want string
	}{
		{portInUse(f, Process{}, holdsOpen), "0 for a free one"},
		{PrivilegedPort(f, 1024), "sysctl net.ipv4.ip_unprivileged_port_start=80"},
		{PrivilegedPort(f, 0), "another host port"},
		{notLocal(f), "ip addr"},
		{noIPv6(f), "IPv4"},
		{FileLimit(2, 1), "LimitNOFILE"},
	} {
		if got := fault.Hint(h.err); !strings.Contains(got, h.want) {
			t.Errorf("%T: %q, want %q", h.err, got, h.want)
		}
	}
}
