package nsexec

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespaces starts a process in user and network namespaces of its own, and opens both.
func inNamespaces(t *testing.T) (userns, netns *os.File) {
	t.Helper()
	target := exec.Command("sleep", "1000")
	target.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = target.Process.Kill()
		_ = target.Wait()
	})
	open := func(ns string) *os.File {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", target.Process.Pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return open("user"), open("net")
}

func TestOpenTap(t *testing.T) {
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("this test needs /dev/net/tun: %v", err)
	}
	userns, netns := inNamespaces(t)
	inside := func(script string) string {
		t.Helper()
		out, _ := output(t, Cmd{JoinUser: userns, JoinNet: netns, Env: []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}}, script+" 2>&1")
		return out
	}
	before := openFDs(t)
	tap := Tap{
		Name: "tap7", MTU: 9000, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7},
		Address: netip.MustParsePrefix("10.9.8.100/24"), Gateway: netip.MustParseAddr("10.9.8.2"),
	}
	f, err := OpenTap(userns, netns, tap)
	if err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("it stays open in programs: %v", err)
	}
	got := inside("ip -br addr; ip link show tap7; ip route")
	for _, want := range []string{"10.9.8.100/24", "02:00:00:00:00:07", "mtu 9000", "default via 10.9.8.2 dev tap7", "10.9.8.0/24 dev tap7", "127.0.0.1/8"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if !strings.Contains(got, ",UP") {
		t.Errorf("it is down: %s", got)
	}
	// Nobody else gets hold of it, and its name is taken.
	for name, attach := range map[string]string{"plain": "", "with queues": "multi_queue"} {
		if out := inside("ip tuntap add dev tap7 mode tap " + attach + " && echo attached"); strings.Contains(out, "attached") {
			t.Errorf("%s: %s", name, out)
		}
	}
	for _, name := range []string{"tap7", "lo"} {
		again := tap
		again.Name = name
		if g, err := OpenTap(userns, netns, again); !errors.Is(err, unix.EBUSY) && !(name == "lo" && err != nil) {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
	if got := inside("ip -br addr show tap7"); !strings.Contains(got, "10.9.8.100/24") {
		t.Errorf("the second one has changed the first: %s", got)
	}
	f.Close()
	if got := inside("ip link"); strings.Contains(got, "tap7") {
		t.Errorf("it outlives its descriptor: %s", got)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	// Errors name what failed.
	for name, tap := range map[string]Tap{
		"long name": {Name: "a-name-of-sixteen", MTU: 1500, Address: tap.Address},
		"MTU":       {Name: "tap8", MTU: 1 << 20, Address: tap.Address},
		"IPv6":      {Name: "tap8", MTU: 1500, Address: netip.MustParsePrefix("fd00::1/64")},
		"gateway":   {Name: "tap8", MTU: 1500, Address: tap.Address, Gateway: netip.MustParseAddr("192.0.2.1")},
	} {
		if f, err := OpenTap(userns, netns, tap); err == nil {
			t.Errorf("%s: %v", name, f)
		}
	}
	if got := inside("ip link"); strings.Contains(got, "tap8") {
		t.Errorf("a tap that was not made is there: %s", got)
	}
}
