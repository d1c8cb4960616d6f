package subnet_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

// An oracle returns what slirp4netns prints about cidr, and false if it refuses it.
//
// The real slirp4netns can be made to print its addresses and exit within a few milliseconds: it
// prints them when it has its packet device, just before its main loop, which ends at once
// because its exit fd was hung up from the start.
//
//   - With --target-type=bess (since 1.2.0) the packet device is a UNIX socket that the test
//     connects to. That needs no namespace, no /dev/net/tun and no privileges.
//   - Otherwise it is a tap in a temporary user and network namespace, which needs the right
//     to make one and a /dev/net/tun that the caller can open. It takes 17 ms instead of 3.
type oracle func(t *testing.T, cidr string) (stdout string, ok bool)

// testTimeout bounds one run of slirp4netns. It is generous, and not a measurement.
const testTimeout = 30 * time.Second

// lacking ends the test because the machine lacks something; in CI that is a failure.
func lacking(t *testing.T, format string, a ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needed in CI: "+format, a...)
	}
	t.Skipf(format, a...)
}

func findSlirp4netns(t *testing.T) (path, help string) {
	t.Helper()
	path, err := exec.LookPath("slirp4netns")
	if err != nil {
		lacking(t, "slirp4netns is not installed: %v", err)
	}
	out, err := exec.Command(path, "--help").Output()
	if err != nil {
		t.Fatalf("slirp4netns --help: %v", err)
	}
	return path, string(out)
}

// hungUp returns the read end of a pipe whose write end is closed.
func hungUp(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { r.Close() })
	return r
}

// slirp4netns prepares a run that ends by itself: fd 3 is a hung-up exit fd.
func slirp4netns(ctx context.Context, path string, exit *os.File, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.CommandContext(ctx, path, append([]string{"--exit-fd=3"}, args...)...)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.ExtraFiles = []*os.File{exit}
	// It forks: if it has to be killed, so does its child.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd, stdout, stderr
}

// verdict distinguishes a refusal of the CIDR from every other failure, which ends the test.
func verdict(t *testing.T, cidr, stdout, stderr string, err error) (string, bool) {
	t.Helper()
	if err == nil {
		return stdout, true
	}
	for _, reason := range []string{
		"invalid CIDR: ", "invalid network address: ", "prefix length needs to be 1-25",
		"CIDR needs to be a network address",
	} {
		if strings.Contains(stderr, reason) {
			return "", false
		}
	}
	t.Fatalf("slirp4netns --cidr=%q failed for another reason: %v\n%s", cidr, err, stderr)
	return "", false
}

func bessOracle(t *testing.T, path string) oracle {
	exit := hungUp(t)
	// Not t.TempDir: a socket's path must be short, and names of tests are long.
	dir, err := os.MkdirTemp("", "subnet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	return func(t *testing.T, cidr string) (string, bool) {
		os.Remove(socket)
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		cmd, stdout, stderr := slirp4netns(ctx, path, exit, "--target-type=bess", "--cidr="+cidr, socket)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		connected := make(chan net.Conn, 1)
		go func() {
			defer close(connected)
			for ctx.Err() == nil {
				// It listens if it accepts the CIDR, and otherwise exits, which ends this loop too.
				if c, err := net.Dial("unixpacket", socket); err == nil {
					connected <- c
					return
				}
				time.Sleep(500 * time.Microsecond)
			}
		}()
		err := cmd.Wait()
		cancel()
		if c := <-connected; c != nil {
			c.Close()
		}
		return verdict(t, cidr, stdout.String(), stderr.String(), err)
	}
}

func tapOracle(t *testing.T, path string) oracle {
	pid := newNamespace(t)
	exit := hungUp(t)
	return func(t *testing.T, cidr string) (string, bool) {
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		cmd, stdout, stderr := slirp4netns(ctx, path, exit, "--cidr="+cidr, strconv.Itoa(pid), "tap0")
		err := cmd.Run()
		return verdict(t, cidr, stdout.String(), stderr.String(), err)
	}
}

// newNamespace returns the PID of a process that holds a user and network namespace until the
// test ends.
func newNamespace(t *testing.T) int {
	t.Helper()
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		lacking(t, "a tap can't be made: %v", err)
	}
	tun.Close()
	cmd := exec.Command("cat") // ends at the end of its input
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		stdin.Close()
		lacking(t, "a user namespace can't be made: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the holder of the namespace: %v", err)
		}
	})
	return cmd.Process.Pid
}

var printedLine = regexp.MustCompile(`(?m)^\* ([A-Za-z ]+): +(\S+)$`)

// compare asks both about cidr, and returns whether slirp4netns accepts it.
func compare(t *testing.T, o oracle, cidr string) bool {
	t.Helper()
	n, err := subnet.Parse(cidr)
	stdout, ok := o(t, cidr)
	p, zeroPadded, _ := accepted(cidr)
	switch {
	case !ok && err == nil:
		t.Errorf("%q: slirp4netns refuses it, Parse gives %v", cidr, n)
		return false
	case !ok:
		return false
	case err != nil && (zeroPadded || p.IsValid() && refusedOnPurpose(p)):
		return true // the intended differences
	case err != nil:
		t.Errorf("%q: slirp4netns accepts it, Parse says: %v", cidr, err)
		return true
	}
	printed := map[string]string{}
	for _, m := range printedLine.FindAllStringSubmatch(stdout, -1) {
		printed[m[1]] = m[2]
	}
	for name, want := range map[string]netip.Addr{
		"Network": n.CIDR().Addr(), "Netmask": n.Netmask(), "Gateway": n.Gateway(), "DNS": n.DNS(),
		"DHCP begin": n.DHCPBegin(), "DHCP end": n.DHCPEnd(), "Recommended IP": n.Guest(),
	} {
		if got := printed[name]; got != want.String() {
			t.Errorf("%s: %s: slirp4netns prints %q, we say %s", cidr, name, got, want)
		}
	}
	return true
}

// TestAgainstSlirp4netns compares Parse and the addresses with the installed binary for more than
// 500 networks. It runs as root and as an ordinary user; see oracle for its requirements.
func TestAgainstSlirp4netns(t *testing.T) {
	path, help := findSlirp4netns(t)
	ask := tapOracle
	if strings.Contains(help, "--target-type=") {
		ask = bessOracle
	}
	o := ask(t, path)
	corpus := corpus()
	if len(corpus) < 500 {
		t.Fatalf("only %d networks", len(corpus))
	}
	good := 0
	for _, cidr := range corpus {
		if compare(t, o, cidr) {
			good++
		}
	}
	t.Logf("%d networks, %d of them accepted", len(corpus), good)
	if good < 100 || good > len(corpus)-100 {
		t.Errorf("%d of %d accepted: the corpus is lopsided", good, len(corpus))
	}
}

// TestAgainstSlirp4netnsTap checks a few networks with a real tap, to show that the faster way
// above gives the same results. It needs a /dev/net/tun that can be opened.
func TestAgainstSlirp4netnsTap(t *testing.T) {
	path, _ := findSlirp4netns(t)
	o := tapOracle(t, path)
	for _, cidr := range []string{
		"10.0.2.0/24", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/08", "224.0.0.0/4", "255.255.255.128/25",
		"10.0.2.0/26", "10.0.2.100/24", "010.0.2.0/24", "10.0.2.0", "fd00::/64", "",
	} {
		compare(t, o, cidr)
	}
}

// TestGuest6AgainstSlirp4netns compares with the address that the kernel gives the tap when
// slirp4netns advertises its prefix. It needs a /dev/net/tun that can be opened, and IPv6.
func TestGuest6AgainstSlirp4netns(t *testing.T) {
	path, help := findSlirp4netns(t)
	if !strings.Contains(help, "--macaddress=") {
		lacking(t, "this slirp4netns has no --macaddress")
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		lacking(t, "this host has no IPv6: %v", err)
	}
	pid := newNamespace(t)
	mac := net.HardwareAddr{0x52, 0x54, 0x00, 0xab, 0xcd, 0xef}
	want := netip.MustParseAddr("fd00::5054:ff:feab:cdef") // the modified EUI-64 of mac
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd, _, stderr := slirp4netns(ctx, path, r, "--configure", "--enable-ipv6", "--macaddress="+mac.String(),
		strconv.Itoa(pid), "tap0")
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	waited := false
	defer func() {
		w.Close() // hangs up the exit fd
		if !waited {
			if err := <-gone; err != nil {
				t.Errorf("slirp4netns: %v\n%s", err, stderr)
			}
		}
	}()

	var addrs []netip.Addr
	for !slices.ContainsFunc(addrs, subnet.CIDR6().Contains) {
		select {
		case err := <-gone:
			waited = true
			t.Fatalf("slirp4netns ended: %v\n%s", err, stderr)
		case <-time.After(10 * time.Millisecond):
		}
		if addrs, err = inet6Addrs(pid, "tap0"); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Contains(addrs, want) {
		t.Errorf("the tap has %v, we say %s", addrs, want)
	}
}

// inet6Addrs lists the IPv6 addresses of an interface in the network namespace of a process.
func inet6Addrs(pid int, name string) ([]netip.Addr, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/if_inet6", pid))
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 6 || len(f[0]) != 32 {
			return nil, errors.New("unknown line in if_inet6: " + line)
		}
		if f[5] != name {
			continue
		}
		b, err := hex.DecodeString(f[0])
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, netip.AddrFrom16([16]byte(b)))
	}
	return addrs, nil
}
