package launcher

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestLoopbackBan runs the filter in the kernel, on a socket that frames are sent to as datagrams.
func TestLoopbackBan(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	raw, err := bpf.Assemble(NewLoopbackBan())
	if err != nil {
		t.Fatal(err)
	}
	prog := unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}
	if err := unix.SetsockoptSockFprog(pair[1], unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		t.Fatal(err)
	}
	const macs = "52550a000202020000000064"
	to := func(addr string) string { // a packet to an address
		a := netip.MustParseAddr(addr)
		if a.Is4() {
			return macs + "0800" + strings.Repeat("45", 16) + hex.EncodeToString(a.AsSlice())
		}
		return macs + "86dd" + strings.Repeat("60", 24) + hex.EncodeToString(a.AsSlice())
	}
	for frame, want := range map[string]bool{
		to("10.0.2.2"): true, to("10.0.2.3"): true, to("198.51.100.7"): true, to("255.255.255.255"): true, to("224.0.0.1"): true,
		to("1.0.0.0"): true, to("126.255.255.255"): true, to("128.0.0.1"): true, to("192.168.1.1"): true,
		to("127.0.0.1"): false, to("127.255.255.255"): false, to("0.0.0.0"): false, to("0.255.255.255"): false,
		to("fd00::2"): true, to("fe80::2"): true, to("ff02::1"): true, to("2001:db8::1"): true, to("::1:0:0:1"): true, to("::1:0:1"): true,
		to("64:ff9b::7f00:1"): true, to("::ffff:0:7f00:1"): true, to("0:0:0:1::1"): true, to("::fffe:127.0.0.1"): true,
		to("::1"): false, to("::"): false, to("::2"): false, to("::127.0.0.1"): false, to("::ffff:127.0.0.1"): false,
		to("::ffff:192.0.2.1"): false, to("::ffff:0.0.0.0"): false,
		macs + "0806" + strings.Repeat("00", 28):                     true, // ARP
		macs + "8100000508004500" + strings.Repeat("00", 40):         false,
		macs + "88a800058100000508004500" + strings.Repeat("00", 40): false,
		macs + "88f8" + strings.Repeat("00", 40):                     false, // NC-SI
		macs + "8035" + strings.Repeat("00", 40):                     false, // RARP
		macs + "0064" + strings.Repeat("00", 40):                     false, // 802.3 with a length
		to("10.0.2.2")[:60]:                                          false, to("fd00::2")[:100]: true, to("fd00::2")[:80]: false, macs: false, macs + "08": false, macs + "0800": false, "00": false,
	} {
		b, err := hex.DecodeString(frame)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Send(pair[0], b, 0); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(pair[1], make([]byte, 200), unix.MSG_DONTWAIT)
		if got := err == nil && n == len(b); got != want {
			t.Errorf("%s passes: %v", frame, got)
		}
		vm, err := bpf.NewVM(NewLoopbackBan()[3:])
		if err != nil {
			t.Fatal(err)
		}
		if n, err := vm.Run(b); (err == nil && n > 0) != want {
			t.Errorf("%s passes outside the kernel: %d, %v", frame, n, err)
		}
	}
}

// readyChild starts a shell in a process group of its own, with a filled ready pipe as descriptor 3. Its standard output
// comes from beyond.
func readyChild(t *testing.T, script string, more ...*os.File) (p *Process, ready, beyond *os.File, filled int) {
	t.Helper()
	pipe := func() (r, w *os.File) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close() })
		return r, w
	}
	ready, readyW := pipe()
	beyond, out := pipe()
	filled, err := fill(readyW)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.ExtraFiles = append([]*os.File{readyW}, more...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	readyW.Close()
	out.Close()
	p = &Process{cmd: cmd}
	t.Cleanup(func() { _ = p.Signal(syscall.SIGKILL); _ = cmd.Wait() })
	return p, ready, beyond, filled
}

func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen: " + what)
		}
	}
}

// goesOn continues a process that was stopped at ready, which must not have got further until then.
func goesOn(t *testing.T, p *Process, ready, beyond *os.File) {
	t.Helper()
	waitFor(t, "it is stopped", p.allStopped)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(beyond.Fd()), Events: unix.POLLIN}}, 0); n != 0 {
		t.Errorf("it went on before it was continued: %v", err)
	}
	cancelStop(ready)
	_ = p.Signal(syscall.SIGCONT)
	if got, err := io.ReadAll(beyond); string(got) != "beyond\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestStopAtReadyLate: who is ready long before this process gets to stopping it doesn't get beyond that.
func TestStopAtReadyLate(t *testing.T) {
	p, ready, beyond, filled := readyChild(t, "printf 1 >&3; echo beyond")
	waitFor(t, "it writes", func() bool {
		call, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.PID()))
		return strings.HasPrefix(string(call), fmt.Sprintf("%d 0x1 ", unix.SYS_WRITE))
	})
	if err := stopAtReady(ready, p.PID()); err != nil {
		t.Fatal(err)
	}
	if err := makeRoom(ready, filled); err != nil {
		t.Fatal(err)
	}
	if !p.readReady(ready, true) {
		t.Fatal("it is not ready")
	}
	goesOn(t, p, ready, beyond)
}

// TestStopAtReadyEarly: who is stopped before it has written, because the pipe was full, is continued to write.
func TestStopAtReadyEarly(t *testing.T) {
	r, gate, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	p, ready, beyond, filled := readyChild(t, "read x <&4; printf 1 >&3; echo beyond", r)
	r.Close()
	if err := stopAtReady(ready, p.PID()); err != nil {
		t.Fatal(err)
	}
	if _, err := gate.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is stopped", p.allStopped)
	if err := makeRoom(ready, filled); err != nil {
		t.Fatal(err)
	}
	if !p.readReady(ready, true) {
		t.Fatal("it is not ready")
	}
	goesOn(t, p, ready, beyond)
}

// TestReadyEnds: an end without the byte is no readiness.
func TestReadyEnds(t *testing.T) {
	p, ready, _, filled := readyChild(t, "exit 1")
	if err := stopAtReady(ready, p.PID()); err != nil {
		t.Fatal(err)
	}
	if err := makeRoom(ready, filled); err != nil {
		t.Fatal(err)
	}
	if p.readReady(ready, true) {
		t.Error("it is ready")
	}
}
